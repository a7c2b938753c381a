from .base import Work
from .index import IndexWork, index_streams
from .run import Outcome, Runner, jobs_of, local_runner, run_jobs
from .work import AnalyzeWork, DecodeWork, EncodeWork, InspectWork

__all__ = [
    "AnalyzeWork",
    "DecodeWork",
    "EncodeWork",
    "IndexWork",
    "InspectWork",
    "Outcome",
    "Runner",
    "Work",
    "index_streams",
    "jobs_of",
    "local_runner",
    "run_jobs",
]
