"""Files below a folder, for clients that may change them: nothing that a path, a link or another client says leads out.

The names of a path are walked one by one, each opened below the one before with O_NOFOLLOW. A symbolic link on the way
is read and its target walked in the same manner, from the folder it lies in, or, if it is an absolute path into the
folder, from the top. So there is no moment between looking and using: whoever renames folders or puts links in their
place meanwhile changes what is found inside, and nothing else. `..` of a path stops at the top, as in a chroot(2);
`..` of a link that would pass it is refused. `http.files` walks likewise, and only reads.

All of this waits for disks: it is for threads.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

__all__ = ["Entry", "Root", "names_of"]

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
# A FIFO or a terminal that takes the place of a file does not block us, and does not become ours.
_FILE = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_MOST_LINKS = 40  # MAXSYMLINKS of path_resolution(7)
_DEEPEST = 256
_LONGEST = 4096  # PATH_MAX
# Nobody gets a program that runs as somebody else by way of an upload.
_MODES = 0o777


class Entry(NamedTuple):
    """Something in a folder.

    Attributes:
        name: Its name.
        status: What lstat(2) says of it.
    """

    name: bytes
    status: os.stat_result


class Root:
    """A folder that clients may use.

    Args:
        path: Where it is; links on the way to it are followed.
        read_only: Whether nothing in it is changed.
    """

    def __init__(self, path: str, read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only

    def open(self, path: bytes, flags: int, mode: int = 0o666) -> int:
        """Opens a regular file; who gets the descriptor closes it.

        Args:
            path: Which, from the top.
            flags: O_RDONLY, O_WRONLY or O_RDWR with O_CREAT, O_EXCL, O_TRUNC and O_APPEND.
            mode: The permissions of a new one, less the umask.

        Raises:
            OSError: It is not there, may not be opened, or is no regular file.
        """
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
            self._writable()
        with self._at(path, follow=not flags & os.O_EXCL) as (here, name):
            try:
                found = os.stat(name, dir_fd=here, follow_symlinks=False)
            except FileNotFoundError:
                if not flags & os.O_CREAT:
                    raise
            else:
                if flags & os.O_EXCL:
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
                # To open a FIFO would wake whoever reads it.
                _regular(found)
            fd = os.open(name, flags | _FILE, mode & _MODES, dir_fd=here)
        try:
            _regular(os.fstat(fd))
            os.set_blocking(fd, True)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def stat(self, path: bytes, follow: bool = True) -> os.stat_result:
        """stat(2), or lstat(2).

        Raises:
            OSError: It is not there.
        """
        with self._at(path, follow) as (here, name):
            return os.stat(name, dir_fd=here, follow_symlinks=False)

    def entries(self, path: bytes) -> list[Entry]:
        """What is in a folder, by name.

        Raises:
            OSError: It is no folder, or may not be read.
        """
        with self._at(path) as (here, name):
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
        found: list[Entry] = []
        try:
            for one in os.listdir(fd):
                try:
                    found.append(Entry(os.fsencode(one), os.stat(one, dir_fd=fd, follow_symlinks=False)))
                except OSError:
                    continue  # it has gone, or is not for us to see
        finally:
            os.close(fd)
        return sorted(found)

    def mkdir(self, path: bytes, mode: int = 0o777) -> None:
        """mkdir(2).

        Raises:
            OSError: The host refuses.
        """
        self._writable()
        with self._at(path, follow=False) as (here, name):
            os.mkdir(name, mode & _MODES, dir_fd=here)

    def rmdir(self, path: bytes) -> None:
        """rmdir(2).

        Raises:
            OSError: The host refuses.
        """
        self._writable()
        with self._at(path, follow=False) as (here, name):
            os.rmdir(name, dir_fd=here)

    def unlink(self, path: bytes) -> None:
        """unlink(2).

        Raises:
            OSError: The host refuses.
        """
        self._writable()
        with self._at(path, follow=False) as (here, name):
            os.unlink(name, dir_fd=here)

    def rename(self, old: bytes, new: bytes, replace: bool = False) -> None:
        """rename(2).

        Args:
            old: What.
            new: To where.
            replace: Whether it may take the place of something.

        Raises:
            OSError: The host refuses, or something is there.
        """
        self._writable()
        with self._at(old, follow=False) as (source, before), self._at(new, follow=False) as (target, after):
            if not replace:
                if stat.S_ISREG(os.stat(before, dir_fd=source, follow_symlinks=False).st_mode):
                    # link(2) fails if something is there, with no moment in between.
                    os.link(before, after, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
                    os.unlink(before, dir_fd=source)
                    return
                if _exists(after, target):
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            os.rename(before, after, src_dir_fd=source, dst_dir_fd=target)

    def link(self, old: bytes, new: bytes) -> None:
        """link(2): one more name for a regular file.

        Raises:
            OSError: The host refuses, it is no regular file, or something is there.
        """
        self._writable()
        with self._at(old, follow=False) as (source, before), self._at(new, follow=False) as (target, after):
            if not stat.S_ISREG(os.stat(before, dir_fd=source, follow_symlinks=False).st_mode):
                raise PermissionError(errno.EACCES, "no regular file")
            os.link(before, after, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)

    def statvfs(self, path: bytes) -> os.statvfs_result:
        """statvfs(3) of the file system that something lies on.

        Raises:
            OSError: It is not there.
        """
        with self._at(path) as (here, name):
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
        try:
            return os.statvfs(fd)
        finally:
            os.close(fd)

    def readlink(self, path: bytes) -> bytes:
        """readlink(2).

        Raises:
            OSError: It is no link.
        """
        with self._at(path, follow=False) as (here, name):
            return os.readlink(name, dir_fd=here)

    def symlink(self, target: bytes, path: bytes) -> None:
        """symlink(2), for targets that are relative and lead nowhere above the top: other programs follow them too.

        Args:
            target: Where it leads.
            path: The link.

        Raises:
            OSError: The host refuses, or it would lead out.
        """
        self._writable()
        depth = len(names_of(path)) - 1
        for one in target.split(b"/"):
            depth += -1 if one == b".." else one not in (b"", b".")
            if depth < 0:
                raise PermissionError(errno.EACCES, "the link would lead out")
        if target.startswith(b"/") or not target:
            raise PermissionError(errno.EACCES, "a link to an absolute path would lead out")
        with self._at(path, follow=False) as (here, name):
            os.symlink(target, name, dir_fd=here)

    def chmod(self, path: bytes, mode: int) -> None:
        """chmod(2), without the bits that change whom a program runs as.

        Raises:
            OSError: The host refuses.
        """
        self._writable()
        with self._at(path) as (here, name):
            # fchmodat(2) follows links; what an O_PATH descriptor means is found by its name below /proc.
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
        try:
            if stat.S_ISLNK(os.fstat(fd).st_mode):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            os.chmod(f"/proc/self/fd/{fd}", mode & _MODES)
        finally:
            os.close(fd)

    def utime(self, path: bytes, accessed: float, modified: float) -> None:
        """utimensat(2).

        Raises:
            OSError: The host refuses.
        """
        self._writable()
        with self._at(path) as (here, name):
            os.utime(name, (accessed, modified), dir_fd=here, follow_symlinks=False)

    def truncate(self, path: bytes, size: int) -> None:
        """truncate(2).

        Raises:
            OSError: The host refuses.
        """
        fd = self.open(path, os.O_WRONLY)
        try:
            os.ftruncate(fd, size)
        finally:
            os.close(fd)

    def _writable(self) -> None:
        if self.read_only:
            raise PermissionError(errno.EACCES, "nothing is changed here: read-only")

    @contextmanager
    def _at(self, path: bytes, follow: bool = True) -> Iterator[tuple[int, bytes]]:
        """The folder that something lies in, as a descriptor, and its name there; `.` for the top itself.

        Args:
            path: It, from the top.
            follow: Whether a link is followed that the last name means.
        """
        walk = _Walk(self.path)
        try:
            name = walk.to(path, follow)
            yield walk.here, name
        finally:
            walk.close()


class _Walk:
    """The folders from the top to where a walk is, each held open."""

    def __init__(self, top: str) -> None:
        self._top = os.fsencode(top)
        self._open = [os.open(self._top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]
        self._links = 0

    @property
    def here(self) -> int:
        return self._open[-1]

    def close(self) -> None:
        while self._open:
            os.close(self._open.pop())

    def to(self, path: bytes, follow: bool) -> bytes:
        """Walks, up to the last name, which is returned."""
        left = deque(names_of(path))
        while left:
            name = left.popleft()
            if name == b"..":
                # Of a link: those of the path itself are gone by now.
                if len(self._open) == 1:
                    raise _outside()
                os.close(self._open.pop())
                continue
            is_last = not left
            if is_last and not follow:
                return name
            if (target := self._link(name)) is not None:
                self._follow(target, left)
            elif is_last:
                return name
            else:
                self._enter(name)
        return b"."

    def _link(self, name: bytes) -> bytes | None:
        try:
            return os.readlink(name, dir_fd=self.here)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):  # no link, or nothing: whoever uses it will see
                return None
            raise

    def _follow(self, target: bytes, left: deque[bytes]) -> None:
        self._links += 1
        if self._links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if target.startswith(b"/"):
            top = os.path.realpath(self._top)
            plain = os.path.normpath(target)
            if plain != top and not plain.startswith(top.rstrip(b"/") + b"/"):
                raise _outside()
            target = plain[len(top) :]
            while len(self._open) > 1:
                os.close(self._open.pop())
        left.extendleft(reversed([one for one in target.split(b"/") if one not in (b"", b".")]))

    def _enter(self, name: bytes) -> None:
        if len(self._open) > _DEEPEST:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        self._open.append(os.open(name, _FOLDER, dir_fd=self.here))


def names_of(path: bytes) -> list[bytes]:
    """The names of a path, `.` and `..` done with as in a chroot(2).

    Raises:
        FileNotFoundError: It is none.
    """
    if b"\0" in path or len(path) > _LONGEST:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    names: list[bytes] = []
    for one in path.split(b"/"):
        if one == b"..":
            del names[-1:]
        elif one not in (b"", b"."):
            names.append(one)
    return names


def _outside() -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _exists(name: bytes, here: int) -> bool:
    try:
        os.stat(name, dir_fd=here, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if not stat.S_ISREG(status.st_mode):
        raise PermissionError(errno.EACCES, "no regular file")
