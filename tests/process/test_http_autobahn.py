"""WebSockets with autobahn's and websockets' own clients: the families of Autobahn's suite that take a whole client.

Sections 1 to 7 of the suite, which want frames that no client sends, are `test_http_websocket_rules`. Here are 9 (large
messages, sent as frames and in chops), 10 (fragments that the client makes), 12 and 13 (compression, by offer). Not
covered: 8 (there is none), 11 (none either), and the times that section 9 takes down, which `bench/asgi` measures.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from autobahn.asyncio.websocket import WebSocketClientFactory, WebSocketClientProtocol
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateResponseAccept
from support.running import APPD, Running
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import connect

# Of 12 and 13 the suite sends a thousand messages a case, and of 9 up to 16 MB.
LONG = int(os.environ.get("APPD_TEST_SECONDS", "0")) > 60
MESSAGES = 1000 if LONG else 25
LARGEST = (16 if LONG else 2) << 20

APPLICATION = """
async def app(scope, receive, send):
    if scope["type"] != "websocket":
        raise ValueError("no lifespan")
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """An echo, for all of them."""
    folder = tmp_path_factory.mktemp("autobahn")
    (folder / "echoing.py").write_text(APPLICATION)
    (folder / "appd.conf").write_text(
        f"python-path {folder}\n<http web>\n address systemd:name=web\n"
        " <asgi>\n  application echoing:app\n  message-size 20MB\n </asgi>\n</http>\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as sock:
        running = Running([APPD, "run", str(folder / "appd.conf"), "--single"], folder, [("web", sock)])
        try:
            running.wait_ready()
            yield sock.getsockname()[1]
            assert running.stop() == 0
            assert "Traceback" not in running.errors
        finally:
            running.close()


class Case(NamedTuple):
    """What a client of autobahn's sends and has to get back.

    Attributes:
        sizes: The lengths of the messages.
        count: How many there are of each.
        fragment: The client sends fragments of so many bytes; 0 for whole messages.
        chop: It writes so many bytes at a time; 0 for whole frames.
        offers: Of compression: whether contexts are not to be kept, and the bits of the window, by the server.
        random: Whether what is sent can hardly be compressed.
    """

    sizes: tuple[int, ...]
    count: int = 1
    fragment: int = 0
    chop: int = 0
    offers: tuple[tuple[bool, int], ...] = ()
    random: bool = False


KB = 1024
OF_12 = (16, 64, 256, KB, 4 * KB, 8 * KB, 16 * KB, 32 * KB, 64 * KB, 128 * KB)
CASES = {
    "9.1, 9.2: up to the largest": Case((64 * KB, 256 * KB, 1 << 20, LARGEST)),
    **{
        f"9.3, 9.4: in fragments of {size}": Case((1 << 20,), fragment=size)
        for size in (256, KB, 4 * KB, 16 * KB, 64 * KB, 256 * KB, 1 << 20)
    },
    **{f"9.5, 9.6: in chops of {size}": Case((256 * KB,), chop=size) for size in (64, 128, 256, 512, KB, 2 * KB)},
    "9.7, 9.8: many small ones": Case((0, 16, 64, 256, KB, 4 * KB), count=10 * MESSAGES),
    "10.1: fragments that the client makes": Case((65536,), fragment=1300),
    "12: compressed": Case(OF_12, count=MESSAGES, offers=((False, 0),)),
    "12: compressed, in fragments": Case(OF_12, count=MESSAGES, fragment=4096, offers=((False, 0),)),
    "12: what cannot be compressed": Case(OF_12, count=MESSAGES, offers=((False, 0),), random=True),
    "13.1": Case(OF_12, count=MESSAGES, offers=((False, 0),)),
    "13.2": Case(OF_12, count=MESSAGES, offers=((True, 0),)),
    "13.3": Case(OF_12, count=MESSAGES, offers=((False, 9),)),
    "13.4": Case(OF_12, count=MESSAGES, offers=((False, 15),)),
    "13.5": Case(OF_12, count=MESSAGES, offers=((True, 9),)),
    "13.6": Case(OF_12, count=MESSAGES, offers=((True, 15),)),
    "13.7": Case(OF_12, count=MESSAGES, offers=((True, 9), (True, 0), (False, 0))),
}


class Client(WebSocketClientProtocol):
    """Sends one message after the other, each when the one before has come back."""

    case: Case
    over: asyncio.Future[Any]

    def onOpen(self) -> None:  # autobahn's
        self.setTrackTimings(False)
        self.left = [(size, bool(turn % 2)) for size in self.case.sizes for turn in range(max(self.case.count, 2))]
        self.random = random.Random(len(self.left))
        self.next()

    def next(self) -> None:
        if not self.left:
            self.sendClose(1000, "all of them")
            return
        size, self.binary = self.left.pop()
        data = (
            self.random.randbytes(size)
            if self.case.random
            else (b'{"key": 42, "text": "\xc3\xa4"}' * (size // 26 + 1))[:size]
        )
        self.sent = base64.b64encode(data)[:size] if not self.binary else data
        if self.case.chop:
            # A text of no more than these characters is UTF-8 wherever it is cut.
            self.sendFrame(opcode=2 if self.binary else 1, payload=self.sent, chopsize=self.case.chop)
        else:
            self.sendMessage(self.sent, self.binary, fragmentSize=self.case.fragment or None)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # autobahn's
        if (payload, isBinary) != (self.sent, self.binary):
            self.over.set_result(f"{len(payload)} bytes came back for {len(self.sent)}")
            self.dropConnection(abort=True)
        else:
            self.next()

    def onClose(self, wasClean: bool, code: int, reason: str) -> None:  # autobahn's
        if not self.over.done():
            self.over.set_result((wasClean, code, reason, bool(self.websocket_extensions_in_use)))


@pytest.mark.parametrize("name", CASES)
def test_autobahns_client(port: int, name: str) -> None:
    """Everything comes back as it was sent, compressed where that was offered, and the end is agreed upon."""
    case = CASES[name]

    async def talk() -> Any:
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        factory = WebSocketClientFactory(f"ws://127.0.0.1:{port}/", loop=loop)
        factory.protocol = type("Speaking", (Client,), {"case": case, "over": over})
        # No fast and loose: each end says its close, and what is no UTF-8 is an error.
        offers = [
            PerMessageDeflateOffer(request_no_context_takeover=forgets, request_max_window_bits=bits)
            for forgets, bits in case.offers
        ]
        factory.setProtocolOptions(
            perMessageCompressionOffers=offers, perMessageCompressionAccept=PerMessageDeflateResponseAccept
        )
        await loop.create_connection(factory, "127.0.0.1", port)
        return await asyncio.wait_for(over, 300 if LONG else 60)

    assert asyncio.run(talk()) == (True, 1000, "all of them", bool(case.offers))


OFFERS = {
    f"server {'forgets' if ours else 'keeps'}, client {'forgets' if theirs else 'keeps'}, {bits_ours}, {bits_theirs}": (
        ours,
        theirs,
        bits_ours,
        bits_theirs,
    )
    for ours in (False, True)
    for theirs in (False, True)
    for bits_ours, bits_theirs in ((None, None), (9, 9), (15, 15), (12, True), (None, True), (10, None))
}


@pytest.mark.parametrize("offer", OFFERS)
def test_compression_by_the_client_of_websockets(port: int, offer: str) -> None:
    """Whatever is offered of contexts and windows; that client refuses answers that do not fit its offer."""
    server_forgets, client_forgets, server_bits, client_bits = OFFERS[offer]
    factory = ClientPerMessageDeflateFactory(
        server_no_context_takeover=server_forgets,
        client_no_context_takeover=client_forgets,
        server_max_window_bits=server_bits,
        client_max_window_bits=client_bits,
    )
    address = f"ws://127.0.0.1:{port}/"
    with connect(address, compression=None, extensions=[factory], max_size=None) as client:
        assert len(client.protocol.extensions) == 1
        for size in (0, 1, 1000, 70_000, 300_000):
            for data in ("ä" * size, os.urandom(size), ["in ", "four", " ", "parts" * size]):
                client.send(data)
                assert client.recv(30) == ("".join(data) if isinstance(data, list) else data)


# What a client offers, and what is taken up of it: RFC 7692, 5.1 and 7.1; None where the answer is none.
DEFLATE = "permessage-deflate"
BOTH = f"{DEFLATE}; client_no_context_takeover; server_no_context_takeover"
NEGOTIATIONS = {
    DEFLATE: BOTH,
    f"{DEFLATE}; client_max_window_bits": f"{BOTH}; client_max_window_bits=15",
    f"{DEFLATE}; client_max_window_bits=10": f"{BOTH}; client_max_window_bits=10",
    f'{DEFLATE}; server_max_window_bits="10"': f"{BOTH}; server_max_window_bits=10",
    f"{DEFLATE}; server_no_context_takeover; server_max_window_bits=9": f"{BOTH}; server_max_window_bits=9",
    f"x-else, {DEFLATE}": BOTH,
    # zlib has no window of 8 bits; the next offer may have another.
    f"{DEFLATE}; server_max_window_bits=8": None,
    f"{DEFLATE}; server_max_window_bits=8, {DEFLATE}": BOTH,
    # What has to be declined: 7.1.
    f"{DEFLATE}; unknown": None,
    f"{DEFLATE}; unknown=1, {DEFLATE}": BOTH,
    f"{DEFLATE}; server_max_window_bits": None,
    f"{DEFLATE}; server_max_window_bits=16": None,
    f"{DEFLATE}; server_max_window_bits=09": None,
    f"{DEFLATE}; server_max_window_bits=ten": None,
    f"{DEFLATE}; client_max_window_bits=7": None,
    f"{DEFLATE}; server_no_context_takeover=1": None,
    f"{DEFLATE}; server_no_context_takeover; server_no_context_takeover": None,
    f"{DEFLATE}-not": None,
    "": None,
}


@pytest.mark.parametrize("offer", NEGOTIATIONS)
def test_what_is_taken_up(port: int, offer: str) -> None:
    """Of an offer as it stands in the handshake."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            + (f"Sec-WebSocket-Extensions: {offer}\r\n\r\n" if offer else "\r\n").encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(65536)
    assert head.startswith(b"HTTP/1.1 101 ")
    fields = dict(one.split(": ", 1) for one in head.decode().split("\r\n")[1:-2])
    said = {name.lower(): value for name, value in fields.items()}.get("sec-websocket-extensions")
    assert said == NEGOTIATIONS[offer]
