from .base import Work
from .run import Outcome, Runner, jobs_of, local_runner, run_jobs
from .work import AnalyzeWork, DecodeWork, EncodeWork, InspectWork

__all__ = [
    "AnalyzeWork",
    "DecodeWork",
    "EncodeWork",
    "InspectWork",
    "Outcome",
    "Runner",
    "Work",
    "jobs_of",
    "local_runner",
    "run_jobs",
]
