"""The validated file, kept from one start to the next.

Parsing and checking a file costs a start four times what the rest of it takes. What came out is kept as JSON in
$CACHE_DIRECTORY (systemd.exec(5)) with everything that it depends on, and is taken in place of parsing only if all of
that is as it was: the files, each $(VARIABLE), the components and the code that checks. Whatever a later stage looks
at, as folders, certificates and modules, is looked at again.

A file that asks for server types of other packages is not kept: their data types may depend on anything.

Nobody else may choose what a service runs: the file must belong to the user that runs it, and root, for whom others
might be able to put one there, neither reads nor writes it. No error of the cache is an error of the start.
"""

from __future__ import annotations

import os
import stat
import sys

from appd import __version__
from appd.config.inputs import Inputs, identity
from appd.config.plain import NotPlain, decode, encode
from appd.config.processors import count_processors
from appd.config.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["SettingsCache"]

# Whatever changes what is in the file, or how it is written, changes this.
_FORMAT = 2
_LARGEST = 32 * 1024**2
_NAME_MAX = 200


class _Plainly:
    """How JSON is read: as `json.loads` does without further arguments."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: Mapping[str, str] = {}  # nobody writes to it


def _parsed(text: str) -> Any:
    """What `json.loads` does; that package, with the patterns of what it has in Python, takes a start 1 ms.

    Raises:
        ValueError: It is no JSON.
    """
    from _json import make_scanner

    try:
        value, end = make_scanner(_Plainly)(text, 0)  # type: ignore[arg-type]  # anything with these names will do
    except StopIteration:
        raise ValueError("no JSON") from None
    if end != len(text):
        raise ValueError("more than JSON")
    return value


class SettingsCache:
    """The file in $CACHE_DIRECTORY that belongs to one configuration file.

    Args:
        path: The configuration file, as the command line has it.
        environ: The environment.
        uid: The effective user; root has no cache.
    """

    def __init__(self, path: str, environ: Mapping[str, str] = os.environ, uid: int | None = None) -> None:
        self._path = path
        self._environ = environ
        self._uid = os.geteuid() if uid is None else uid
        self._read_files: Mapping[str, tuple[int, ...]] = {}
        folder = environ.get("CACHE_DIRECTORY", "").partition(":")[0]
        name = os.path.abspath(path).replace("%", "%25").replace("/", "%2F")
        if not folder or not self._uid or len(name) > _NAME_MAX:
            self.file = ""
        else:
            self.file = os.path.join(folder, f"{name}.json")

    def read(self) -> Settings | None:
        """The settings of the last start, if all that they depend on is as it was; None otherwise."""
        if not self.file:
            return None
        try:
            kept = self._read()
            if kept is None or kept["surroundings"] != self._surroundings():
                return None
            if any(identity(path) != tuple(was) for path, was in kept["files"].items()):
                return None
            if any(self._environ.get(name) != was for name, was in kept["environ"].items()):
                return None
            settings = decode(kept["settings"])
            self._read_files = {path: tuple(kept["files"][os.path.abspath(path)]) for path in kept["read"]}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            # Whatever is wrong with it, the file itself is read instead.
            return None
        return settings if isinstance(settings, Settings) else None

    def texts(self) -> dict[str, str] | None:
        """What the files said that the settings of `read` were made of; None when they have changed since."""
        from appd.config.reading import read_text

        try:
            texts = {path: read_text(path) for path in self._read_files}
            return texts if all(identity(path) == was for path, was in self._read_files.items()) else None
        except (OSError, ValueError):
            return None

    def _read(self) -> Any:
        # Not through a link, and not waiting for the writer of a FIFO.
        fd = os.open(self.file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != self._uid or found.st_mode & 0o022:
                return None
            return _parsed(file.read(_LARGEST).decode())

    def write(self, settings: Settings, inputs: Inputs) -> bool:
        """Keeps the settings for the next start, where that is safe.

        Args:
            settings: What the file says.
            inputs: What that depends on.

        Returns:
            Whether they are kept.
        """
        if not self.file or not inputs.own or not inputs.settled():
            return False
        import json

        part = f"{self.file}.{os.getpid()}"
        try:
            kept = {
                "surroundings": self._surroundings(),
                "files": inputs.files,
                "read": list(inputs.texts),
                "environ": inputs.environ,
                "settings": encode(settings),
            }
            fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with open(fd, "w", encoding="ascii") as file:
                json.dump(kept, file, separators=(",", ":"))
            os.rename(part, self.file)
        except NotPlain:
            return False
        except OSError:
            self._remove(part)
            return False
        return True

    @staticmethod
    def _remove(part: str) -> None:
        try:
            os.unlink(part)
        except OSError:
            return

    def _surroundings(self) -> list[Any]:
        """What a reading depends on beside files and variables, as JSON gives it back."""
        # `workers auto` counts processors; a relative path means another file elsewhere.
        cwd = "" if os.path.isabs(self._path) else os.getcwd()
        return [_FORMAT, __version__, sys.hexversion, self._path, cwd, count_processors()]
