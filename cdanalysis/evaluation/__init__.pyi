from .engine import Case, Point, measure
from .evaluators import Context, Evaluator, new_evaluators
from .experiment import run_experiment
from .experiment_config import ExperimentConfig, load_experiment
from .folder import evaluate_folder
from .made_from import begin_from
from .study import run_study
from .study_config import StudyConfig, load_study

__all__ = [
    "Case",
    "Context",
    "Evaluator",
    "ExperimentConfig",
    "Point",
    "StudyConfig",
    "begin_from",
    "evaluate_folder",
    "load_experiment",
    "load_study",
    "measure",
    "new_evaluators",
    "run_experiment",
    "run_study",
]
