"""The shape of a codec, as its file describes it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..structures.latents import working_size


@dataclass
class CodecConfig:
    """Shape of a layered codec.

    A field that is added needs a default that is what the codec was without it: see
    `cdanalysis.codec.derived.hashed_shape`.

    Attributes:
        classifier: teacher of the global layer, by timm's name.
        detector: teacher of the spatial layer, by its name in `cdanalysis.registry.TEACHERS`, or by timm's name of a
            network with features at strides 8, 16 and 32.
        global_size: working size of the global layer: the shorter side in pixels, a multiple of 32.
        global_groups: symbols of each group of the global layer's entropy model; their sum is the layer's channels.
        global_hidden: width of the perceptrons in the global layer's transforms.
        global_context: width of its entropy model.
        spatial_size: working size of the spatial layer: the longer side in pixels, a multiple of 32.
        spatial_channels: latent channels of the spatial layer, a multiple of four.
        spatial_hidden: width of its transforms at stride 16.
        spatial_depth: residual blocks of each.
        spatial_context: width of its entropy model.
        detail_channels: latent channels of the detail layer, an even number.
        hyper_channels: channels of its hyper-latent.
        width: width of its analysis and of the synthesis at stride 8.
        analysis_depth: blocks of the analysis at stride 8.
        synthesis_depth: blocks of the synthesis at stride 8.
        ends: side of the kernels next to pixels and latents, 1 or 3. At 1, blocks alone look around: a third less
            arithmetic for the same pictures (docs/experiments/architecture.md).
        detail_passes: passes of the detail layer's entropy model, 2 or 4.
        fused: whether the detail layer's entropy model and the synthesis see the spatial layer.
        realism: blocks at each stride of the branch that makes decoded images look like photographs; 0 for none.
    """

    classifier: str = "tf_efficientnet_lite0"
    detector: str = "nanodet_plus"
    global_size: int = 224
    global_groups: list[int] = field(default_factory=lambda: [16, 16, 32, 64, 128, 256, 256])
    global_hidden: int = 16
    global_context: int = 160
    spatial_size: int = 480
    spatial_channels: int = 64
    spatial_hidden: int = 192
    spatial_depth: int = 5
    spatial_context: int = 96
    detail_channels: int = 160
    hyper_channels: int = 64
    width: int = 128
    analysis_depth: int = 4
    synthesis_depth: int = 4
    ends: int = 3
    detail_passes: int = 2
    fused: bool = False
    realism: int = 0

    @property
    def working_sizes(self) -> tuple[int, int, int]:
        """Of the layers, as a stream's header has them: the detail layer's is 0."""
        return self.global_size, self.spatial_size, 0

    def working_size(self, height: int, width: int, layers: int, spatial_size: int | None = None) -> tuple[int, int]:
        """The size at which the last of some semantic layers sees a photograph.

        Args:
            height: of the photograph in pixels.
            width: of the photograph in pixels.
            layers: how many semantic layers: 1 for the global layer's size, 2 for the spatial layer's.
            spatial_size: of the spatial layer, instead of the configuration's.

        Returns:
            (height, width) in pixels, multiples of 32.
        """
        if layers == 1:
            return working_size(height, width, shorter=self.global_size)
        return working_size(height, width, longer=self.spatial_size if spatial_size is None else spatial_size)
