"""What is done to one file, whatever it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from ..outputs import Origin

STREAMS = frozenset({".cda"})


class Work:
    """Done to one file. A frozen dataclass, which can be pickled.

    Attributes:
        writes: suffix of what it writes into a folder of results.
        writes_beside: suffix of what it writes beside its source.
        columns: of the rows, what a table shows.
        tells_others: whether the user should know of files in a folder that it is not for.
    """

    writes: ClassVar[str]
    writes_beside: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]
    tells_others: ClassVar[bool] = False

    @property
    def reads(self) -> frozenset[str]:
        """Suffixes of the files in a folder that it is for."""
        return STREAMS

    def __call__(self, source: str, target: str, origin: Origin) -> dict[str, Any]:
        """Do it, write ``target`` whole or not at all, and give a row of plain data.

        Args:
            origin: what results are written with.

        Raises:
            ValueError, FileNotFoundError: where the file is not what it must be; the sentence goes to the user.
        """
        raise NotImplementedError

    def done(self, source: str, target: str) -> dict[str, Any] | None:
        """The row of a job whose target is there and what it should be; None if it must be done all the same."""
        raise NotImplementedError

    def check(self) -> None:
        """Find, before the first file, what would be wrong with every one.

        Raises:
            ValueError, FileNotFoundError: for that.
        """

    def prepare(self) -> None:
        """What must be there before the first file: the model. Raises what would be raised for every file."""

    def settings(self) -> dict[str, Any]:
        """All that results depend on beside their source, as plain data."""
        return {}

    def inputs(self) -> Sequence[Path]:
        """Files that it reads beside its source."""
        return ()

    def files(self, target: str) -> tuple[str, ...]:
        """All the files that it writes, or may write, for a target."""
        return (target,)

    def check_whole(self, path: str) -> None:
        """Raise OSError or ValueError if a file is no whole one of the kind that is written."""
        if not Path(path).stat().st_size:
            raise ValueError(f"{path} is empty")

    def why_not(self, suffix: str) -> str:
        """Why files of a suffix are not read."""
        return f"{suffix or 'no suffix'}, where {' or '.join(sorted(self.reads))} is read"
