"""The base class of what is done to one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from ..outputs import Origin

STREAMS = frozenset({".cda"})


class Work:
    """What is done to one file. Subclasses are frozen dataclasses, which can be pickled.

    Attributes:
        writes: suffix of results in an output folder.
        writes_beside: suffix of results next to their source.
        columns: keys of the rows that the table shows.
        tells_others: whether to report files in a folder that it does not read.
    """

    writes: ClassVar[str]
    writes_beside: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]
    tells_others: ClassVar[bool] = False

    @property
    def reads(self) -> frozenset[str]:
        """Suffixes of the files in a folder that it reads."""
        return STREAMS

    def __call__(self, source: str, target: str, origin: Origin) -> dict[str, Any]:
        """Process one file, and write ``target`` atomically.

        Args:
            source: path of the file.
            target: path of the result.
            origin: recorded with the result.

        Returns:
            a row of plain data, for tables and ``--json``.

        Raises:
            ValueError: if the file cannot be processed; the message is shown to the user.
            FileNotFoundError: if it does not exist.
        """
        raise NotImplementedError

    def done(self, source: str, target: str) -> dict[str, Any] | None:
        """The row of a job whose result exists and is current.

        Args:
            source: path of the file.
            target: path of the result.

        Returns:
            the row, or None if the file must be processed again.
        """
        raise NotImplementedError

    def check(self) -> None:
        """Check, before the first file, for errors that would affect all files.

        Raises:
            ValueError: for an invalid setting.
            FileNotFoundError: if the model does not exist.
        """

    def prepare(self) -> None:
        """Load what all files need: the model. Errors are those that every file would raise."""

    def settings(self) -> dict[str, Any]:
        """Everything that results depend on other than their source.

        Returns:
            plain data by name.

        Raises:
            FileNotFoundError: if the model, or another file that counts, does not exist.
            ValueError: for a damaged model.
        """
        return {}

    def inputs(self) -> Sequence[Path]:
        """Files that it reads other than its source; they are never overwritten."""
        return ()

    def files(self, target: str) -> tuple[str, ...]:
        """All files that it writes, or may write, for a target.

        Args:
            target: path of the result.
        """
        return (target,)

    def check_whole(self, path: str) -> None:
        """Check that a result is complete.

        Args:
            path: of a file that it wrote.

        Raises:
            ValueError: if the file is truncated or damaged; also `OSError`.
        """
        if not Path(path).stat().st_size:
            raise ValueError(f"{path} is empty")

    def why_not(self, suffix: str) -> str:
        """Why files of a suffix are not read.

        Args:
            suffix: in lower case, none of ``reads``; empty for files without one.
        """
        return f"{suffix or 'no suffix'}, not {' or '.join(sorted(self.reads))}"
