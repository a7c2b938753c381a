from .auxiliary import AuxiliaryConfig, AuxiliaryLoss
from .averaging import WeightAverage
from .checks import check_recipe
from .distortion import ObserverConfig, WeightedDistortion
from .head_data import Examples, HeadConfig
from .head_validation import HeadValidation
from .heads import CalibrationConfig, HeadLoss, calibrate
from .losses import StageLoss
from .objective import ObjectiveConfig
from .plain import plain_recipe
from .preferences import fit_weights
from .pretrained import load_pretrained
from .rate_controller import RateController
from .recipe import Recipe, StageConfig, load_recipe
from .retraining import retrained
from .stages import CodecStage, FeatureStage, HeadStage
from .teacher_features import FeatureConfig
from .trainer import Trainer, learning_rate
from .validation import ValidationConfig, validate

__all__ = [
    "AuxiliaryConfig",
    "AuxiliaryLoss",
    "CalibrationConfig",
    "CodecStage",
    "Examples",
    "FeatureConfig",
    "FeatureStage",
    "HeadConfig",
    "HeadLoss",
    "HeadStage",
    "HeadValidation",
    "ObjectiveConfig",
    "ObserverConfig",
    "RateController",
    "Recipe",
    "StageConfig",
    "StageLoss",
    "Trainer",
    "ValidationConfig",
    "WeightAverage",
    "WeightedDistortion",
    "calibrate",
    "check_recipe",
    "fit_weights",
    "learning_rate",
    "load_pretrained",
    "load_recipe",
    "plain_recipe",
    "retrained",
    "validate",
]
