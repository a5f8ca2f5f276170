"""Clients that leave, by an end or a reset, at every stage of what they could have asked for."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import struct
import time
from collections.abc import Callable
from typing import Any

from support.http2 import frame, greeting, literal

__all__ = ["Leaver", "requests"]

_RESET = struct.pack("ii", 1, 0)
_HANDSHAKE = (
    "GET /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_TEXT = b"\x81\x85\x00\x00\x00\x00hello"
_HEADERS, _DATA, _RST, _UPDATE = 1, 0, 3, 8


def requests(paths: list[str], *, websocket: bool) -> list[bytes]:
    """What a client of HTTP/1.1 could say, in full."""
    found = [_HANDSHAKE.encode() + _TEXT * 3] if websocket else []
    for path in paths:
        get = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        post = f"POST {path} HTTP/1.1\r\nHost: x\r\n"
        found += [
            get,
            get * 3,
            f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() + get,
            f"GET {path} HTTP/1.0\r\n\r\n".encode(),
            f"{post}Content-Length: 200000\r\n\r\n".encode() + bytes(200_000),
            f"{post}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1000\r\n".encode() + bytes(4096) + b"\r\n0\r\n\r\n",
            f"{post}Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello".encode() + get,
            f"{post}Content-Length: 5\r\n\r\nhelloGET / HT TP/1.1\r\n\r\n".encode(),
        ]
    return found


def streams(paths: list[str]) -> list[bytes]:
    """The same for HTTP/2."""
    names = {":method": "CONNECT", ":protocol": "websocket", ":scheme": "http", ":path": "/live", ":authority": "a"}
    tunnel = b"".join(literal(*one) for one in (names | {"sec-websocket-version": "13"}).items())
    found = [
        greeting() + frame(_HEADERS, 4, 1, tunnel) + frame(_DATA, 0, 1, _TEXT * 3),
        greeting()
        + b"".join(frame(_HEADERS, 4, one, tunnel) + frame(_DATA, 0, one, _TEXT * 20) for one in range(1, 21, 2)),
        greeting() + frame(_HEADERS, 4, 1, tunnel) + frame(_DATA, 1, 1, _TEXT),
        greeting() + frame(_HEADERS, 4, 1, tunnel) + frame(_DATA, 0, 1, _TEXT) + frame(_RST, 0, 1, bytes(4)),
    ]
    for path in paths:
        get, post = [method + b"\x86\x01\x01a" + literal(":path", path) for method in (b"\x82", b"\x83")]
        wide = frame(4, 0, 0, struct.pack(">HL", 4, 2**31 - 1)) + frame(_UPDATE, 0, 0, struct.pack(">L", 2**30))
        found += [
            greeting() + frame(_HEADERS, 5, 1, get),
            greeting() + wide + b"".join(frame(_HEADERS, 5, number, get) for number in range(1, 41, 2)),
            greeting() + frame(_HEADERS, 5, 1, get) + frame(_RST, 0, 1, bytes((0, 0, 0, 8))),
            greeting()
            + frame(_HEADERS, 4, 1, post)
            + frame(_DATA, 0, 1, bytes(16384)) * 3
            + frame(_DATA, 1, 1, b"end"),
            greeting() + wide + frame(_HEADERS, 4, 1, post) + frame(_HEADERS, 5, 3, get) + frame(_RST, 0, 1, bytes(4)),
            greeting() + frame(_HEADERS, 5, 1, get) + frame(7, 0, 0, bytes(8)),
            greeting() + frame(_HEADERS, 5, 2, get),
        ]
    return found


class Leaver:
    """Makes clients that leave.

    Args:
        address: Where to.
        says: What one could say in full.
        seed: Which clients there are.
        context: For clients over TLS.
        alpn: Whether what is said is HTTP/2.
    """

    def __init__(self, address: Any, says: list[bytes], seed: int, context: ssl.SSLContext | None = None) -> None:
        self._address = address
        self._says = says
        self._random = random.Random(seed)
        self._context = context

    def run(self, count: int, ends: float) -> int:
        """Makes so many clients, some at a time, and none after a time of the monotonic clock.

        Returns:
            How many there were.
        """
        some = self._random
        open_ones: list[tuple[socket.socket, Callable[[], None]]] = []
        made = 0
        while made < count and time.monotonic() < ends:
            made += 1
            with contextlib.suppress(OSError):
                open_ones.append(self._one())
            while len(open_ones) > some.choice((0, 1, 5, 20)):
                sock, leave = open_ones.pop(some.randrange(len(open_ones)))
                with contextlib.suppress(OSError):
                    leave()
                sock.close()
        for sock, _leave in open_ones:
            sock.close()
        return made

    def _one(self) -> tuple[socket.socket, Callable[[], None]]:
        """A client that has said a part of what it could; and what it does in the end."""
        some = self._random
        sock = socket.socket()
        sock.settimeout(5)
        if some.random() < 0.3:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(self._address)
        data = some.choice(self._says)
        said = self._part(data)
        turn = None
        if self._context is not None:
            turn = _Session(self._context, some)
        if turn is None:
            self._send(sock, said)
        else:
            turn.shake(sock, some.choice((None, None, None, 0, 1, 2)))
            if turn.done and said:
                self._send(sock, turn.encrypted(said))
        read = some.choice((0, 0, 1, 100, 70_000))
        reset, half, late = some.random() < 0.5, some.random() < 0.2, some.choice((0, 0, 0.001, 0.01))

        def leave() -> None:
            sock.settimeout(0.02)
            if half:
                sock.shutdown(socket.SHUT_WR)
            if read:
                with contextlib.suppress(TimeoutError):
                    sock.recv(read)
            if late:
                time.sleep(late)
            if turn is not None and turn.done and some.random() < 0.3:
                sock.send(turn.ending())
            if reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

        return sock, leave

    def _part(self, data: bytes) -> bytes:
        some = self._random
        if some.random() < 0.5:
            return data
        return data[: some.randrange(min(len(data), some.choice((30, 300, 200_000))) + 1)]

    def _send(self, sock: socket.socket, data: bytes) -> None:
        some = self._random
        at = 0
        sock.settimeout(0.05)
        with contextlib.suppress(TimeoutError):
            while at < len(data):
                size = some.choice((1, 10, 1000, 100_000, 100_000))
                sock.sendall(data[at : at + size])
                at += size
                if some.random() < 0.2:
                    time.sleep(0.0005)


class _Session:
    """A client's end of TLS that may stop anywhere."""

    def __init__(self, context: ssl.SSLContext, some: random.Random) -> None:
        self._coming, self._going = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._coming, self._going, server_hostname="localhost")
        self._random = some
        self.done = False

    def shake(self, sock: socket.socket, most: int | None) -> None:
        """Shakes hands, or only so many flights of it, of which the last one may be a part."""
        flights = 0
        while not self.done:
            try:
                self._tls.do_handshake()
                self.done = True
            except ssl.SSLWantReadError:
                pass
            data = self._going.read()
            flights += 1
            if most is not None and flights > most:
                self.done = False
                sock.sendall(data[: self._random.randrange(len(data) + 1)])
                return
            if data:
                sock.sendall(data)
            if not self.done:
                data = sock.recv(65536)
                if not data:
                    return
                self._coming.write(data)

    def encrypted(self, data: bytes) -> bytes:
        self._tls.write(data)
        return self._going.read()

    def ending(self) -> bytes:
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        return self._going.read()
