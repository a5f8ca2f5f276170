"""What a user may do with files: twisted.protocols.ftp's IFTPShell over a folder, in threads."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from typing import Any

from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm
from twisted.internet import defer, threads
from twisted.protocols import ftp
from zope.interface import implementer

from appd.auth.passwords import user_name
from appd.servers.rooted import Root

__all__ = ["Folders", "Shell"]


class Shell:
    """The part of IFTPShell that commands without a data connection use; those with one have `root` and `call`.

    Args:
        root: The folder.
        reactor: The reactor.
        pool: The threads.
    """

    def __init__(self, root: Root, reactor: Any, pool: Any) -> None:
        self.root = root
        self._reactor = reactor
        self._pool = pool

    def call(self, call: Callable[[], Any], path: str = "") -> defer.Deferred[Any]:
        """Has something called in a thread; what the host says against it is what FTP says.

        Args:
            call: What.
            path: What it is about, for people.
        """
        called = threads.deferToThreadPool(self._reactor, self._pool, call)
        return called.addErrback(_in_ftp_words, path)

    def makeDirectory(self, path: Sequence[str]) -> Any:
        """See IFTPShell."""
        return self.call(lambda: self.root.mkdir(_path(path)), "/".join(path))

    def removeDirectory(self, path: Sequence[str]) -> Any:
        """See IFTPShell."""
        return self.call(lambda: self.root.rmdir(_path(path)), "/".join(path))

    def removeFile(self, path: Sequence[str]) -> Any:
        """See IFTPShell."""
        return self.call(lambda: self.root.unlink(_path(path)), "/".join(path))

    def rename(self, fromPath: Sequence[str], toPath: Sequence[str]) -> Any:
        """See IFTPShell."""
        return self.call(lambda: self.root.rename(_path(fromPath), _path(toPath), replace=True), "/".join(toPath))

    def access(self, path: Sequence[str]) -> Any:
        """See IFTPShell: of a folder that is to be the current one."""
        return self.call(lambda: self._enter(path), "/".join(path))

    def _enter(self, path: Sequence[str]) -> None:
        if not stat.S_ISDIR(self.root.stat(_path(path)).st_mode):
            raise NotADirectoryError(20, os.strerror(20))

    def stat(self, path: Sequence[str], keys: Sequence[str] = ()) -> Any:
        """See IFTPShell, for `size` and `modified` of files."""
        return self.call(lambda: self._values(path, keys), "/".join(path))

    def _values(self, path: Sequence[str], keys: Sequence[str]) -> list[Any]:
        found = self.root.stat(_path(path))
        if not stat.S_ISREG(found.st_mode):
            raise IsADirectoryError(21, os.strerror(21))
        return [{"size": found.st_size, "modified": found.st_mtime, "directory": False}.get(one) for one in keys]


def _path(names: Sequence[str]) -> bytes:
    # twisted.protocols.ftp decodes what it reads as Latin-1, whatever it is: these are the bytes that came.
    return "/".join(names).encode("latin-1")


def _in_ftp_words(failure: Any, path: str) -> Any:
    error = failure.value
    if isinstance(error, FileExistsError):
        raise ftp.FileExistsError(path)
    if isinstance(error, PermissionError):
        raise ftp.PermissionDeniedError(path)
    if isinstance(error, IsADirectoryError):
        raise ftp.IsADirectoryError(path)
    if isinstance(error, OSError):
        raise ftp.FileNotFoundError(path)
    return failure


@implementer(IRealm)
class Folders:
    """The folders of users.

    Args:
        pattern: Where they are, with %u for the user.
        read_only: Whether files are only read.
        reactor: The reactor.
        pool: The threads.
    """

    def __init__(self, pattern: str, read_only: bool, reactor: Any, pool: Any) -> None:
        self._pattern = pattern
        self._read_only = read_only
        self._reactor = reactor
        self._pool = pool

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        """See IRealm."""
        try:
            name = user_name(avatarId.decode("utf-8") if isinstance(avatarId, bytes) else str(avatarId))
        except ValueError:
            # It becomes a part of a path.
            raise UnauthorizedLogin() from None
        return ftp.IFTPShell, self.shell(name, self._read_only), lambda: None

    def shell(self, name: str, read_only: bool) -> Shell:
        """The files of a user."""
        path = "%".join(part.replace("%u", name) for part in self._pattern.split("%%"))
        return Shell(Root(path, read_only), self._reactor, self._pool)
