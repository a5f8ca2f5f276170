"""The body of a request while it arrives: in memory, beyond a size in a temporary file.

An application is called when its request is complete, so that a slow upload holds no thread.
"""

from __future__ import annotations

from io import BytesIO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

__all__ = ["Upload"]


class Upload:
    """A body.

    Args:
        memory: Bytes that are kept in memory.
        began: When it was begun, in seconds.
        keep: Whether anybody reads it; else it is only counted.

    Attributes:
        length: How many bytes there are.
        began: When it was begun.

    Resource handling: owns the file until `close`; a temporary file has no name and goes with it.
    """

    __slots__ = ("_file", "_keep", "_memory", "began", "length")

    def __init__(self, memory: int, began: float, *, keep: bool = True) -> None:
        self.length = 0
        self.began = began
        self._memory = memory
        self._keep = keep
        self._file: IO[bytes] = BytesIO()

    def add(self, data: bytes) -> None:
        """Keeps a part.

        Raises:
            OSError: There is no room for it.
        """
        self.length += len(data)
        if not self._keep:
            return
        if self.length > self._memory and isinstance(self._file, BytesIO):
            from tempfile import TemporaryFile  # late: it imports shutil and random

            file = TemporaryFile()  # noqa: SIM115  # as long as the upload
            file.write(self._file.getvalue())
            self._file = file
        self._file.write(data)

    def complete(self) -> IO[bytes]:
        """All of it, from its beginning; what an application gets as `wsgi.input`.

        Raises:
            OSError: There is no room for the last part.
        """
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        """Gives it up."""
        # What there was no room for is tried once more.
        try:
            self._file.close()
        except OSError:
            return
