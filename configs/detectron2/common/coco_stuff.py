"""COCO's stuff classes on streams, all things in one: a detectron2 LazyConfig.

The label pictures are those that detectron2's ``datasets/prepare_panoptic_fpn.py`` makes.
"""

from detectron2.config import LazyCall as L
from detectron2.evaluation import SemSegEvaluator

from .coco import dataloader

dataloader.train.dataset.update(names="coco_2017_train_panoptic_stuffonly", filter_empty=False)
dataloader.test.dataset.names = "coco_2017_val_panoptic_stuffonly"
dataloader.evaluator = L(SemSegEvaluator)(dataset_name="${..test.dataset.names}")
