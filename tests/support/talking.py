"""A client's end of a TLS connection that behaves as a plain socket: it can end its side and still read."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Any


class Talker:
    """TLS in memory over a socket; Python's own SSLSocket cannot read any more when it has sent its close_notify.

    Args:
        sock: The socket, connected; it belongs to this.
        context: The context.
        name: The name to ask for.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, name: str = "localhost") -> None:
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        try:
            self._turn(self.tls.do_handshake)
        except BaseException:
            sock.close()
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def _turn(self, step: Any) -> Any:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._flush()
                data = self._sock.recv(65536)
                self._incoming.write(data) if data else self._incoming.write_eof()
            finally:
                self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._sock.sendall(self._outgoing.read())

    def send(self, data: bytes) -> int:
        self.sendall(data)
        return len(data)

    def sendall(self, data: bytes) -> None:
        self.tls.write(data)
        self._flush()

    def recv(self, size: int) -> bytes:
        try:
            data: bytes = self._turn(lambda: self.tls.read(size))
        except ssl.SSLZeroReturnError:
            return b""
        return data

    def shutdown(self, _how: int) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):  # the other side's end has not come
            self.tls.unwrap()
        self._flush()

    def __enter__(self) -> Talker:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()
