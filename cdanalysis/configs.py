"""YAML files to dataclasses: what does not fit is refused by one sentence that names the key."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, TypeVar, Union, cast

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .faults import one_line

T = TypeVar("T")
KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}


def read_mapping(path: str | Path, what: str) -> DictConfig:
    """The mapping that a YAML file holds.

    Args:
        what: the file is to be, for messages: "recipe", say.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no YAML, or holds no mapping.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no {what} at {path}")
    try:
        tree = OmegaConf.load(path)
    except Exception as error:  # YAML's errors, OmegaConf's, and those of reading bytes as text share no base class
        raise ValueError(f"{path} is damaged, or no YAML: {one_line(error)}") from None
    if not isinstance(tree, DictConfig):
        raise ValueError(f"{path} holds no mapping")
    return tree


def words_of(overrides: Iterable[str], where: str) -> DictConfig:
    """``key=value`` words as a tree.

    Raises:
        ValueError: if a word is none.
    """
    words = list(overrides)
    for word in words:
        key, equals, _ = word.partition("=")
        if not key.strip() or not equals:
            raise ValueError(f"{where}: {word!r} changes nothing: write key=value")
    try:
        return OmegaConf.from_dotlist(words)
    except Exception as error:  # as above
        raise ValueError(f"{where}: {' '.join(words)}: {one_line(error)}") from None


def take_preset(tree: DictConfig, name: Any, where: str) -> DictConfig:
    """Take the presets out of a file's tree; gives the one of that name, or an empty one for no name.

    Raises:
        ValueError: if there is no such preset, or presets are no mappings.
    """
    presets = tree.pop("presets", None) if "presets" in tree else OmegaConf.create({})
    if not isinstance(presets, DictConfig):
        raise ValueError(f"{where}: presets must be a mapping of names to changes, got {presets!r}")
    for key, preset in presets.items():
        if not isinstance(preset, DictConfig):
            raise ValueError(f"{where}: {_below('presets', key)} must be a mapping, got {preset!r}")
    if name == "":
        return OmegaConf.create({})
    if isinstance(name, (DictConfig, ListConfig)) or name is None:
        raise ValueError(f"{where}: preset must be a word, got {name!r}")
    if name not in presets:
        raise ValueError(f"{where} has no preset {name!r}; it has: {', '.join(sorted(map(str, presets))) or 'none'}")
    return presets[name]


def read_config(path: str | Path, what: str, overrides: Iterable[str] = ()) -> tuple[DictConfig, ...]:
    """A file's tree without its presets; the preset that the file or a word ``preset=NAME`` picks; and ``key=value``
    words as a tree.

    Raises:
        FileNotFoundError, ValueError: as `read_mapping`, `words_of` and `take_preset` do.
    """
    tree, words = read_mapping(path, what), words_of(overrides, str(path))
    return tree, take_preset(tree, words.get("preset", tree.get("preset", "")), str(path)), words


def merged(where: str, *trees: Any) -> DictConfig:
    """Trees, one over the other.

    Raises:
        ValueError: if one has a mapping where another has a list.
    """
    try:
        return cast(DictConfig, OmegaConf.merge(*trees))
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        raise ValueError(f"{where}: {_keys(trees[-1])}: {one_line(error)}") from None


def made(schema: type[T], tree: DictConfig, where: str) -> T:
    """A dataclass of what a tree says.

    Raises:
        ValueError: for a key that it does not have (the message names the nearest one that it has), a value of another
            kind than its field's, or a field that is missing.
    """
    try:
        content = OmegaConf.to_container(tree, resolve=True)
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        raise ValueError(f"{where}: {one_line(error)}") from None
    return _fitted(schema, content, where, "")


def check_known(where: str, what: str, names: Iterable[str], known: Collection[str]) -> None:
    """Raises `ValueError` for a name that is none of the known ones; the message names the nearest of these."""
    for name in names:
        if name not in known:
            raise ValueError(f"{where}: unknown {what} {name!r}; {nearest(name, list(known))}")


def nearest(word: object, known: Iterable[str]) -> str:
    """The end of a sentence about a word that is not known."""
    close = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.0)
    return f"the nearest known one is {close[0]!r}" if close else "there are none"


def _keys(tree: Any) -> str:
    return ", ".join(map(str, tree)) if isinstance(tree, (dict, DictConfig)) else repr(tree)


def _fitted(kind: Any, value: Any, where: str, key: str) -> Any:
    """A value as its field's type wants it; ``key`` is its place in the file."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        return None if value is None else _fitted(next(a for a in arguments if a is not type(None)), value, where, key)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, where, key)
    if origin is list:
        if not isinstance(value, list):
            raise ValueError(f"{where}: {key} must be a list, got {value!r}")
        return [_fitted(arguments[0], item, where, f"{key}[{number}]") for number, item in enumerate(value)]
    if origin is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{where}: {key} must be a mapping, got {value!r}")
        return {str(name): _fitted(arguments[1], item, where, _below(key, name)) for name, item in value.items()}
    return _scalar(kind, value, where, key)


def _dataclass(kind: Any, value: Any, where: str, key: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: {key} must be a mapping, got {value!r}")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    hints, given = typing.get_type_hints(kind), {}
    for name, item in value.items():
        if name not in fields:
            raise ValueError(f"{where}: unknown key {_below(key, name)!r}; {nearest(name, list(fields))}")
        given[name] = _fitted(hints[name], item, where, _below(key, name))
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if name not in given and (required or field.default == "???"):
            raise ValueError(f"{where}: {_below(key, name)} is missing")
    return kind(**given)


def _scalar(kind: Any, value: Any, where: str, key: str) -> Any:
    """A number, a word or a truth; YAML and the command line write some of them as others."""
    fits = {
        int: lambda: isinstance(value, int) and not isinstance(value, bool),
        float: lambda: isinstance(value, (int, float)) and not isinstance(value, bool),
        bool: lambda: isinstance(value, bool),
        str: lambda: isinstance(value, (str, int, float, bool)),
    }
    if not fits[kind]() or value == "???":
        raise ValueError(f"{where}: {key} must be {KINDS[kind]}, got {value!r}")
    return str(value) if kind is str else kind(value)


def _below(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)
