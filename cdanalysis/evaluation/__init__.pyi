from .configs import ExperimentConfig, StudyConfig, load_experiment, load_study
from .engine import Case, Point, measure
from .evaluators import Context, Evaluator, new_evaluators
from .experiment import run_experiment
from .folder import evaluate_folder
from .study import run_study

__all__ = [
    "Case",
    "Context",
    "Evaluator",
    "ExperimentConfig",
    "Point",
    "StudyConfig",
    "evaluate_folder",
    "load_experiment",
    "load_study",
    "measure",
    "new_evaluators",
    "run_experiment",
    "run_study",
]
