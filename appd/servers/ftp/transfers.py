"""The part of a control connection that gets data connections."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import defer
from twisted.protocols import ftp

from appd.servers.ftp.data import Data, plain

__all__ = ["Transfers"]

# How long a client may take for the connection of a transfer, in seconds.
_PATIENCE = 30.0
# Commands that are sent ahead meanwhile, in bytes.
_MOST_AHEAD = 64 * 1024
# ABOR among them. RFC 959, 4.1.3: in front of it may stand what Telnet has for "interrupt" and "look here".
_TELNET = b"\xff\xf4\xf2"
_ABORT = re.compile(rb"(?:\A|\n)[\xff\xf4\xf2]*ABOR\r\n", re.I)


class Transfers(ftp.FTP):  # type: ignore[misc, unused-ignore]  # old releases have no types
    """Announces data connections, waits for them and forgets them.

    Active mode is not spoken: the server would connect to wherever a client says (RFC 2577), and from a unit without a
    network it could not.
    """

    transport: Any
    factory: Any

    def connectionMade(self) -> None:
        self._here = self.transport.getHost()
        self._data: Data | None = None
        self._arrived: defer.Deferred[Data] | None = None
        self._give: Callable[[Data | None], None] | None = None
        self._close_port: Any = None
        self._announced = (0, False)
        self._protected = False
        self._under_way: Data | None = None
        handle = self.transport.getHandle()
        if isinstance(handle, socket.socket):
            # Clients send ABOR as urgent data; the last byte of the line would not be read otherwise: tcp(7).
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        """See FTP; what is sent ahead has bounds, and is not waited for if it is ABOR."""
        super().dataReceived(data)
        if not self.paused:
            return
        if _ABORT.search(self._buffer):
            self._abort()
        elif len(self._buffer) > _MOST_AHEAD:
            self.transport.pauseProducing()

    def lineReceived(self, line: bytes) -> None:
        """See FTP."""
        super().lineReceived(line.lstrip(_TELNET))

    def _abort(self) -> None:
        """Ends the transfer that is under way; the client is told that first, and then the answer to ABOR."""
        give, self._give = self._give, None
        if give is not None:
            give(None)
        elif self._under_way is not None and not self._under_way.ended:
            self._under_way.transport.abortConnection()

    def ftp_PORT(self, address: str = "") -> Any:
        """RFC 959, 4.1.2; not spoken."""
        return self.sendLine("502 there is no active mode: use EPSV or PASV.")

    ftp_EPRT = ftp_PORT

    def ftp_PASV(self) -> None:
        """RFC 959, 4.1.2."""
        host = self.factory.passive_host or plain(self._here.host)
        if ":" in host:
            self.sendLine("522 use EPSV: PASV has no room for an IPv6 address.")
            return
        port = self._expect()
        if port:
            self.sendLine(f"227 Entering Passive Mode ({ftp.encodeHostPort(host, port)}).")

    def ftp_EPSV(self, protocol: str = "") -> None:
        """RFC 2428, 3."""
        if protocol.upper() == "ALL":
            self.sendLine("200 so be it.")
            return
        port = self._expect()
        if port:
            self.sendLine(f"229 Entering Extended Passive Mode (|||{port}|).")

    def _expect(self) -> int:
        if self._close_port is not None and self._announced[1] == self._protected:
            return self._announced[0]  # nobody has come to it yet
        self._drop_data()
        self._arrived = defer.Deferred()
        try:
            port, self._close_port = self.factory.pool.expect(
                plain(self._here.host), self._peer_key, self._ready, self._protected
            )
        except LookupError:
            self._arrived = None
            self.sendLine("425 no port for a data connection is free.")
            return 0
        self._announced = (int(port), self._protected)
        return self._announced[0]

    @property
    def _peer_key(self) -> str:
        return plain(getattr(self.transport.getPeer(), "host", ""))

    def _ready(self, data: Data) -> None:
        if self._arrived is None:
            data.transport.abortConnection()
            return
        self._data = data
        self._stop_expecting()
        self._arrived.callback(data)

    def _stop_expecting(self) -> None:
        close, self._close_port = self._close_port, None
        if close is not None:
            close()

    def _drop_data(self) -> None:
        self._stop_expecting()
        data, self._data, self._arrived = self._data, None, None
        if data is not None and not data.ended:
            data.transport.abortConnection()
        give, self._give = self._give, None
        if give is not None:
            give(None)

    @defer.inlineCallbacks
    def _take_data(self) -> Any:
        """The data connection; None when it does not come, which the client has been told then."""
        if self._arrived is None:
            raise ftp.BadCmdSequenceError("first EPSV or PASV")
        self.sendLine("150 here it comes.")
        waiting: defer.Deferred[Any] = defer.Deferred()

        def give(data: Data | None) -> None:
            if not waiting.called:
                waiting.callback(data)

        self._arrived.addCallback(give)
        self._give = give
        late = self.factory.reactor.callLater(_PATIENCE, give, None)
        # FTP reads nothing while a command is under way, and would not see that the client has gone, or ABOR.
        self.transport.resumeProducing()
        self._under_way = data = yield waiting
        self._give = None
        if late.active():
            late.cancel()
        self._arrived = self._data = None
        if data is None:
            self._stop_expecting()
            self.reply(ftp.CANT_OPEN_DATA_CNX)
        return data

    def cleanupDTP(self) -> None:
        """See FTP."""
        self._drop_data()
