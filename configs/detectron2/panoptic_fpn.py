"""Panoptic FPN on latents: a detectron2 LazyConfig, Mask R-CNN with a semantic head on the same backbone."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead

from cdanalysis.integrations.detectron2 import LatentPanopticFPN

from .common.coco_panoptic import dataloader
from .common.train import lr_multiplier, optimizer, train
from .mask_rcnn import levels, model, strides

model._target_ = LatentPanopticFPN
model.sem_seg_head = L(SemSegFPNHead)(
    input_shape={
        name: L(ShapeSpec)(channels="${....backbone.out_channels}", stride=stride)
        for name, stride in zip(levels, strides, strict=True)
    },
    num_classes=54,
    conv_dims=128,
    common_stride=4,
    loss_weight=0.5,
    norm="GN",
    ignore_value=255,
)
