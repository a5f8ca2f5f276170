"""A control connection: twisted.protocols.ftp's, with logins, TLS (RFC 4217) and data connections of our own.

ASCII mode is taken and changes nothing, as in most servers: files are bytes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from twisted.cred.credentials import UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet import defer
from twisted.internet.interfaces import ISSLTransport
from twisted.protocols import ftp

from appd.auth.portal import host_of
from appd.limits import logged_in
from appd.servers.ftp.listing import as_ls, bare, facts, listed
from appd.servers.ftp.transfers import Transfers
from appd.servers.rooted import Entry

__all__ = ["Session"]

_ANONYMOUS = ("anonymous", "ftp")
_LOGINS = 3
_BLOCK = 128 * 1024
_FEATURES = ("EPSV", "MDTM", "MLST type*;size*;modify*;", "PASV", "REST STREAM", "SIZE", "UTF8")


class Session(Transfers):
    """One connection."""

    PUBLIC_COMMANDS = ["AUTH", "FEAT", "NOOP", "OPTS", "PBSZ", "PROT", "QUIT", "SYST"]  # noqa: RUF012  # Twisted has it so
    timeOut: Any = None  # that of the connection counts
    transport: Any
    factory: Any
    shell: Any
    workingDirectory: Any

    def connectionMade(self) -> None:
        self._peer = host_of(self.transport)
        self._failures = 0
        self._offset = 0
        self._busy = 0
        self._asked = True
        self._later: Any = None
        self.factory.open.add(self)
        super().connectionMade()
        self._protected = self.is_secure
        if self.factory.draining:
            self.drain()

    @property
    def is_secure(self) -> bool:
        """Whether nobody on the way can read it."""
        return bool(ISSLTransport.providedBy(self.transport))

    def lineReceived(self, line: bytes) -> None:
        """See FTP."""
        self._asked = True
        super().lineReceived(line)

    def processCommand(self, cmd: str, *params: str) -> Any:
        """See FTP; what is under way is known, so that a drain waits for it."""
        self._busy += 1
        if self.state == self.RENAMING and cmd.upper() != "RNTO":
            # Twisted's takes nothing but RNTO any more then, for the rest of the connection.
            self.state = self.AUTHED
        return defer.maybeDeferred(super().processCommand, cmd, *params).addBoth(self._processed)

    def _processed(self, result: Any) -> Any:
        self._busy -= 1
        return result

    # Logins.

    def ftp_USER(self, username: str = "") -> Any:
        """RFC 959, 4.1.1."""
        if not username:
            raise ftp.CmdSyntaxError("USER requires an argument")
        anonymous = self.factory.anonymous and username.lower() in _ANONYMOUS
        if not anonymous and not self.is_secure and not self.factory.login_without_tls:
            return self.sendLine("530 first AUTH TLS: passwords come over TLS only.")
        self._user = username
        self.state = self.INAUTH
        return ftp.GUEST_NAME_OK_NEED_EMAIL if anonymous else (ftp.USR_NAME_OK_NEED_PASS, username)

    def ftp_PASS(self, password: str = "") -> Any:
        """RFC 959, 4.1.1."""
        user = self._user
        self.state = self.UNAUTH
        if self.factory.anonymous and user.lower() in _ANONYMOUS:
            return self._logged_in(self.factory.anonymous_shell(), ftp.GUEST_LOGGED_IN_PROCEED)
        portal = self.factory.portal_for(self.transport)
        if portal is None:
            raise ftp.AuthorizationError()
        shown = UsernamePassword(user.encode("latin-1"), password.encode("latin-1"))
        login = portal.login(shown, None, ftp.IFTPShell)
        return login.addCallbacks(lambda found: self._logged_in(found[1], ftp.USR_LOGGED_IN_PROCEED), self._refused)

    def _logged_in(self, shell: Any, reply: str) -> str:
        if self.transport is not None:
            logged_in(self.transport)
        self.shell, self.workingDirectory, self.state = shell, [], self.AUTHED
        return reply

    def _refused(self, failure: Any) -> Any:
        failure.trap(UnauthorizedLogin)
        self._failures += 1
        if self._failures >= _LOGINS and self.transport is not None:
            self.sendLine("421 too many failed logins.")
            self.disconnected = True
            self.transport.loseConnection()
            return None
        raise ftp.AuthorizationError()

    # TLS.

    def ftp_AUTH(self, mechanism: str = "") -> Any:
        """RFC 4217, 4."""
        if self.factory.starter is None or mechanism.upper() not in ("TLS", "TLS-C", "SSL"):
            return self.sendLine("504 that is not available.")
        if self.is_secure:
            return self.sendLine("503 TLS is there.")
        self.sendLine("234 go ahead.")
        # Whatever was said before may have been said by somebody in between.
        self.state = self.UNAUTH
        self.factory.starter.begin(self)
        return None

    def ftp_PBSZ(self, size: str = "") -> Any:
        """RFC 4217, 8: TLS needs none."""
        return self.sendLine("200 PBSZ=0" if self.is_secure else "503 first AUTH TLS.")

    def ftp_PROT(self, level: str = "") -> Any:
        """RFC 4217, 9."""
        if not self.is_secure:
            return self.sendLine("503 first AUTH TLS.")
        if level.upper() not in ("P", "C"):
            return self.sendLine("536 C or P.")
        self._protected = level.upper() == "P"
        return self.sendLine("200 so be it.")

    def ftp_FEAT(self) -> None:
        """RFC 2389."""
        tls = ("AUTH TLS", "PBSZ", "PROT") if self.factory.starter is not None else ()
        self.sendLine("211-Features:")
        for one in sorted((*_FEATURES, *tls)):
            self.sendLine(f" {one}")
        self.sendLine("211 End")

    def ftp_OPTS(self, option: str = "") -> None:
        """RFC 2389: names are UTF-8 in any case."""
        self.sendLine("200 so it is." if option.upper().startswith(("UTF8", "MLST")) else "501 that is no option.")

    def ftp_TYPE(self, kind: str) -> Any:
        """RFC 959, 3.1.1: behind the type may stand what it is for, N for no printer, or the size of a byte."""
        return super().ftp_TYPE("I" if kind.upper() == "L 8" else kind.replace(" ", ""))

    def ftp_ALLO(self, *_size: str) -> Any:
        """RFC 959, 4.1.3: nothing has to be reserved."""
        return self.sendLine("202 that is not needed.")

    def ftp_ABOR(self) -> Any:
        """RFC 959, 4.1.3; a transfer that is under way is ended by `Transfers`, and answered before."""
        self._offset = 0
        return self.sendLine("226 nothing is under way.")

    def ftp_PWD(self) -> Any:
        """RFC 959, 4.1.3."""
        return self.sendLine(f"257 {_quoted(self.workingDirectory)} is where you are.")

    def ftp_CDUP(self) -> Any:
        """RFC 959, 4.1.1: above the root is the root."""
        return super().ftp_CDUP() if self.workingDirectory else (ftp.REQ_FILE_ACTN_COMPLETED_OK,)

    @defer.inlineCallbacks
    def ftp_MKD(self, path: str) -> Any:
        """RFC 959, 4.1.3."""
        names = self._segments(path)
        yield self.shell.makeDirectory(names)
        return self.sendLine(f"257 {_quoted(names)} is made.")

    def ftp_RNTO(self, toName: str) -> Any:
        """RFC 959, 4.1.3."""
        if self.state != self.RENAMING:
            raise ftp.BadCmdSequenceError("first RNFR")
        return super().ftp_RNTO(toName)

    def _segments(self, path: str) -> list[str]:
        try:
            return list(ftp.toSegments(self.workingDirectory, path))
        except ftp.InvalidPath:
            raise ftp.FileNotFoundError(path) from None

    def ftp_REST(self, offset: str = "") -> Any:
        """RFC 3659, 5."""
        if not offset.isascii() or not offset.isdigit() or len(offset) > 18:
            raise ftp.CmdArgSyntaxError(offset)
        self._offset = int(offset)
        return self.sendLine(f"350 from {self._offset}.")

    @defer.inlineCallbacks
    def ftp_RETR(self, path: str) -> Any:
        """RFC 959, 4.1.3."""
        names, offset, self._offset = self._segments(path), self._offset, 0
        shell = self.shell
        fd = yield shell.call(lambda: shell.root.open(_bytes(names), os.O_RDONLY), path)
        try:
            data = yield self._take_data()
            if data is None:
                return None
            place = [offset]

            def read() -> bytes:
                block = os.pread(fd, _BLOCK, place[0])
                place[0] += len(block)
                return block

            good = yield data.send(lambda: shell.call(read, path))
        finally:
            os.close(fd)
        return ftp.TXFR_COMPLETE_OK if good else ftp.CNX_CLOSED_TXFR_ABORTED

    def ftp_STOR(self, path: str) -> Any:
        """RFC 959, 4.1.3."""
        return self._store(path, 0 if self._offset else os.O_TRUNC)

    def ftp_APPE(self, path: str) -> Any:
        """RFC 959, 4.1.3."""
        return self._store(path, os.O_APPEND)

    @defer.inlineCallbacks
    def _store(self, path: str, flags: int) -> Any:
        names, offset, self._offset = self._segments(path), self._offset, 0
        shell = self.shell
        fd = yield shell.call(lambda: shell.root.open(_bytes(names), os.O_WRONLY | os.O_CREAT | flags), path)
        try:
            data = yield self._take_data()
            if data is None:
                return None
            os.lseek(fd, offset, os.SEEK_SET)
            block = yield data.receive()
            while block is not None:
                yield shell.call(lambda block=block: _write(fd, block), path)
                block = yield data.receive()
            good = data.is_good
        except ftp.FTPCmdError:
            data.transport.abortConnection()
            return ftp.REQ_ACTN_ABRTD_LOCAL_ERR
        finally:
            os.close(fd)
        return ftp.TXFR_COMPLETE_OK if good else ftp.CNX_CLOSED_TXFR_ABORTED

    def ftp_LIST(self, path: str = "") -> Any:
        """RFC 959, 4.1.3; options of ls are passed over."""
        return self._list(path if not path.startswith("-") else path.partition(" ")[2], as_ls)

    def ftp_NLST(self, path: str = "") -> Any:
        """RFC 959, 4.1.3."""
        return self._list(path if not path.startswith("-") else path.partition(" ")[2], bare)

    def ftp_MLSD(self, path: str = "") -> Any:
        """RFC 3659, 7."""
        return self._list(path, facts)

    @defer.inlineCallbacks
    def ftp_MLST(self, path: str = "") -> Any:
        """RFC 3659, 7: of one file, over the control connection."""
        names = self._segments(path)
        shell = self.shell
        shown = "/" + "/".join(names)
        found = yield shell.call(lambda: shell.root.stat(_bytes(names)), path)
        line = facts(Entry(shown.encode("latin-1"), found)).decode("latin-1")
        self.sendLine(f"250-what it is\r\n {line}\r\n250 End")

    @defer.inlineCallbacks
    def _list(self, path: str, line: Any) -> Any:
        names = self._segments(path)
        shell = self.shell

        def text() -> bytes:
            return b"".join(line(one) + b"\r\n" for one in listed(shell.root, _bytes(names)))

        listing = yield shell.call(text, path)
        data = yield self._take_data()
        if data is None:
            return None
        parts = iter([listing])
        good = yield data.send(lambda: defer.succeed(next(parts, b"")))
        return ftp.TXFR_COMPLETE_OK if good else ftp.CNX_CLOSED_TXFR_ABORTED

    # The end.

    def drain(self) -> None:
        """Ends the connection when no transfer is under way and nothing has come for a moment."""
        self._asked = False
        self._later = self.factory.reactor.callLater(self.factory.lull, self._end_if_idle)

    def _end_if_idle(self) -> None:
        if self._asked or self._busy:
            self.drain()
        else:
            self.sendLine("421 the server is going down or reloading.")
            self.disconnected = True
            self.transport.loseConnection()

    def connectionLost(self, reason: Any = None) -> None:
        """See FTP."""
        self.disconnected = True
        self.factory.open.discard(self)
        if self._later is not None and self._later.active():
            self._later.cancel()
        self._drop_data()
        super().connectionLost(reason)

    def sendLine(self, line: Any) -> None:
        """See FTP; nothing to who has gone."""
        if self.transport is not None and not self.transport.disconnecting:
            super().sendLine(line)


def _quoted(names: Sequence[str]) -> str:
    # RFC 959, appendix II: a quote is two.
    return '"/' + "/".join(names).replace('"', '""') + '"'


def _bytes(names: Sequence[str]) -> bytes:
    return "/".join(names).encode("latin-1")


def _write(fd: int, block: bytes) -> None:
    left = memoryview(block)
    while left:
        left = left[os.write(fd, left) :]
