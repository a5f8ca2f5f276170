"""What a protocol of Twisted's cannot read, or would collect without an end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger, LogLevel

from appd.auth.portal import host_of

__all__ = ["ending_with"]

_log = Logger(namespace="appd.nonsense")


def ending_with(protocol: Any, server: str, begun: Callable[[], Any], most: int) -> Any:
    """Has a protocol end its connection at what it cannot read, with a line in place of a traceback.

    The reactor does the same with every error of a protocol, and takes it for one of the program: anybody who connects
    could fill the log with tracebacks. `appd log-level debug appd.nonsense` shows them.

    Args:
        protocol: The protocol, before it has a connection; errors of what it calls in other ways are not touched.
        server: The name of the server.
        begun: Gives the message that has begun and not ended, another object for each; None between two.
        most: The longest message, in bytes about: Twisted's protocols bound the parts of one, and not how many it has.

    Returns:
        The protocol.
    """
    inner = protocol.dataReceived
    message: Any = None
    length = 0

    def data_received(data: bytes) -> None:
        nonlocal message, length
        try:
            inner(data)
        except Exception as error:
            _cut(protocol, server, f"has sent what makes no sense, and is cut: {error!r}")
            _log.failure("{appd_server}: what made no sense", level=LogLevel.debug, appd_server=server)
            return
        last, message = message, begun()
        length = length + len(data) if message is last and message is not None else 0
        if length > most:
            _cut(protocol, server, f"has sent more than {most} bytes of one message (message-size), and is cut")

    protocol.dataReceived = data_received
    return protocol


def _cut(protocol: Any, server: str, why: str) -> None:
    peer = host_of(protocol.transport) or "a UNIX socket"
    _log.info("{appd_server}: {appd_peer} {why}", appd_server=server, appd_peer=peer, why=why)
    protocol.transport.abortConnection()
