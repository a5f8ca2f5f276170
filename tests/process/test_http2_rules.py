"""The corpus of rules of RFC 9113, sent to a running appd."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from support.http2 import PREFACE, Case, cases, frame, frames_in, greeting, outcome_of_bytes
from support.running import Running, serving, wait_until

from appd.http.h2.codes import Frame

APPLICATION = """
async def app(scope, receive, send):
    while (message := await receive()).get("more_body"):
        pass
    if message["type"] == "http.request":
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b"nothing"})
"""
CONFIGURATION = """
python-path .
<log>
  format text
  level debug
</log>
<http web>
  address systemd:name=web
  http2 on
  <limits>
    header-timeout 1s
  </limits>
  <asgi>
    application rules:app
    lifespan off
  </asgi>
</http>
"""
MARK = b"answered"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, int]]:
    """One appd for all tests of this file, and its port."""
    folder = tmp_path_factory.mktemp("rules")
    (folder / "rules.py").write_text(APPLICATION)
    (folder / "appd.conf").write_text(CONFIGURATION)
    with serving(folder) as served:
        yield served


def said(port: int, case: Case) -> bytes:
    """What the server says until it has answered a PING behind the case, and the request if there is to be an answer."""
    answered = case.expected.startswith("request")
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        data = b""
        try:
            client.sendall(case.data + frame(Frame.PING, 0, 0, MARK))
            while True:
                part = client.recv(65536)
                data += part
                kinds = [(kind, carried) for kind, _flags, _stream, carried in frames_in(data)]
                marked = (Frame.PING, MARK) in kinds and (not answered or any(one == Frame.HEADERS for one, _ in kinds))
                if not part or marked:
                    return data
        except ConnectionError:
            return data


@pytest.mark.parametrize("case", cases(), ids=[one.title for one in cases()])
def test_a_running_server_does_the_same(running: tuple[Running, int], case: Case) -> None:
    """The code of RST_STREAM or GOAWAY, or the answer."""
    assert outcome_of_bytes(said(running[1], case)) == case.expected


@pytest.mark.parametrize(
    "begun",
    [
        greeting() + frame(Frame.HEADERS, 1, 1, b"\x82\x86\x84"),
        greeting() + frame(Frame.HEADERS, 5, 1, b"\x82\x86\x84\x01\x01a")[:-2],
        greeting() + frame(Frame.PING, 0, 0, bytes(8))[:-1],
        PREFACE,
    ],
    ids=["half a head", "half a frame of a head", "half a PING", "the preface alone"],
)
def test_what_does_not_end(running: tuple[Running, int], begun: bytes) -> None:
    """A frame, and a head of several, has `header-timeout`, however busily it trickles; the connection ends then."""
    if begun == PREFACE:
        begun = PREFACE[:-1]
    with socket.create_connection(("127.0.0.1", running[1]), 30) as client:
        client.sendall(begun)
        data = b"".join(iter(lambda: client.recv(65536), b""))
    assert outcome_of_bytes(data) == "connection ENHANCE_YOUR_CALM"


def test_a_frame_that_trickles(running: tuple[Running, int]) -> None:
    """Its time is absolute."""
    rest = frame(Frame.CONTINUATION, 0, 1, b"\x00\x01a\x01b")
    with socket.create_connection(("127.0.0.1", running[1]), 30) as client:
        client.sendall(greeting() + frame(Frame.HEADERS, 1, 1, b"\x82\x86\x84"))
        client.settimeout(0.2)
        data = b""

        def ended() -> bool:
            nonlocal data, rest
            try:
                client.sendall(rest[:1])
                rest = rest[1:] or rest
                data += (part := client.recv(65536))
            except TimeoutError:
                return False
            except ConnectionError:
                return True
            return not part

        wait_until(ended, 30)
    running[0].wait_said("does not end within header-timeout")
