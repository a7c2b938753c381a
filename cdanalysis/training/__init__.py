"""Training: recipes, the trainer, its stages, the objective, and what heads are trained on.

- `recipe`: `Recipe`, `StageConfig`, `load_recipe`
- `plain`: `plain_recipe`, for one's own classes
- `checks`: `check_recipe`, before the first step
- `trainer`: `Trainer` runs a recipe; `learning_rate`
- `stages`: `CodecStage`, `FeatureStage`, `HeadStage`: batches and loss of one stage
- `objective`: `ObjectiveConfig`: rate, distortion, distillation
- `losses`: `StageLoss`, of a stage that trains the codec
- `distortion`: `WeightedDistortion` of several observers; `ObserverConfig`
- `auxiliary`: `AuxiliaryConfig`, `AuxiliaryLoss`: heads that learn along with the codec
- `head_data`: `HeadConfig`, `Examples`: cached latents with targets
- `head_validation`: `HeadValidation`: scores after each epoch, and the best weights
- `heads`: `HeadLoss`; `CalibrationConfig`, `calibrate`
- `rate_controller`: `RateController` holds a rate
- `averaging`: `WeightAverage`, an exponential moving average
- `validation`: `ValidationConfig`, `validate`: rate and distortion while a stage runs
- `pretrained`: `load_pretrained`, for new models
- `semantic_layers`: the `global` and the `spatial` layer, trained on a teacher's features
- `teacher_features`: `FeatureConfig`: teachers' features of photographs, cached
- `preferences`: `fit_weights` of a perceptual observer to human choices
- `retraining`: `retrained`: RGB heads that learned from another codec's files
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
