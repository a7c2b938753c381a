"""RetinaNet on latents: a detectron2 LazyConfig. Set ``model.num_classes`` to the data set's."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.meta_arch.retinanet import RetinaNetHead

from cdanalysis.integrations.detectron2 import LatentBackbone, LatentRetinaNet

from .common.coco import dataloader
from .common.train import lr_multiplier, optimizer, train

levels = ["p3", "p4", "p5", "p6"]

model = L(LatentRetinaNet)(
    backbone=L(LatentBackbone)(model="photo", out_channels=256, out_features=levels),
    head=L(RetinaNetHead)(
        input_shape=[L(ShapeSpec)(channels="${....backbone.out_channels}")] * 4,
        num_classes="${..num_classes}",
        conv_dims=[256, 256, 256, 256],
        prior_prob=0.01,
        num_anchors=9,
    ),
    anchor_generator=L(DefaultAnchorGenerator)(
        sizes=[[s, s * 2 ** (1 / 3), s * 2 ** (2 / 3)] for s in (24, 48, 96, 192)],
        aspect_ratios=[0.5, 1.0, 2.0],
        strides=[8, 16, 32, 64],
        offset=0.0,
    ),
    box2box_transform=L(Box2BoxTransform)(weights=[1.0, 1.0, 1.0, 1.0]),
    anchor_matcher=L(Matcher)(thresholds=[0.4, 0.5], labels=[0, -1, 1], allow_low_quality_matches=True),
    num_classes=80,
    head_in_features=levels,
    focal_loss_alpha=0.25,
    focal_loss_gamma=2.0,
)
