"""Semantic FPN on latents: a detectron2 LazyConfig. Set ``model.sem_seg_head.num_classes`` to the data set's."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead

from cdanalysis.integrations.detectron2 import LatentBackbone, LatentSemanticSegmentor

from .common.coco_stuff import dataloader
from .common.train import lr_multiplier, optimizer, train

levels = {"p2": 4, "p3": 8, "p4": 16, "p5": 32}

model = L(LatentSemanticSegmentor)(
    backbone=L(LatentBackbone)(model="photo", out_channels=128, out_features=list(levels)),
    sem_seg_head=L(SemSegFPNHead)(
        input_shape={
            name: L(ShapeSpec)(channels="${....backbone.out_channels}", stride=stride)
            for name, stride in levels.items()
        },
        num_classes=54,
        conv_dims=128,
        common_stride=4,
        loss_weight=1.0,
        norm="GN",
        ignore_value=255,
    ),
)
