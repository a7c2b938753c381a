"""COCO's boxes and masks on streams, for models that learn masks: a detectron2 LazyConfig."""

from .coco import dataloader

dataloader.train.mapper.masks = True
