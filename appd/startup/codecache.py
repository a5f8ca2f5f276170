"""The code of a start, kept in one file from one start to the next.

Before it answers, a start imports more than a hundred modules, and to find, read and check the compiled file of each
takes as long as to run it. So what was imported by then is kept in $CACHE_DIRECTORY (systemd.exec(5)), beside the
validated file (`appd.config.cache`), and is taken from there: each module only if its source is as it was, by time and
size, which is how Python tells a compiled file that is out of date. Whatever is wrong, and whatever else is imported,
Python's own finders see to.

Nobody else may choose what a service runs: as for the validated file, the cache must belong to the user that runs it,
and root has none. Kept are modules of appd and of Python's library, none of hosted code; and regular expressions
(`appd.startup.patterns`).
"""

from __future__ import annotations

import marshal
import os
import stat
import sys

# importlib without all that it imports, which is to be found in the cache.
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER, PathFinder, SourceFileLoader, cache_from_source
from mmap import MAP_PRIVATE, PROT_READ, mmap

from appd.startup.patterns import keep, known
from appd.startup.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import CodeType, ModuleType

    from appd.startup.patterns import Parts

    # Path, time and size of the source.
    Version = tuple[str, int, int]

__all__ = ["CodeCache", "Entry", "forget"]

# Whatever changes how the file is written changes this.
_FORMAT = 1
# The length of the index, in front.
_HEAD = 8
# Where modules were looked for first when the start began.
_FRONT = sys.path[:1]
# The folders whose modules are kept: this package's and that of Python's library, but for what is installed there.
_PACKAGE, _LIBRARY = (os.path.dirname(one) + os.sep for one in (os.path.dirname(__file__), os.__file__))


_CODE = type((lambda: None).__code__)


class Entry(NamedTuple):
    """A module that is kept.

    Attributes:
        version: Its source.
        compiled: Where Python keeps it compiled.
        code: Its code, as marshal has it.
    """

    version: Version
    compiled: str
    code: memoryview


class _Loader(SourceFileLoader):
    """Takes the code of a module from the cache, and all else from its file."""

    def __init__(self, name: str, path: str, code: memoryview) -> None:
        super().__init__(name, path)
        self._code: memoryview | None = code

    def get_code(self, fullname: str) -> CodeType | None:
        code, self._code = self._code, None
        if code is None:
            return super().get_code(fullname)
        try:
            found = marshal.loads(code)
        except (EOFError, ValueError, TypeError):
            found = None
        # What a file system has lost lies in its file as well.
        return found if type(found) is _CODE else super().get_code(fullname)


