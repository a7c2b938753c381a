"""timm and torchvision without torch's compiler, which they load for a decorator and a question.

It takes 145 MiB, and time whenever a process starts. It is loaded when something is compiled.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import FunctionType, ModuleType
from typing import Any

LIBRARIES = "timm", "torchvision"
COMPILER = "torch._dynamo"
QUESTION = "is_compile_supported"
"""A function of the compiler's ``utils``, which torchvision's `roi_align` asks when it runs."""
DECORATOR = "disable"
"""What timm decorates functions of a few networks with."""


def install() -> None:
    """From now on, the libraries are imported without the compiler; whoever imports them."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        found = PathFinder.find_spec(name, path) if name in LIBRARIES else None
        if found is not None and found.loader is not None:
            found.loader = _Lean(found.loader)
        return found


class _Lean(Loader):
    """Another loader, by which a module is executed without the compiler."""

    def __init__(self, loader: Loader):
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self.loader
        with compiler_later():
            self.loader.exec_module(module)


@contextmanager
def compiler_later() -> Iterator[None]:
    """In here torch's compiler can be imported, but is not loaded before one of its functions is called."""
    if COMPILER in sys.modules:
        yield
        return
    import torch

    stands_in = {name: _StandIn(name) for name in (COMPILER, f"{COMPILER}.utils")}
    stands_in[COMPILER].__path__ = []
    setattr(stands_in[f"{COMPILER}.utils"], QUESTION, _asked)
    sys.modules.update(stands_in)
    real = getattr(torch.compiler, DECORATOR)
    setattr(torch.compiler, DECORATOR, functools.partial(_disabled_later, real))
    try:
        yield
    finally:
        setattr(torch.compiler, DECORATOR, real)
        _leave(stands_in)


class _StandIn(ModuleType):
    """A module in whose place the real one comes as soon as it is asked for anything."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _leave({key: module for key, module in sys.modules.items() if isinstance(module, _StandIn)})
        return getattr(importlib.import_module(self.__name__), name)


def _leave(stands_in: dict[str, _StandIn]) -> None:
    for name, module in stands_in.items():
        if sys.modules.get(name) is module:
            del sys.modules[name]


def _asked(*arguments: Any) -> Any:
    return getattr(importlib.import_module(f"{COMPILER}.utils"), QUESTION)(*arguments)


def _disabled_later(disable: Callable[..., Any], fn: Any = None, *arguments: Any, **settings: Any) -> Any:
    """What `torch.compiler.disable` gives, but it does its work when the function is first called."""
    if fn is None:
        return lambda function: _disabled_later(disable, function, *arguments, **settings)
    if not isinstance(fn, FunctionType):
        return disable(fn, *arguments, **settings)
    made: list[Callable[..., Any]] = []

    @functools.wraps(fn)
    def disabled(*given: Any, **named: Any) -> Any:
        if not made:
            made.append(disable(fn, *arguments, **settings))
        return made[0](*given, **named)

    return disabled
