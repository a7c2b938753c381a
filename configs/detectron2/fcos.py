"""FCOS on latents: a detectron2 LazyConfig. Set ``model.num_classes`` to the data set's."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling.meta_arch.fcos import FCOSHead

from cdanalysis.integrations.detectron2 import LatentBackbone, LatentFCOS

from .common.coco import dataloader
from .common.train import lr_multiplier, optimizer, train

levels = ["p3", "p4", "p5", "p6"]

model = L(LatentFCOS)(
    backbone=L(LatentBackbone)(model="photo", out_channels=256, out_features=levels),
    head=L(FCOSHead)(
        input_shape=[L(ShapeSpec)(channels="${....backbone.out_channels}")] * 4,
        num_classes="${..num_classes}",
        conv_dims=[256, 256, 256, 256],
        prior_prob=0.01,
    ),
    num_classes=80,
    head_in_features=levels,
)
