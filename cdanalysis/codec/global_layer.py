"""The global layer: *what* a photograph shows, as a classifier's pooled embedding.

A frozen, pre-trained classifier (the layer's *teacher*) looks at the photograph reduced to a working size; its pooled
embedding is one vector, and so are its symbols. They start as principal components in the metric of the classifier's
own weights, because differences that change no logit need not be kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from .entropy.vector import VectorModel
from .gains import Gains


class Residual(nn.Module):
    """A perceptron of one hidden layer beside the identity, silent at the start.

    Args:
        width: channels C of input and output.
        hidden: width of the hidden layer.
    """

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.branch = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        nn.init.zeros_(self.branch[2].weight)
        nn.init.zeros_(self.branch[2].bias)

    def forward(self, x: Tensor) -> Tensor:
        """The input, and what the perceptron adds to it.

        Args:
            x: (N, C).

        Returns:
            (N, C).
        """
        return x + self.branch(x)


class GlobalLayer(nn.Module):
    """An embedding to integer symbols and back.

    Args:
        embedding: numbers of the embedding.
        groups: how many symbols each group of the entropy model has; their sum is the layer's channels.
        hidden: width of the transforms' perceptrons.
        context: width of the entropy model.
    """

    def __init__(self, embedding: int, groups: Sequence[int], hidden: int = 512, context: int = 128):
        super().__init__()
        self.channels = sum(groups)
        self.g_a = nn.Sequential(nn.Linear(embedding, self.channels), Residual(self.channels, hidden))
        self.g_s = nn.Sequential(Residual(self.channels, hidden), nn.Linear(self.channels, embedding))
        self.gain, self.inverse_gain = Gains(self.channels, -1.5, 0.5), Gains(self.channels, 1.5, -0.5)
        self.context = VectorModel(groups, context)

    def forward(self, embedding: Tensor, quality: Tensor, noisy: bool = True) -> tuple[Tensor, Tensor]:
        """Differentiable coding.

        Args:
            embedding: (N, E).
            quality: (N, 1, 1, 1) in [0, 1].
            noisy: see `VectorModel.forward`.

        Returns:
            y_hat in steps and its bits, both (N, C, 1, 1).
        """
        y = self.g_a(embedding)[..., None, None].float() * self.gain(quality)
        with torch.autocast(y.device.type, enabled=False):
            return self.context(y, quality, noisy)

    def dequantize(self, y_hat: Tensor, quality: Tensor) -> Tensor:
        """Undo the gain.

        Args:
            y_hat: latents in steps, (N, C, 1, 1).
            quality: (N, 1, 1, 1) in [0, 1].

        Returns:
            (N, C, 1, 1).
        """
        return y_hat * self.inverse_gain(quality)

    @property
    def decoder(self) -> tuple[Tensor, Tensor]:
        """Weight (E, C) and bias (E,) of the synthesis' last layer, which is linear."""
        last = cast(nn.Linear, self.g_s[1])
        return last.weight, last.bias

    def decoder_inputs(self, latents: Tensor) -> Tensor:
        """What the synthesis' last layer makes embeddings of.

        Args:
            latents: dequantized, (N, C).

        Returns:
            (N, C).
        """
        return self.g_s[0](latents)

    def embedding(self, latents: Tensor) -> Tensor:
        """The embedding that latents hold.

        Args:
            latents: dequantized, (N, C, 1, 1).

        Returns:
            (N, E).
        """
        return self.g_s(latents.flatten(1))