class CodeCache:
    """The file in $CACHE_DIRECTORY, and the finder of what is in it.

    Args:
        environ: The environment.
        uid: The effective user; root has no cache.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ, uid: int | None = None) -> None:
        self._uid = os.geteuid() if uid is None else uid
        folder = environ.get("CACHE_DIRECTORY", "").partition(":")[0]
        tag = sys.implementation.cache_tag
        self.file = os.path.join(folder, f"code.{tag}") if folder and self._uid and tag else ""
        self._modules: dict[str, Entry] = {}

    def install(self) -> None:
        """Reads the file, if it is there and of use, and has modules found in it until `forget` is called."""
        self._modules, expressions = self._read()
        known.update(expressions)
        if self._modules:
            sys.meta_path.insert(0, self)

    def find_spec(
        self, name: str, search: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Finds a module, as importlib asks for it."""
        entry = self._modules.get(name)
        if entry is None:
            return None
        path = entry.version[0]
        if _is_hidden(name, path, search) or _version(path) != entry.version:
            return None
        # What importlib.util.spec_from_file_location does, but for what is known.
        spec = ModuleSpec(name, _Loader(name, path, entry.code), origin=path, is_package=path.endswith("/__init__.py"))
        spec.has_location = True
        spec.cached = entry.compiled
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(os.path.dirname(path))
        return spec

    def _read(self) -> tuple[dict[str, Entry], dict[str | bytes, Parts]]:
        if not self.file:
            return {}, {}
        try:
            # Not through a link, and not waiting for the writer of a FIFO.
            fd = os.open(self.file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                found = os.fstat(fd)
                if not stat.S_ISREG(found.st_mode) or found.st_uid != self._uid or found.st_mode & 0o022:
                    return {}, {}
                # Of what is not imported nothing is read.
                whole = memoryview(mmap(fd, 0, MAP_PRIVATE, PROT_READ))
            finally:
                os.close(fd)
            start = _HEAD + int.from_bytes(whole[:_HEAD], "little")
            surroundings, index, expressions = marshal.loads(whole[_HEAD:start])
            if surroundings != _surroundings():
                return {}, {}
            modules = {}
            for name, (version, compiled, length) in index.items():
                modules[name] = Entry(version, compiled, whole[start : start + length])
                start += length
        except (OSError, ValueError, EOFError, TypeError, AttributeError):
            # Whatever is wrong with it, modules are found where they lie.
            return {}, {}
        return modules, expressions

    def write(self, names: Iterable[str], texts: Iterable[str | bytes] = ()) -> bool:
        """Keeps the code of modules for the next start, unless it is kept already.

        Args:
            names: The modules that are loaded by the time of the first answer.
            texts: The regular expressions that are compiled by then.

        Returns:
            Whether it was written.
        """
        if not self.file:
            return False
        ours = {name: loader for name in names if (loader := _loader_of(name)) is not None}
        kept, expressions = self._read()
        there = all(name in kept and kept[name].version == _version(loader.path) for name, loader in ours.items())
        more = keep(one for one in texts if one not in expressions)
        if there and not more:
            return False
        part = f"{self.file}.{os.getpid()}"
        try:
            # What another service that shares the folder has kept stays.
            modules = {name: entry for name, entry in kept.items() if _version(entry.version[0]) == entry.version}
            modules |= {name: entry for name, loader in ours.items() if (entry := _entry(name, loader)) is not None}
            fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with open(fd, "wb") as file:
                file.write(_serialized(modules, expressions | more))
                file.flush()
                # marshal trusts what it reads: no half of it is to be found after a power failure.
                os.fsync(fd)
            os.rename(part, self.file)
        except OSError:
            if os.path.exists(part):
                os.unlink(part)
            return False
        return True


def forget() -> None:
    """Has no more modules found in a cache, and gives its memory back."""
    sys.meta_path[:] = [one for one in sys.meta_path if not isinstance(one, CodeCache)]


def _surroundings() -> tuple[int, bytes, int, int, str]:
    """What compiled code depends on beside its source."""
    return _FORMAT, MAGIC_NUMBER, sys.hexversion, sys.flags.optimize, __file__


def _is_hidden(name: str, path: str, search: Sequence[str] | None) -> bool:
    """Whether Python finds another module of that name, in a folder that was put in front or another package."""
    if search is not None:
        folder = os.path.dirname(path)
        return (os.path.dirname(folder) if path.endswith("/__init__.py") else folder) not in search
    if sys.path[:1] == _FRONT:
        return False
    front = sys.path[: sys.path.index(_FRONT[0])] if _FRONT and _FRONT[0] in sys.path else sys.path
    found = PathFinder.find_spec(name, front)
    return found is not None and found.loader is not None


def _version(path: str) -> Version:
    try:
        found = os.stat(path)
    except OSError:
        return path, 0, 0
    return path, found.st_mtime_ns, found.st_size


def _loader_of(name: str) -> SourceFileLoader | None:
    """The loader of a module that is to be kept; None where it is not."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    loader = getattr(spec, "loader", None)
    if not isinstance(loader, SourceFileLoader) or loader.name != name:
        return None
    path = loader.path
    library = path.startswith(_LIBRARY) and "-packages" not in path
    return loader if library or path.startswith(_PACKAGE) else None


def _entry(name: str, loader: SourceFileLoader) -> Entry | None:
    version = _version(loader.path)
    code = loader.get_code(name)
    # A file that is replaced just now is not kept.
    if code is None or _version(loader.path) != version:
        return None
    return Entry(version, cache_from_source(loader.path), memoryview(marshal.dumps(code)))


def _serialized(modules: Mapping[str, Entry], expressions: Mapping[str | bytes, Parts]) -> bytes:
    index = {name: (one.version, one.compiled, len(one.code)) for name, one in modules.items()}
    head = marshal.dumps((_surroundings(), index, dict(expressions)))
    return b"".join([len(head).to_bytes(_HEAD, "little"), head, *(one.code for one in modules.values())])
