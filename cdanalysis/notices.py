"""Notices: what a user should know about an input that could be read, but perhaps not as its owner meant it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class InputWarning(UserWarning):
    """An input was read, but something about it was ignored, guessed or changed."""


def notice(text: str) -> None:
    """Warn the user, who sees the same text once, by Python's ``warnings``."""
    warnings.warn(text, InputWarning, stacklevel=3)


@contextmanager
def collected() -> Iterator[list[str]]:
    """Within the block, notices go into the list that it gives, each once; other warnings are shown as ever."""
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InputWarning)
        try:
            yield texts
        finally:
            texts += dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, InputWarning))
    for w in caught:
        if not issubclass(w.category, InputWarning):
            warnings.warn_explicit(w.message, w.category, w.filename, w.lineno)


@contextmanager
def shown(show: Callable[[str], None]) -> Iterator[None]:
    """Within the block, notices are shown by ``show``, each text once; other warnings as ever."""
    said: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("always", InputWarning)  # Python's own memory of them ends when a library sets filters
        before = warnings.showwarning

        def showwarning(message, category, *more, **named) -> None:
            if not issubclass(category, InputWarning):
                before(message, category, *more, **named)
            elif str(message) not in said:
                said.add(str(message))
                show(str(message))

        warnings.showwarning = showwarning
        yield
