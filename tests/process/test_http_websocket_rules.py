"""The rules of RFC 6455 that the Autobahn suite checks, each by raw frames and what has to come back."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from support.running import APPD, Running

APPLICATION = """
async def app(scope, receive, send):
    if scope["type"] != "websocket":
        raise ValueError("no lifespan")
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
"""
# Opcodes, and the bits of the first byte: RFC 6455, 5.2.
MORE, TEXT, BYTES, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FIN, RSV1, RSV2, RSV3 = 0x80, 0x40, 0x20, 0x10


class Received(NamedTuple):
    """A frame that came."""

    first: int
    payload: bytes


def frame(opcode: int, payload: bytes = b"", bits: int = FIN, *, masked: bool = True, size: bytes = b"") -> bytes:
    """A frame as a client sends it; `size` is an encoding of the length in place of the shortest."""
    length = len(payload)
    if not size:
        if length < 126:
            size = bytes([length])
        else:
            size = b"\x7e" + length.to_bytes(2, "big") if length < 65536 else b"\x7f" + length.to_bytes(8, "big")
    if not masked:
        return bytes([bits | opcode]) + size + payload
    mask = os.urandom(4)
    hidden = bytes(one ^ mask[at % 4] for at, one in enumerate(payload))
    return bytes([bits | opcode, size[0] | 0x80]) + size[1:] + mask + hidden


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


def text(data: str | bytes) -> Received:
    return Received(FIN | TEXT, data.encode() if isinstance(data, str) else data)


def pong(data: bytes) -> Received:
    return Received(FIN | PONG, data)


SNOWMAN = "Hello-µ@ßöäüàá-UTF-8!! ☃ \U0001f600"
SPLIT = SNOWMAN.encode()
# Autobahn's 6.x: κόσμε, then a surrogate, which UTF-8 has not.
KOSME, SURROGATE = "κόσμε".encode(), b"\xed\xa0\x80"

# What is sent, in segments of its own each, and what comes back; a number is the code of the close, behind which the end comes.
Row = tuple[list[bytes], list[Received | int]]
ROWS: dict[str, Row] = {
    # 1 and 2: sizes, control frames.
    **{f"text of {size}": ([frame(TEXT, b"*" * size)], [text(b"*" * size)]) for size in (0, 125, 126, 127, 128, 65535, 65536)},
    **{
        f"bytes of {size}": ([frame(BYTES, b"\xfe" * size)], [Received(FIN | BYTES, b"\xfe" * size)])
        for size in (0, 125, 126, 127, 128, 65535, 65536)
    },
    "byte by byte": ([bytes([one]) for one in frame(TEXT, b"slow" * 40)], [text(b"slow" * 40)]),
    "ping of 0": ([frame(PING)], [pong(b"")]),
    "ping of 125": ([frame(PING, b"\xfe" * 125)], [pong(b"\xfe" * 125)]),
    "ping of 126": ([frame(PING, b"\xfe" * 126)], [1002]),
    "a pong nobody asked for": ([frame(PONG, b"x") + frame(TEXT, b"on")], [text("on")]),
    "ten pings at once": ([b"".join(frame(PING, b"%d" % one) for one in range(10))], [pong(b"%d" % one) for one in range(10)]),
    # 3: reserved bits.
    **{f"bits {bits:#x} of text": ([frame(TEXT, b"x", FIN | bits)], [1002]) for bits in (RSV1, RSV2, RSV3, 0x70)},
    **{f"bits {bits:#x} of a ping": ([frame(PING, b"x", FIN | bits)], [1002]) for bits in (RSV1, RSV2, RSV3)},
    "bits of a close": ([frame(CLOSE, b"\x03\xe8", FIN | RSV3)], [1002]),
    # 4: reserved opcodes.
    **{f"opcode {one}": ([frame(one, b"x")], [1002]) for one in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    # 5: fragments.
    "a ping in two": ([frame(PING, b"a", 0), frame(MORE, b"b")], [1002]),
    "a pong in two": ([frame(PONG, b"a", 0), frame(MORE, b"b")], [1002]),
    "a close in two": ([frame(CLOSE, b"\x03", 0), frame(MORE, b"\xe8")], [1002]),
    "text in two": ([frame(TEXT, b"a", 0), frame(MORE, b"b")], [text("ab")]),
    "text in two at once": ([frame(TEXT, b"a", 0) + frame(MORE, b"b")], [text("ab")]),
    "pings between fragments": (
        [frame(TEXT, b"a", 0), frame(PING, b"1"), frame(MORE, b"b", 0), frame(PING, b"2"), frame(MORE, b"c")],
        [pong(b"1"), pong(b"2"), text("abc")],
    ),
    "pings between fragments at once": (
        [frame(BYTES, b"a", 0) + frame(PING, b"1") + frame(MORE, b"b", 0) + frame(PING, b"2") + frame(MORE, b"c")],
        [pong(b"1"), pong(b"2"), Received(FIN | BYTES, b"abc")],
    ),
    "empty fragments": ([frame(TEXT, b"", 0), frame(MORE, b"", 0), frame(MORE)], [text("")]),
    "a full fragment between empty ones": ([frame(TEXT, b"", 0), frame(MORE, b"x", 0), frame(MORE)], [text("x")]),
    "a continuation of nothing": ([frame(MORE, b"x")], [1002]),
    "a continuation of nothing that goes on": ([frame(MORE, b"x", 0)], [1002]),
    "text in text": ([frame(TEXT, b"a", 0), frame(TEXT, b"b")], [1002]),
    "bytes in text": ([frame(TEXT, b"a", 0), frame(BYTES, b"b")], [1002]),
    # 6: UTF-8, which fails where it breaks and not at the end of the message.
    "all of it": ([frame(TEXT, SPLIT)], [text(SPLIT)]),
    "a character a fragment": (
        [*(frame(TEXT if at == 0 else MORE, SPLIT[at : at + 1], 0) for at in range(len(SPLIT))), frame(MORE)],
        [text(SPLIT)],
    ),
    "a surrogate": ([frame(TEXT, KOSME + SURROGATE + b"edited")], [1007]),
    "a surrogate in a fragment": ([frame(TEXT, KOSME, 0), frame(MORE, SURROGATE, 0)], [1007]),
    "half a surrogate in each fragment": ([frame(TEXT, KOSME + SURROGATE[:2], 0), frame(MORE, SURROGATE[2:], 0)], [1007]),
    "beyond Unicode in the middle": ([frame(TEXT, KOSME, 0), frame(MORE, b"\xf4\x90", 0)], [1007]),
    "cut at the end": ([frame(TEXT, KOSME[:-1])], [1007]),
    "cut at the end of fragments": ([frame(TEXT, KOSME, 0), frame(MORE, b"\xe2\x98")], [1007]),
    **{f"not UTF-8: {one.hex()}": ([frame(TEXT, one)], [1007]) for one in (b"\xff", b"\x80", b"\xc0\xaf", b"\xf8\x88\x80\x80\x80")},
    # The rest of the frame is never sent: what cannot become right is not waited for.
    "a surrogate in a frame that has not ended": ([frame(TEXT, KOSME + SURROGATE + b"edited" * 50)[:-100]], [1007]),
    "beyond Unicode in a frame that has not ended": ([frame(TEXT, KOSME + b"\xf4\x90" + bytes(9000))[:5000]], [1007]),
    "bad bytes in a later segment of a frame": (
        [(whole := frame(TEXT, KOSME + SURROGATE + b"e" * 90))[:18], whole[18:22], whole[22:30]], [1007],
    ),
    "no Unicode characters": ([frame(TEXT, b"\xef\xbf\xbe\xf4\x8f\xbf\xbf\0")], [text(b"\xef\xbf\xbe\xf4\x8f\xbf\xbf\0")]),
    # 7: closes; 1005 of nothing is answered by nothing. 1014 was registered after the RFC; wsproto does not know it.
    "a close of nothing": ([frame(CLOSE)], [1005]),
    "a close of one byte": ([frame(CLOSE, b"\x03")], [1002]),
    "a close of 125 bytes": ([close(1000, b"*" * 123)], [1000]),
    "a close of 126 bytes": ([close(1000, b"*" * 124)], [1002]),
    "a reason that is no UTF-8": ([close(1000, KOSME + SURROGATE)], [1007]),
    "a reason of all kinds": ([close(1000, SPLIT)], [1000]),
    **{
        f"code {code}": ([close(code)], [code])
        for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999)
    },
    **{f"code {code}": ([close(code)], [1002]) for code in (0, 999, 1004, 1005, 1006, 1014, 1015, 1016, 1100, 2000, 2999, 5000, 65535)},
    "text and a ping behind a close": ([close(1000) + frame(TEXT, b"late") + frame(PING)], [1000]),
    "a close in a message": ([frame(TEXT, b"a", 0) + close(1000)], [1000]),
    "two closes": ([close(1000) + close(1001)], [1000]),
    # 5.1: a client masks; 5.2: the shortest length, and none with the highest bit.
    "text that is not masked": ([frame(TEXT, b"hi", masked=False)], [1002]),
    "bytes that are not masked": ([frame(BYTES, bytes(70_000), masked=False)], [1002]),
    "a ping that is not masked": ([frame(PING, b"hi", masked=False)], [1002]),
    "a close that is not masked": ([frame(CLOSE, b"\x03\xe8", masked=False)], [1002]),
    "a length of two bytes in vain": ([frame(TEXT, b"hi", size=b"\x7e\0\x02")], [1002]),
    "a length of eight bytes in vain": ([frame(TEXT, b"hi", size=b"\x7f" + bytes(7) + b"\x02")], [1002]),
    "a length with the highest bit": ([frame(TEXT, b"hi", size=b"\x7f\x80" + bytes(6) + b"\x02")], [1002]),
}  # fmt: skip


class Server:
    """Where connections go, with the handshake done."""

    def __init__(self, running: Running, address: Any) -> None:
        self.running = running
        self.address = address

    def connect(self) -> socket.socket:
        client = socket.create_connection(self.address, timeout=30)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        assert head.startswith(b"HTTP/1.1 101 "), head
        return client


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all of them."""
    folder = tmp_path_factory.mktemp("rules")
    (folder / "rules.py").write_text(APPLICATION)
    (folder / "appd.conf").write_text(
        f"python-path {folder}\n<http web>\n address systemd:name=web\n <asgi>\n  application rules:app\n </asgi>\n</http>\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as sock:
        running = Running([APPD, "run", str(folder / "appd.conf"), "--single"], folder, [("web", sock)])
        try:
            yield Server(running.wait_ready(), sock.getsockname())
            assert running.stop() == 0
        finally:
            running.close()


def take(client: socket.socket, size: int) -> bytes:
    """So many bytes; fewer at the end."""
    data = b""
    while len(data) < size and (part := client.recv(size - len(data))):
        data += part
    return data


def receive(client: socket.socket) -> Received | None:
    """The next frame; none at the end. A server masks nothing."""
    head = take(client, 2)
    if not head:
        return None
    size = head[1]
    assert size < 128, "masked"
    if size > 125:
        size = int.from_bytes(take(client, 2 if size == 126 else 8), "big")
    return Received(head[0], take(client, size))


@pytest.mark.parametrize("row", ROWS)
def test_a_rule(server: Server, row: str) -> None:
    """Each answer is what the rule wants, in this order; behind a close is the end of the connection."""
    sent, wanted = ROWS[row]
    with server.connect() as client:
        for one in sent:
            client.sendall(one)
        for expected in wanted:
            got = receive(client)
            if isinstance(expected, Received):
                assert got == expected
                continue
            assert got is not None and got.first == FIN | CLOSE, got
            assert (int.from_bytes(got.payload[:2], "big") if got.payload else 1005) == expected
            assert len(got.payload) <= 125
            assert client.recv(100) == b""
            return
        client.sendall(frame(TEXT, b"still here"))
        assert receive(client) == text("still here")


def test_all_was_quiet(server: Server) -> None:
    """No rule that a client broke is an error of the server's."""
    assert "Traceback" not in server.running.errors
