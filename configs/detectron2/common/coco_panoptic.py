"""COCO's boxes, masks and stuff classes on streams: a detectron2 LazyConfig.

Boxes, masks and stuff are measured. Panoptic quality needs the package panopticapi, which is on no index: where it is
installed, append detectron2's ``COCOPanopticEvaluator`` to ``dataloader.evaluator``.
"""

from detectron2.config import LazyCall as L
from detectron2.evaluation import COCOEvaluator, SemSegEvaluator

from .coco_masks import dataloader

dataloader.train.dataset.update(names="coco_2017_train_panoptic_separated", filter_empty=False)
dataloader.test.dataset.names = "coco_2017_val_panoptic_separated"
dataloader.evaluator = [
    L(COCOEvaluator)(dataset_name="${...test.dataset.names}"),
    L(SemSegEvaluator)(dataset_name="${...test.dataset.names}"),
]
