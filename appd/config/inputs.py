"""What a reading of a configuration file depended on."""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Identity", "Inputs", "identity"]

Identity = tuple[int, int, int]

# A file that was changed so lately, in seconds, may change again and keep its time stamp.
_SETTLED = 2.0


def identity(path: str) -> Identity:
    """What tells a file from a changed one: size, time of modification in nanoseconds, inode.

    Raises:
        OSError: There is none.
    """
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns, found.st_ino


class Inputs:
    """Collects what a reading depends on while it goes on.

    Args:
        environ: The environment.
        clock: Seconds since the epoch.

    Attributes:
        files: Path → `identity` of each file as it was before it was read.
        environ: Each $(VARIABLE) that was asked for and its value, None without one.
        own: Whether only appd's own server types were asked for.
        texts: What the configuration files said, by their paths as they were asked for.
    """

    def __init__(self, environ: Mapping[str, str | None] = os.environ, clock: Callable[[], float] = time.time) -> None:
        self.files: dict[str, Identity] = {}
        self.environ: dict[str, str | None] = {}
        self.own = True
        self.texts: dict[str, str] = {}
        self._variables = environ
        self._clock = clock
        self._young: dict[str, int] = {}

    def file(self, path: str) -> None:
        """Notes a file that is about to be read; one that is not there is the reader's to complain of."""
        path = os.path.abspath(path)
        try:
            self.files[path] = identity(path)
            if self._is_young(path):
                self._young[path] = _checksum(path)
        except OSError:
            self.own = False

    def variable(self, name: str) -> None:
        """Notes a variable of the environment."""
        self.environ[name] = self._variables.get(name)

    def settled(self) -> bool:
        """Whether a change since then, or from now on, would show in `files`.

        The time stamp of a file that had just been changed may hide a second change. Whether there was one is seen
        later, in what it holds.
        """
        try:
            return not any(self._is_young(path) for path in self._young) and all(
                _checksum(path) == was for path, was in self._young.items()
            )
        except OSError:
            return False

    def _is_young(self, path: str) -> bool:
        return self._clock() - self.files[path][1] / 1e9 < _SETTLED


def _checksum(path: str) -> int:
    # No pipe and no device is asked for its content: it would wait, or have none left for the reader.
    if not os.path.isfile(path):
        raise OSError(f"{path} is no regular file")
    # Late: nothing is read so that is taken from the cache.
    import zlib

    with open(path, "rb") as file:
        return zlib.crc32(file.read())
