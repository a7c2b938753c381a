"""COCO's boxes and masks on streams: a detectron2 LazyConfig of dataloaders and an evaluator.

The streams are beside the photographs, or in the folder ``dataloader.train.mapper.streams`` (``test`` likewise). For
data of your own, register it with detectron2 and set ``dataloader.train.dataset.names`` and ``test``'s.
"""

from detectron2.config import LazyCall as L
from detectron2.data import (
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.evaluation import COCOEvaluator
from omegaconf import OmegaConf

from cdanalysis.integrations.detectron2 import LatentMapper

dataloader = OmegaConf.create()
dataloader.train = L(build_detection_train_loader)(
    dataset=L(get_detection_dataset_dicts)(names="coco_2017_train"),
    mapper=L(LatentMapper)(model="${model.backbone.model}", is_train=True, streams=None, masks=False),
    total_batch_size=16,
    num_workers=4,
)
dataloader.test = L(build_detection_test_loader)(
    dataset=L(get_detection_dataset_dicts)(names="coco_2017_val", filter_empty=False),
    mapper=L(LatentMapper)(model="${model.backbone.model}", is_train=False, streams=None),
    num_workers=4,
)
dataloader.evaluator = L(COCOEvaluator)(dataset_name="${..test.dataset.names}")
