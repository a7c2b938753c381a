"""The shape of a codec, as its file describes it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class CodecConfig:
    """Shape of a layered codec; ``fused`` says whether the fusion decoder sees the semantic layer.

    A field that is added needs a default that is what the codec was without it: see
    `cdanalysis.codec.derived.hashed_shape`.
    """

    backbone: str = "tf_efficientnet_lite0"
    semantic_channels: int = 24
    semantic_hidden: int = 128
    detail_channels: int = 160
    hyper_channels: int = 64
    width: int = 128
    analysis_depth: int = 4
    synthesis_depth: int = 4
    fused: bool = True
