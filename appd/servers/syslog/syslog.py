"""Syslog: what comes over any kind of socket becomes an entry of the journal, its parts fields.

The names of the fields are those that journald gives to what it reads from /dev/log (systemd.journal-fields(7)), and
beside them SYSLOG_HOSTNAME, SYSLOG_MSGID, SYSLOG_STRUCTURED_DATA as written and a field for each parameter of it.
Nobody vouches for what a message says of itself: _HOSTNAME and _PID, which journald knows, stay those of this process;
the peer is APPD_PEER.
"""

from __future__ import annotations

import re
import time
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.logger import Logger
from zope.interface import implementer

from appd.interfaces import IDrainable, IServerType, Section
from appd.journal.entry import Entry, Value
from appd.limits import StreamLimits
from appd.listening.lull import Lull
from appd.servers import ServerType
from appd.servers.syslog.framing import Frames, FramingError
from appd.servers.syslog.message import Message, parse
from appd.service import ServerService

__all__ = ["fields_of", "server_type"]

_log = Logger(namespace="appd.syslog")

# UDP and TCP: RFC 5426 and RFC 6587; TLS has 6514.
_PORT = 514
# Senders keep their connections open and are silent for days.
_USUAL = StreamLimits()
_USUAL_SIZE = 65536
_NOT_IN_A_NAME = re.compile(r"[^A-Z0-9]+")
# What is said of senders that break the rules, once in so many seconds.
_TELL_AGAIN = 60.0


def fields_of(message: Message, server: str, peer: str) -> dict[str, Value]:
    """The fields of a message.

    Args:
        message: The message.
        server: The name of the server.
        peer: The address that it came from; "" is not said.
    """
    said: dict[str, Value] = {
        "SYSLOG_TIMESTAMP": message.timestamp,
        "SYSLOG_HOSTNAME": message.host,
        "SYSLOG_PID": message.process,
        "SYSLOG_MSGID": message.kind,
        "SYSLOG_STRUCTURED_DATA": message.structured,
        "APPD_PEER": peer,
    }
    fields: dict[str, Value] = {
        "SYSLOG_IDENTIFIER": message.program or "unknown",
        "SYSLOG_FACILITY": message.facility,
        "APPD_SERVER": server,
        **{name: value for name, value in said.items() if value},
    }
    for element, name, value in message.parameters:
        # systemd.journal-fields(7): upper case, digits, underscores, at most 64.
        field = "SYSLOG_SD_" + _NOT_IN_A_NAME.sub("_", f"{element}_{name}".upper()).strip("_")
        fields.setdefault(field[:64], value)
    return fields


class _Intake:
    """What every socket of a server gives its messages to."""

    def __init__(self, server: str, log: Any, most: int) -> None:
        self.server = server
        self.most = most
        self._log = log
        self._told = 0.0

    def take(self, data: bytes, peer: str) -> None:
        """Takes a message without its frame; at its end what is too long is cut off."""
        message = parse(data[: self.most])
        fields = fields_of(message, self.server, peer)
        if len(data) > self.most:
            fields["APPD_CUT"] = len(data)
        self._log.put(Entry(message.text, message.severity, fields, time.time()))

    def tell(self, reason: str, peer: str) -> None:
        """Says what a sender has done wrong."""
        now = time.monotonic()
        if now >= self._told:
            self._told = now + _TELL_AGAIN
            _log.warn(
                "{appd_server}: {reason}: the connection ends", appd_server=self.server, appd_peer=peer, reason=reason
            )


@implementer(IHalfCloseableProtocol)
class _Stream(Protocol):
    """A sender over TCP, TLS or a UNIX stream."""

    factory: _Streams
    transport: Any

    def connectionMade(self) -> None:
        self._peer = getattr(self.transport.getPeer(), "host", "") or ""
        self._frames = Frames(self.factory.intake.most)
        self._lull = Lull(self, self.transport.loseConnection, lambda: self._frames.partial)
        self.factory.open.add(self)
        if self.factory.draining:
            self.drain()

    def drain(self) -> None:
        self._lull.begin(self.factory.reactor)

    def dataReceived(self, data: bytes) -> None:
        self._lull.heard()
        try:
            messages = self._frames.feed(data)
        except FramingError as error:
            messages = error.before
            self.factory.intake.tell(str(error), self._peer)
            self.transport.loseConnection()
        self._take(messages)

    def _take(self, messages: list[bytes]) -> None:
        for one in messages:
            self.factory.intake.take(one, self._peer)

    def readConnectionLost(self) -> None:
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Nothing is ever written."""

    def connectionLost(self, reason: Any = None) -> None:
        self._lull.stop()
        self.factory.open.discard(self)
        self._take(self._frames.end())


@implementer(IDrainable)
class _Streams(Factory):
    protocol: Any = _Stream
    noisy = False

    def __init__(self, intake: _Intake, reactor: Any) -> None:
        self.intake = intake
        self.reactor = reactor
        self.open: set[_Stream] = set()
        self.draining = False

    def drain(self) -> None:
        self.draining = True
        for one in list(self.open):
            one.drain()


class _Datagrams(DatagramProtocol):
    noisy = False

    def __init__(self, intake: _Intake) -> None:
        super().__init__()
        self._intake = intake

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        # Over UNIX datagrams an address is a path, and nobody's.
        self._intake.take(datagram, addr[0] if isinstance(addr, tuple) else "")


class _ToStandardLog:
    """In place of the log of a process, where no file describes the server."""

    def put(self, entry: Entry) -> None:
        _log.info("{text}", text=entry.message, **{name.lower(): value for name, value in entry.fields.items()})


@implementer(IServerType)
class _SyslogServerType:
    """Takes messages into the log of the process."""

    kinds = frozenset({"stream", "datagram"})
    limits = _USUAL.keys
    outgoing = False
    starts_tls = False
    processes = "all"

    def create(
        self,
        name: str,
        db: Any,
        ip: str | None = None,
        port: int | None = None,
        backlog: int = 50,
        address: Any = None,
        section: Section | None = None,
    ) -> ServerService:
        """Makes a server; see `appd.interfaces.IServerType.create`."""
        log: Any = _ToStandardLog()
        most = _USUAL_SIZE
        if section is not None:
            log, most = section.host.log or log, section.settings.message_size
        intake = _Intake(name, log, most)

        def streams(*_arguments: Any) -> _Streams:
            from twisted.internet import reactor

            return _Streams(intake, section.host.reactor if section is not None else reactor)

        plain = ServerType(
            streams,
            _PORT,
            datagram=lambda *_arguments: _Datagrams(intake),
            name="syslog",
            processes=self.processes,
            limits=_USUAL,
        )
        return plain.create(name, db, ip, port, backlog, address, section)


server_type = _SyslogServerType()
