"""SFTP (draft-ietf-secsh-filexfer-02, version 3) over a folder, by conch's server.

What waits for a disk runs in threads, one call of a session after the other, so that what a client has asked for in a
row is done in that row: conch would begin them all at once, and a close might overtake a write.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.conch.interfaces import ISFTPFile, ISFTPServer
from twisted.conch.ssh import filetransfer as ft
from twisted.conch.ssh.common import getNS
from twisted.internet import defer, threads
from twisted.python.failure import Failure
from zope.interface import implementer

from appd.servers.rooted import Root, names_of
from appd.servers.ssh.extensions import EXTENSIONS, extension
from appd.servers.ssh.transport import QuietLogger, SshTransport

__all__ = ["Calls", "Files", "SftpServer"]

# SFTP_MAX_MSG_LENGTH of OpenSSH: what is longer is no packet.
_LONGEST = 256 * 1024
_MOST_READ = _LONGEST - 1024
# So many calls may wait before the connection is not read any more, and so many when it cannot be but must be.
_WAITING, _TOO_MANY = 64, 2048
_TOO_MUCH = 32 * 1024**2
_FLAGS = (
    (ft.FXF_APPEND, os.O_APPEND),
    (ft.FXF_CREAT, os.O_CREAT),
    (ft.FXF_TRUNC, os.O_TRUNC),
    (ft.FXF_EXCL, os.O_EXCL),
)


class Calls:
    """The calls of one session, one after the other, in threads.

    Args:
        connection: The SSH connection.
        channel: The channel of the session.
        pool: The threads.
    """

    def __init__(self, connection: SshTransport, channel: Any, pool: Any) -> None:
        self._connection = connection
        self._channel = channel
        self._pool = pool
        self._waiting: deque[tuple[defer.Deferred[Any], Callable[[], Any], int]] = deque()
        self._held = 0
        self._running = False
        self._paused = False
        self.gone = False

    def run(self, call: Callable[[], Any], size: int = 0) -> defer.Deferred[Any]:
        """Has something called.

        Args:
            call: What.
            size: How many bytes of memory it holds as long as it waits.

        Returns:
            Fires with what it returns.
        """
        done: defer.Deferred[Any] = defer.Deferred()
        self._waiting.append((done, call, size))
        self._held += size
        if len(self._waiting) > _TOO_MANY or self._held > _TOO_MUCH:
            # A client that asks and asks and takes no answer.
            self._connection.sendDisconnect(2, b"too much at a time")
        self.next()
        return done

    def next(self) -> None:
        """Begins the next call if none runs and the client takes what it has been sent."""
        self._look()
        if self._running or not self._waiting:
            return
        if not self.gone and self._is_clogged:
            if self.next not in self._connection.when_clear:
                self._connection.when_clear.append(self.next)
            return
        done, call, size = self._waiting.popleft()
        self._held -= size
        self._running = True
        reactor = self._connection.factory.reactor
        threads.deferToThreadPool(reactor, self._pool, call).addBoth(self._done, done)

    def _done(self, result: Any, done: defer.Deferred[Any]) -> None:
        self._running = False
        done.callback(result)
        self.next()

    @property
    def _has_no_window(self) -> bool:
        return not self._channel.areWriting

    @property
    def _is_clogged(self) -> bool:
        return self._connection.clogged or self._has_no_window

    def _look(self) -> None:
        # Without a window the connection must be read: what widens the window comes by it.
        pause = len(self._waiting) >= _WAITING and not self._has_no_window and not self.gone
        if pause != self._paused:
            self._paused = pause
            below = self._connection.transport
            if pause:
                below.pauseProducing()
            elif below.connected and not getattr(below, "disconnecting", False):
                below.resumeProducing()


class SftpServer(ft.FileTransferServer):
    """The protocol of one session."""

    _log = QuietLogger(namespace="appd.ssh.conch")
    client: Any

    def __init__(self, files: Files) -> None:
        ft.FileTransferBase.__init__(self)
        self.client = files
        self.openFiles: dict[bytes, Any] = {}
        self.openDirs: dict[bytes, Any] = {}
        # conch names them and has none.
        self._ebRead = self._ebWrite = self._ebStatus

    def dataReceived(self, data: bytes) -> None:
        """See FileTransferServer: bounded, and without a second copy of what is complete."""
        if len(self.buf) >= 4 or len(self.buf) + len(data) >= 4:
            length = int.from_bytes((self.buf + data[:4])[:4], "big")
            if length > _LONGEST:
                self.client.connection.sendDisconnect(2, b"an SFTP packet that is too long")
                return
        super().dataReceived(data)

    def packet_EXTENDED(self, data: bytes) -> None:
        """See FileTransferServer; `extensions` has those of OpenSSH."""
        request, (name, rest) = data[:4], getNS(data[4:])
        call = extension(name, rest, self.client.root, self.openFiles)
        if call is None:
            self._sendStatus(request, ft.FX_OP_UNSUPPORTED, b"not supported")
            return
        self.client.calls.run(call).addCallback(self._extended, request).addErrback(self._ebStatus, request)

    def _extended(self, reply: bytes | None, request: bytes) -> None:
        if reply is None:
            self._cbStatus(None, request, b"done")
        else:
            self.sendPacket(ft.FXP_EXTENDED_REPLY, request + reply)

    def _ebStatus(self, reason: Any, requestId: bytes, msg: bytes = b"request failed") -> None:
        error = reason.value
        if isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EPERM):
            reason = Failure(PermissionError(errno.EACCES, "permission denied"))
        elif isinstance(error, FileExistsError):
            # conch answers with a code that version 3 does not have, "Unknown status" for people.
            reason = Failure(ft.SFTPError(ft.FX_FAILURE, "file exists"))
        super()._ebStatus(reason, requestId, msg)

    def connectionLost(self, reason: Any = None) -> None:
        self.client.calls.gone = True
        super().connectionLost(reason)
        self.client.calls.next()


@implementer(ISFTPServer)
class Files:
    """What a user sees.

    Args:
        root: The folder.
        calls: What runs in threads.
        connection: The SSH connection.
        most_open: Files and folders that may be open at one time on the connection.
    """

    def __init__(self, root: Root, calls: Calls, connection: SshTransport, most_open: int) -> None:
        self.avatar = None
        self.root = root
        self.calls = calls
        self.connection = connection
        self._most_open = most_open

    def gotVersion(self, otherVersion: int, extData: Any) -> dict[bytes, bytes]:
        """See ISFTPServer."""
        return dict(EXTENSIONS)

    def openFile(self, filename: bytes, flags: int, attrs: dict[str, Any]) -> defer.Deferred[Any]:
        """See ISFTPServer."""
        both = ft.FXF_READ | ft.FXF_WRITE
        wanted = {both: os.O_RDWR, ft.FXF_WRITE: os.O_WRONLY}.get(flags & both, os.O_RDONLY)
        for theirs, ours in _FLAGS:
            wanted |= ours if flags & theirs else 0
        mode = attrs.get("permissions", 0o666)
        self._reserve()
        return self.calls.run(lambda: self.root.open(filename, wanted, mode)).addCallbacks(
            self._opened, self._not_opened
        )

    def _reserve(self) -> None:
        if self.connection.open_things >= self._most_open:
            raise ft.SFTPError(ft.FX_FAILURE, f"more than {self._most_open} files are open")
        self.connection.open_things += 1

    def _opened(self, fd: int) -> Any:
        file = _File(fd, self)
        if self.calls.gone:
            file.close()
            raise ft.SFTPError(ft.FX_CONNECTION_LOST, "the session is over")
        return file

    def _not_opened(self, reason: Any) -> Any:
        self.connection.open_things -= 1
        return reason

    def openDirectory(self, path: bytes) -> defer.Deferred[Any]:
        """See ISFTPServer."""
        self._reserve()
        return self.calls.run(lambda: self._listing(path)).addCallbacks(
            lambda rows: _Folder(rows, self), self._not_opened
        )

    def _listing(self, path: bytes) -> list[Any]:
        return [
            (one.name, _long_name(one.name, one.status), _attributes(one.status)) for one in self.root.entries(path)
        ]

    def removeFile(self, filename: bytes) -> defer.Deferred[Any]:
        """See ISFTPServer."""
        return self.calls.run(lambda: self.root.unlink(filename))

    def renameFile(self, oldpath: bytes, newpath: bytes) -> defer.Deferred[Any]:
        """See ISFTPServer."""
        return self.calls.run(lambda: self.root.rename(oldpath, newpath))

    def makeDirectory(self, path: bytes, attrs: dict[str, Any]) -> defer.Deferred[Any]:
        """See ISFTPServer."""
        return self.calls.run(lambda: self.root.mkdir(path, attrs.get("permissions", 0o777)))

    def removeDirectory(self, path: bytes) -> defer.Deferred[Any]:
        """See ISFTPServer."""
        return self.calls.run(lambda: self.root.rmdir(path))

    def getAttrs(self, path: bytes, followLinks: Any) -> defer.Deferred[Any]:
        """See ISFTPServer."""
        return self.calls.run(lambda: _attributes(self.root.stat(path, follow=bool(followLinks))))

    def setAttrs(self, path: bytes, attrs: dict[str, Any]) -> defer.Deferred[Any]:
        """See ISFTPServer."""
        return self.calls.run(lambda: self._set(path, attrs))

    def _set(self, path: bytes, attrs: dict[str, Any]) -> None:
        if "uid" in attrs or "gid" in attrs:
            found = self.root.stat(path)
            if (attrs.get("uid", found.st_uid), attrs.get("gid", found.st_gid)) != (found.st_uid, found.st_gid):
                raise PermissionError(errno.EACCES, "no file changes its owner")
        if "size" in attrs:
            self.root.truncate(path, attrs["size"])
        if "permissions" in attrs:
            self.root.chmod(path, attrs["permissions"])
        if "atime" in attrs and "mtime" in attrs:
            self.root.utime(path, attrs["atime"], attrs["mtime"])

    def readLink(self, path: bytes) -> defer.Deferred[Any]:
        """See ISFTPServer."""
        return self.calls.run(lambda: self.root.readlink(path))

    def makeLink(self, linkPath: bytes, targetPath: bytes) -> defer.Deferred[Any]:
        """See ISFTPServer. OpenSSH sends the two the other way round than the draft has them, and all follow it."""
        return self.calls.run(lambda: self.root.symlink(linkPath, targetPath))

    def realPath(self, path: bytes) -> bytes:
        """See ISFTPServer."""
        return b"/" + b"/".join(names_of(path))

    def extendedRequest(self, extendedName: bytes, extendedData: bytes) -> Any:
        """See ISFTPServer."""
        raise NotImplementedError  # as ISFTPServer wants for extensions that are not known; the client is told so


@implementer(ISFTPFile)
class _File:
    def __init__(self, fd: int, files: Files) -> None:
        self._fd = fd
        self._files = files
        self._closed = False

    def sync(self) -> None:
        """fsync(2), in a thread."""
        os.fsync(self._fd)

    def close(self) -> Any:
        if self._closed:
            return None
        self._closed = True
        self._files.connection.open_things -= 1
        return self._files.calls.run(lambda: os.close(self._fd))

    def readChunk(self, offset: int, length: int) -> Any:
        return self._files.calls.run(lambda: os.pread(self._fd, min(length, _MOST_READ), offset))

    def writeChunk(self, offset: int, data: bytes) -> Any:
        return self._files.calls.run(lambda: self._write(offset, data), len(data))

    def _write(self, offset: int, data: bytes) -> None:
        left = memoryview(data)
        while left:
            count = os.pwrite(self._fd, left, offset)
            left, offset = left[count:], offset + count

    def getAttrs(self) -> Any:
        return self._files.calls.run(lambda: _attributes(os.fstat(self._fd)))

    def setAttrs(self, attrs: dict[str, Any]) -> Any:
        return self._files.calls.run(lambda: self._set(attrs))

    def _set(self, attrs: dict[str, Any]) -> None:
        if self._files.root.read_only:
            raise PermissionError(errno.EACCES, "nothing is changed here: read-only")
        if "size" in attrs:
            os.ftruncate(self._fd, attrs["size"])
        if "permissions" in attrs:
            os.fchmod(self._fd, attrs["permissions"] & 0o777)
        if "atime" in attrs and "mtime" in attrs:
            os.utime(self._fd, (attrs["atime"], attrs["mtime"]))


class _Folder:
    """What is in a folder, read as a whole when it was opened."""

    def __init__(self, rows: list[Any], files: Files) -> None:
        self._rows = rows
        self._files = files
        self._closed = False

    def __iter__(self) -> Any:
        return iter(self._rows)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._files.connection.open_things -= 1


def _attributes(status: os.stat_result) -> dict[str, Any]:
    return {
        "size": status.st_size,
        "uid": status.st_uid,
        "gid": status.st_gid,
        "permissions": status.st_mode,
        # Version 3 has 32 bits for a time.
        "atime": int(status.st_atime) & 0xFFFFFFFF,
        "mtime": int(status.st_mtime) & 0xFFFFFFFF,
    }


def _long_name(name: bytes, status: os.stat_result) -> bytes:
    """A line of ls -l, the owners as numbers: their names are nobody's business."""
    modified = time.localtime(status.st_mtime)
    recent = abs(time.time() - status.st_mtime) < 180 * 86400
    when = time.strftime("%b %e %H:%M" if recent else "%b %e  %Y", modified)
    owners = f"{status.st_uid:<8} {status.st_gid:<8}"
    line = f"{stat.filemode(status.st_mode)} {status.st_nlink:4} {owners} {status.st_size:12} {when} "
    return line.encode() + name
