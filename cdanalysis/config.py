"""The YAML files of recipes, studies and experiments: a tree of keys, its presets, and words that change it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf

T = TypeVar("T")


def read_config(path: str | Path, overrides: Sequence[str], what: str) -> tuple[DictConfig, DictConfig, DictConfig]:
    """The tree that a file holds, the changes of its preset, and those of ``key=value`` words.

    The preset is the one that ``preset=NAME`` picks, or the tree's own ``preset``; its name stays among the keys.

    Args:
        what: what the file describes, for messages.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds no mapping, or has no such preset.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no {what} at {path}")
    try:
        tree, words = OmegaConf.load(path), OmegaConf.from_dotlist(list(overrides))
    except Exception as error:  # YAML's own errors share no base class with OmegaConf's
        raise ValueError(f"{path}: {str(error).splitlines()[0]}") from None
    if not isinstance(tree, DictConfig):
        raise ValueError(f"{path} holds no mapping")
    presets = tree.pop("presets", {})
    preset = words.get("preset", tree.get("preset", ""))
    if preset and preset not in presets:
        raise ValueError(f"{path} has no preset {preset!r}; it has: {', '.join(sorted(presets)) or 'none'}")
    return tree, presets[preset] if preset else OmegaConf.create({}), words


def merged(schema: type[T], where: str | Path, *trees: DictConfig | dict[str, Any]) -> T:
    """The dataclass that trees describe, each changed by those after it.

    Raises:
        ValueError: for an unknown key or a bad value; the message says ``where``.
    """
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), *trees))
    except Exception as error:
        raise ValueError(f"{where}: {str(error).splitlines()[0]}") from None
