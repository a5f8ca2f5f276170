"""What makes no sense to a protocol of Twisted's that says so by an exception."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger, LogLevel

from appd.auth.portal import host_of

__all__ = ["ending_with"]

_log = Logger(namespace="appd.nonsense")


def ending_with(protocol: Any, server: str) -> Any:
    """Has a protocol end its connection at what it cannot read, with a line in place of a traceback.

    The reactor does the same with every error of a protocol, and takes it for one of the program: anybody who connects
    could fill the log with tracebacks. `appd log-level debug appd.nonsense` shows them.

    Args:
        protocol: The protocol, before it has a connection; errors of what it calls in other ways are not touched.
        server: The name of the server.

    Returns:
        The protocol.
    """
    inner = protocol.dataReceived

    def data_received(data: bytes) -> None:
        try:
            inner(data)
        except Exception as error:
            peer = host_of(protocol.transport)
            told: dict[str, Any] = {"appd_server": server, "appd_peer": peer or "a UNIX socket", "error": error}
            _log.info("{appd_server}: {appd_peer} has sent what makes no sense, and is cut: {error!r}", **told)
            _log.failure("{appd_server}: what made no sense", level=LogLevel.debug, **told)
            protocol.transport.abortConnection()

    protocol.dataReceived = data_received
    return protocol
