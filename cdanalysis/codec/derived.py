"""What is computed from weights and kept until they change, and the fingerprint of the weights as they are."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from ..files import json_text
from .shape import CodecConfig

T = TypeVar("T")
WRAPPED = "_orig_mod."
"""What torch.compile puts into the names of a module's tensors."""


class Derived(Generic[T]):
    """A value that is computed from tensors, and computed again when they change.

    It does not travel: copies and pickles of it are empty, so that what holds it can be copied and sent to other
    processes, whatever the value is made of.
    """

    def __init__(self) -> None:
        self._kept: tuple[Any, T, list[Tensor]] | None = None

    def get(self, tensors: Iterable[Tensor], make: Callable[[], T]) -> T:
        """The value for tensors as they are.

        Args:
            tensors: that the value depends on.
            make: computes the value; called the first time, and after a tensor was replaced or changed in place.

        Returns:
            what ``make`` gave for these very tensors.
        """
        tensors, kept = list(tensors), self._kept
        state = [(t.data_ptr(), t.device, t.dtype, 0 if t.is_inference() else t._version) for t in tensors]
        if kept is None or kept[0] != state:
            # The tensors are held, so that no others can come to lie where they lay.
            self._kept = kept = state, make(), [t.detach() for t in tensors]
        return kept[1]

    def forget(self) -> None:
        """Compute the value anew when it is asked for next."""
        self._kept = None

    def __reduce__(self) -> tuple[type[Derived], tuple[()]]:
        return Derived, ()


def forget_derived(module: nn.Module) -> None:
    """Let a module, and all in it, compute anew what they keep of their weights.

    Args:
        module: whose `Derived` values, and those of its parts, are dropped.
    """
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, Derived):
                value.forget()


def checksum(tensors: Iterable[Tensor]) -> Tensor:
    """Numbers that are others when a weight is, even one that was changed behind autograd's back (by ``.data``).

    Args:
        tensors: on one device, some of them of floating point.

    Returns:
        (numbers,) float64, on that device.
    """
    tensors = [t.detach() for t in tensors]
    real = [t for t in tensors if t.is_floating_point()]
    whole = [t.sum(dtype=torch.float64) for t in tensors if not t.is_floating_point()]
    sums = [t.sum() for t in real]  # in single precision, which takes a third of the time and is enough
    return torch.cat([torch.stack(each).double() for each in (sums, torch._foreach_norm(real), whole) if each])


def tensors_of(*modules: nn.Module) -> Iterator[Tensor]:
    """Parameters and buffers of modules and of all in them, without making their names, as `Module.parameters` does.

    Args:
        *modules: to look into.

    Yields:
        the tensors, module by module; one that two modules share, twice.
    """
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        yield from (t for t in (*module._parameters.values(), *module._buffers.values()) if t is not None)
        waiting += [part for part in module._modules.values() if part is not None]


@contextlib.contextmanager
def ordinary_tensors() -> Iterator[None]:
    """In here modules are made as anywhere: on the CPU, in single precision, outside of inference mode."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(before)


def saved_tensors(module: nn.Module) -> dict[str, Tensor]:
    """A module's tensors as files hold them.

    Args:
        module: is not changed.

    Returns:
        by the name that each has in a module that is not compiled: on the CPU, floating point in half precision.
    """
    return {name.replace(WRAPPED, ""): _halved(tensor) for name, tensor in module.state_dict().items()}


def _halved(tensor: Tensor) -> Tensor:
    return (tensor.half() if tensor.is_floating_point() else tensor).contiguous().cpu()


HASHED = frozenset(
    {"classifier", "detector", "global_size", "global_groups", "global_hidden", "global_context", "spatial_size",
     "spatial_channels", "spatial_hidden", "spatial_depth", "spatial_context", "detail_channels", "hyper_channels",
     "width", "analysis_depth", "synthesis_depth", "fused"}
)  # fmt: skip
"""Fields of `CodecConfig` that are hashed whatever their value. Frozen: part of the format, see docs/format.md."""


TEACHERS = ("codec.classifier.", "codec.detector.")
"""What the names of teachers' tensors start with. Streams are read without teachers."""
REALISM = "codec.synthesis.realism"
"""What the names of the tensors start with that add realism to pictures, of which no symbol of a stream knows: a model
may learn it later, and its streams are what they were."""


def hashed_shape(codec: dict[str, Any]) -> dict[str, Any]:
    """What a fingerprint hashes of a codec's shape: ``HASHED``, and later fields that are not at their default.

    So a field may be added without a stream that was written before becoming unreadable. Realism is never hashed.

    Args:
        codec: the fields of `CodecConfig`, or of another codec's description, by name.

    Returns:
        those that are hashed.
    """
    later = {field.name: getattr(CodecConfig(), field.name) for field in fields(CodecConfig)}
    counts = {name: value for name, value in codec.items() if name in HASHED or value != later.get(name)}
    return {name: value for name, value in counts.items() if name != "realism"}


def fingerprint(tensors: dict[str, Tensor], codec: dict[str, Any]) -> str:
    """The fingerprint of a codec's shape and weights, as saved; heads, teachers and realism do not count.

    Streams carry it, so that they are never read with other weights than they were written with.

    Args:
        tensors: of the model, by name, on the CPU; those whose names begin with ``codec.`` count.
        codec: the codec's shape, see `hashed_shape`.

    Returns:
        six hexadecimal digits.
    """
    digest = hashlib.sha256(json_text(hashed_shape(codec), sort_keys=True).encode())
    for name in sorted(n for n in tensors if n.startswith("codec.") and not n.startswith((*TEACHERS, REALISM))):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:6]


def fingerprint_of(codec: nn.Module, shape: dict[str, Any]) -> str:
    """The fingerprint of a codec's weights as they are: that of its file, if a file would hold just these weights.

    Args:
        codec: the module, without a prefix in the names of its tensors.
        shape: of the codec, see `hashed_shape`.

    Returns:
        six hexadecimal digits.
    """
    named = {f"codec.{name.replace(WRAPPED, '')}": tensor for name, tensor in codec.state_dict().items()}
    whole = {name: tensor.cpu() for name, tensor in named.items() if not name.startswith(TEACHERS)}
    tensors = {name: _halved(tensor) for name, tensor in whole.items()}
    if not all(torch.equal(tensors[name].to(tensor.dtype), tensor) for name, tensor in whole.items()):
        # As they are; but numpy, which makes bytes of them, knows no bfloat16.
        tensors = {n: t.float() if t.dtype == torch.bfloat16 else t for n, t in whole.items()}
    return fingerprint(tensors, shape)
