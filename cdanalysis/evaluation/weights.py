"""What of a model's weights measurements depend on, so that those are kept which others do not touch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..codec import derived
from ..codecs.base import Codec
from ..codecs.ours import ModelCodec, PreviewCodec, SemanticCodec
from ..files import key_of
from ..model import Model
from ..model_files import tensors_digest

REALISM, PIXELS, SEMANTIC, REST = "realism", "pixel layers", "semantic layers", "rest"
STARTS = {
    REALISM: (derived.REALISM,),
    PIXELS: ("codec.detail.", "codec.synthesis."),
    SEMANTIC: ("codec.global_layer.", "codec.spatial."),
}
"""What the names of the parts' tensors start with; all others are of the rest: teachers, heads, counterparts."""


def parts_of(model: Model) -> dict[str, str]:
    """Digits of a model's weights, part by part; what heads are, and the layers' working sizes, count with the rest.

    Args:
        model: whose weights they are of.

    Returns:
        hexadecimal digits by the names of the parts: ``REALISM``, ``PIXELS``, ``SEMANTIC`` and ``REST``.
    """
    named: dict[str, dict[str, Any]] = {part: {} for part in (*STARTS, REST)}
    for name, tensor in derived.saved_tensors(model).items():
        part = next((part for part, starts in STARTS.items() if name.startswith(starts)), REST)
        named[part][name] = tensor
    digits = {part: tensors_digest(tensors) for part, tensors in named.items()}
    heads = {task: head.describe() for task, head in model.heads.items()}
    digits[REST] = key_of(digits[REST], heads, getattr(model.codec.config, "working_sizes", None))
    return digits


def parts_in(codec: Codec | None) -> tuple[str, ...]:
    """Names of the parts that a codec's files and pictures depend on, beside the rest.

    Args:
        codec: None for photographs as they are.

    Returns:
        some of ``REALISM``, ``PIXELS`` and ``SEMANTIC``; none for another library's codec.
    """
    if not isinstance(codec, ModelCodec):
        return ()
    if isinstance(codec, SemanticCodec) and not isinstance(codec, PreviewCodec):
        return (SEMANTIC,)
    return (SEMANTIC, PIXELS, REALISM) if codec.realism else (SEMANTIC, PIXELS)


def needed(parts: dict[str, str], names: Iterable[str] = ()) -> dict[str, str]:
    """The digits of the rest, and of some other parts.

    Args:
        parts: as `parts_of` gives them.
        names: of the other parts.
    """
    return {part: digits for part, digits in parts.items() if part in (REST, *names)}
