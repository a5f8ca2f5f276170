"""What a user may do once logged in: files, and a shell for operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.conch.avatar import ConchUser
from twisted.conch.error import ConchError
from twisted.conch.interfaces import IConchUser, ISession
from twisted.conch.ssh.session import SSHSession
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm
from twisted.logger import Logger
from zope.interface import implementer

from appd.auth.passwords import user_name
from appd.servers.rooted import Root
from appd.servers.ssh.sftp import Calls, Files, SftpServer
from appd.servers.ssh.transport import QuietLogger

__all__ = ["Session", "User", "Users"]

_log = Logger(namespace="appd.ssh")
_NO_SHELL = b"This server transfers files (sftp), and runs no commands.\r\n"


class Session(SSHSession):
    """A session channel: one subsystem or one shell."""

    avatar: Any
    conn: Any
    _log = QuietLogger(namespace="appd.ssh.conch")

    def request_subsystem(self, data: bytes) -> Any:
        """See SSHSession."""
        self.avatar.opening = self
        return super().request_subsystem(data)

    def request_pty_req(self, data: bytes) -> Any:
        """See SSHSession."""
        return super().request_pty_req(data) if self.avatar.may_shell else 1

    def request_shell(self, data: bytes) -> Any:
        """See SSHSession; who may not have one is told so, as people try ssh first."""
        if self.avatar.may_shell:
            return super().request_shell(data)
        self.conn.transport.factory.reactor.callLater(0, self._refuse)
        return 1

    def _refuse(self) -> None:
        self.write(_NO_SHELL)
        self.conn.sendRequest(self, b"exit-status", b"\0\0\0\1")
        self.loseConnection()

    def request_exec(self, data: bytes) -> Any:
        """See SSHSession: no command is run."""
        return self.request_shell(data) if not self.avatar.may_shell else 0

    def request_env(self, data: bytes) -> Any:
        """See SSHSession: no variable is taken."""
        return 0

    def startWriting(self) -> None:
        """The client takes data again."""
        self.conn.transport.wake()


class User(ConchUser):
    """Somebody who has logged in.

    Args:
        name: The user.
        root: The folder that is seen; None without files.
        most_open: Files and folders that may be open at one time on the connection.
        pool: The threads for files.
        shell: Makes a session for a shell; None without one.
    """

    def __init__(
        self, name: str, root: Root | None, most_open: int, pool: Any, shell: Callable[[Any], Any] | None
    ) -> None:
        super().__init__()
        self.name = name
        self.opening: Any = None
        self.may_shell = shell is not None
        self._shell = shell
        self._root = root
        self._most_open = most_open
        self._pool = pool
        self.channelLookup[b"session"] = Session
        if root is not None:
            self.subsystemLookup[b"sftp"] = self._sftp

    def __conform__(self, interface: Any) -> Any:
        if interface is ISession and self._shell is not None:
            return self._shell(self)
        return None

    def _sftp(self, data: bytes, avatar: Any) -> Any:
        connection = self.conn.transport
        calls = Calls(connection, self.opening, self._pool)
        assert self._root is not None
        return SftpServer(Files(self._root, calls, connection, self._most_open))


@implementer(IRealm)
class Users:
    """The realm of a section with `root` or `manhole`.

    Args:
        root: The folder, with %u for the user; None without files.
        read_only: Whether files are only read.
        most_open: Files and folders that a connection may have open at one time.
        operators: Who gets a shell; `*` is everybody.
        pool: The threads for files.
        make_shell: User → a session for a shell.
    """

    def __init__(
        self,
        root: str | None,
        read_only: bool,
        most_open: int,
        operators: frozenset[str],
        pool: Any,
        make_shell: Callable[[Any], Any],
    ) -> None:
        self._root = root
        self._read_only = read_only
        self._most_open = most_open
        self._operators = operators
        self._pool = pool
        self._make_shell = make_shell

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        """See IRealm."""
        if IConchUser not in interfaces:
            raise NotImplementedError  # as IRealm wants of a realm for interfaces that it has not
        try:
            name = user_name(avatarId.decode("utf-8") if isinstance(avatarId, bytes) else str(avatarId))
        except ValueError:
            # It becomes a part of a path.
            raise UnauthorizedLogin() from None
        root = None
        if self._root is not None:
            path = "%".join(part.replace("%u", name) for part in self._root.split("%%"))
            root = Root(path, self._read_only)
        shell = self._make_shell if {name, "*"} & self._operators else None
        if root is None and shell is None:
            raise ConchError("neither files nor a shell")
        return IConchUser, User(name, root, self._most_open, self._pool, shell), lambda: None
