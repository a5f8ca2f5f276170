"""What streams of HTTP/2 bring beside requests and answers: 100 (Continue), trailers, GOAWAY, resets, slow bodies."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from hpack import Decoder
from support.authority import Authority
from support.http2 import frame, frames_in, greeting, literal
from support.running import Running, listening, wait_until

from appd.http.h2.codes import Code, Frame

GET, POST = b"\x82\x86\x84\x01\x01a", b"\x83\x86\x84\x01\x01a"
APPLICATION = """
import asyncio, os

async def app(scope, receive, send):
    body, more = b"", True
    if scope["path"] == "/refuses":
        await send({"type": "http.response.start", "status": 403, "headers": []})
        await send({"type": "http.response.body", "body": b"no"})
        return
    if scope["path"] == "/stays":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"s" * 100_000, "more_body": True})
        await asyncio.sleep(3600)
    if scope["path"] in ("/echoes", "/sends"):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/echoes":
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
            message = await receive()
            await send({"type": "http.response.body", "body": message.get("body", b"left")})
            return
        try:
            while True:
                await send({"type": "http.response.body", "body": b"l" * 1_000_000, "more_body": True})
                await asyncio.sleep(0.01)
        except BaseException as error:
            print("raised", type(error).__name__, flush=True)
            raise
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            print("left", flush=True)
            return
        body += message["body"]
        more = message["more_body"]
    if scope["path"] == "/waits":
        print("waits", flush=True)
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
    said = b"%d %d" % (len(body), len(scope["headers"]))
    if scope["path"] == "/large":
        said = b"l" * 1_000_000
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-agent", dict(scope["headers"]).get(b"user-agent", b""))]})
    await send({"type": "http.response.body", "body": said})

def wsgi(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"wsgi %d" % len(body)]
"""
CONFIGURATION = """
python-path ..
threads 2
<log>
  format text
  level debug
</log>
<http web>
  {address}
  http2 on
  <limits>
    header-timeout 2s
    {limits}
  </limits>
  <asgi>
    application talks:app
    lifespan off
  </asgi>
  <wsgi>
    path /wsgi
    application talks:wsgi
  </wsgi>
</http>
"""


class Talk:
    """A client that writes frames as it likes and reads what comes."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), 30)
        self.sock.sendall(greeting())
        self.rest = b""
        self.seen: list[tuple[int, int, int, bytes]] = []
        self.decoder = Decoder()

    def say(self, kind: int, flags: int, stream: int, data: bytes = b"") -> None:
        self.sock.sendall(frame(kind, flags, stream, data))

    def read(self) -> bool:
        part = self.sock.recv(65536)
        self.rest += part
        found = list(frames_in(self.rest))
        self.seen += found
        self.rest = self.rest[sum(9 + len(one[3]) for one in found) :]
        return bool(part)

    def frames(self, kind: int, stream: int) -> list[tuple[int, bytes]]:
        """Flags and what is carried by those that have come of one type for a stream."""
        return [(one[1], one[3]) for one in self.seen if one[0] == kind and one[2] == stream]

    def until(self, kind: int, stream: int, count: int = 1) -> tuple[int, bytes]:
        """Reads until there are so many, and returns the last of them."""
        while len(found := self.frames(kind, stream)) < count:
            assert self.read(), f"the end, and no {Frame(kind).name} for {stream}: {self.seen}"
        return found[count - 1]

    def status(self, block: bytes) -> str:
        return str(dict(self.decoder.decode(block))[":status"])

    def body(self, stream: int) -> bytes:
        """The body, when it is complete."""
        while not any(flags & 1 for flags, _data in self.frames(Frame.DATA, stream)):
            assert self.read()
        return b"".join(data for _flags, data in self.frames(Frame.DATA, stream))


@pytest.fixture
def site(start: Callable[..., Running], tmp_path: Path) -> Iterator[Callable[..., tuple[Running, Callable[[], Talk]]]]:
    """Starts a server; gives it, and what opens connections to it."""
    opened: list[Talk] = []

    def make(limits: str = "") -> tuple[Running, Callable[[], Talk]]:
        (tmp_path / "talks.py").write_text(APPLICATION)
        sock = listening()
        text = CONFIGURATION.format(address="address systemd:name=web", limits=limits)
        running = start(text, ("web", sock), arguments=("--single",)).wait_ready()

        def talk() -> Talk:
            opened.append(Talk(sock.getsockname()[1]))
            return opened[-1]

        return running, talk

    yield make
    for one in opened:
        one.sock.close()


@pytest.mark.parametrize("path", ["/", "/wsgi/x"])
def test_100_continue(site: Any, path: str) -> None:
    """Said when somebody wants the body, and not when it comes by itself: RFC 9110, 10.1.1."""
    _running, talk = site()
    client = talk()
    block = b"\x83\x86\x01\x01a" + literal(":path", path)
    client.say(Frame.HEADERS, 4, 1, b"\x83\x86\x01\x01a" + literal(":path", path) + literal("expect", "100-continue"))
    assert client.status(client.until(Frame.HEADERS, 1)[1]) == "100"
    client.say(Frame.DATA, 1, 1, b"abc")
    assert client.status(client.until(Frame.HEADERS, 1, 2)[1]) == "200"
    assert b"3" in client.body(1)
    client.say(Frame.HEADERS, 4, 3, block)
    client.say(Frame.DATA, 1, 3, b"abcd")
    assert client.status(client.until(Frame.HEADERS, 3)[1]) == "200"


def test_an_answer_before_the_body(site: Any) -> None:
    """The rest of the body is not wanted: RST_STREAM with NO_ERROR, and the connection goes on (RFC 9113, 8.1)."""
    _running, talk = site()
    client = talk()
    refused = b"\x83\x86\x01\x01a" + literal(":path", "/refuses") + literal("expect", "100-continue")
    client.say(Frame.HEADERS, 4, 1, refused)
    assert client.status(client.until(Frame.HEADERS, 1)[1]) == "403"
    assert client.until(Frame.RST_STREAM, 1)[1] == Code.NO_ERROR.to_bytes(4, "big")
    client.say(Frame.DATA, 0, 1, b"on its way")
    client.say(Frame.HEADERS, 5, 3, GET)
    assert client.body(3) == b"0 1"


def test_a_client_that_leaves(site: Any, tmp_path: Path) -> None:
    """What it has begun before its GOAWAY is answered; then the connection ends."""
    running, talk = site()
    client = talk()
    client.say(Frame.HEADERS, 5, 1, b"\x82\x86\x01\x01a" + literal(":path", "/waits"))
    running.wait_said("waits")
    client.say(Frame.GOAWAY, 0, 0, bytes(8))
    client.say(Frame.PING, 0, 0, b"12345678")
    client.until(Frame.PING, 0)
    (tmp_path / "run0" / "go").touch()
    assert client.body(1) == b"0 1"
    while client.read():
        pass
    assert "refused" not in running.errors


def test_a_client_that_leaves_without_a_request(site: Any) -> None:
    """The connection ends."""
    _running, talk = site()
    client = talk()
    client.say(Frame.GOAWAY, 0, 0, bytes(8))
    while client.read():
        pass


def test_a_request_after_our_goaway(site: Any, tmp_path: Path) -> None:
    """REFUSED_STREAM, so that the client may ask elsewhere: RFC 9113, 8.7."""
    running, talk = site()
    client = talk()
    client.say(Frame.HEADERS, 5, 1, b"\x82\x86\x01\x01a" + literal(":path", "/waits"))
    running.wait_said("waits")
    running.process.send_signal(signal.SIGTERM)
    assert client.until(Frame.GOAWAY, 0)[1][:8] == b"\0\0\0\1\0\0\0\0"
    client.say(Frame.HEADERS, 5, 3, GET)
    assert client.until(Frame.RST_STREAM, 3)[1] == Code.REFUSED_STREAM.to_bytes(4, "big")
    (tmp_path / "run0" / "go").touch()
    assert client.body(1) == b"0 1"
    assert running.wait_exit() == 0


def test_a_slow_reader_gets_everything(site: Any) -> None:
    """Also when the connection is to end behind the answer, and more than a second is needed to read it."""
    running, talk = site()
    client = talk()
    client.say(Frame.WINDOW_UPDATE, 0, 0, (1 << 25).to_bytes(4, "big"))
    client.say(Frame.SETTINGS, 0, 0, b"\0\4" + (1 << 25).to_bytes(4, "big"))
    for stream in range(1, 41, 2):
        client.say(Frame.HEADERS, 5, stream, b"\x82\x86\x01\x01a" + literal(":path", "/large"))
    client.say(Frame.GOAWAY, 0, 0, bytes(8))
    client.until(Frame.HEADERS, 1)
    # Longer than a client that ends nothing is waited for.
    time.sleep(2)
    for stream in range(1, 41, 2):
        assert len(client.body(stream)) == 1_000_000
    while client.read():
        pass
    assert running.stop() == 0


def test_too_many_streams(site: Any, tmp_path: Path) -> None:
    """The one that is too many is refused, and may be tried again; the others go on."""
    _running, talk = site()
    client = talk()
    for stream in range(1, 203, 2):
        client.say(Frame.HEADERS, 5, stream, b"\x82\x86\x01\x01a" + literal(":path", "/waits"))
    assert client.until(Frame.RST_STREAM, 201)[1] == Code.REFUSED_STREAM.to_bytes(4, "big")
    (tmp_path / "run0" / "go").touch()
    assert all(client.body(stream) == b"0 1" for stream in range(1, 201, 2))
    client.say(Frame.HEADERS, 5, 203, GET)
    assert client.body(203) == b"0 1"


def test_a_list_of_fields_that_is_too_long(site: Any) -> None:
    """431 on its stream; the table of the compression is what it was, and the connection goes on."""
    _running, talk = site()
    client = talk()
    block = GET + b"\x40\x01x\x01y" + b"\x00\x01z\x7f\xed\x61" + b"v" * 12652
    client.say(Frame.HEADERS, 1, 1, block)
    client.say(Frame.CONTINUATION, 0, 1, block[len(GET) + 5 :])
    client.say(Frame.CONTINUATION, 4, 1, block[len(GET) + 5 :])
    assert client.status(client.until(Frame.HEADERS, 1)[1]) == "431"
    client.say(Frame.HEADERS, 5, 3, GET + b"\xbe")
    assert client.body(3) == b"0 2"


def test_streams_that_we_are_made_to_reset(site: Any) -> None:
    """CVE-2025-8671: a client that errs on purpose, stream by stream, is told to calm down as if it had reset them."""
    running, talk = site()
    client = talk()
    with suppress(OSError):  # it may end before all of them have gone out
        for stream in range(1, 601, 2):
            client.sock.sendall(
                frame(Frame.HEADERS, 5, stream, b"\x82\x86\x01\x01a" + literal(":path", "/waits"))
                + frame(Frame.WINDOW_UPDATE, 0, stream, bytes(4))
            )
    code = client.until(Frame.GOAWAY, 0)[1][4:8]
    assert int.from_bytes(code, "big") == Code.ENHANCE_YOUR_CALM
    running.wait_said("too many streams that are reset")


def test_a_frame_of_a_body_that_comes_slowly(site: Any) -> None:
    """At more than `body-rate` it may, and at less it may not, though no frame of it is complete."""
    running, talk = site("body-rate 1000")
    quick, slow = talk(), talk()
    body = b"b" * 16000
    for client in (quick, slow):
        client.say(Frame.HEADERS, 4, 1, POST)
        client.sock.sendall(frame(Frame.DATA, 1, 1, body)[: 9 + 100])
    at = 100

    def answered() -> bool:
        nonlocal at
        quick.sock.sendall(body[at : at + 800])
        at += 800
        quick.sock.settimeout(0.2)
        with suppress(TimeoutError):
            quick.read()
        return bool(quick.frames(Frame.HEADERS, 1))

    wait_until(answered, 30)
    assert quick.status(quick.until(Frame.HEADERS, 1)[1]) == "200"
    assert slow.status(slow.until(Frame.HEADERS, 1)[1]) == "408"
    assert "Traceback" not in running.errors


def test_a_head_that_is_repeated(site: Any) -> None:
    """The same bytes mean what they mean by now: they name the newest entry of the table, which is another one."""
    _running, talk = site()
    client = talk()
    stream = 1
    for agent in (b"one", b"two", b"one"):
        client.say(Frame.HEADERS, 5, stream, GET + b"\x7a\x03" + agent)
        for again in (stream + 2, stream + 4, stream + 6):
            client.say(Frame.HEADERS, 5, again, GET + b"\xbe")
        for each in range(stream, stream + 8, 2):
            fields = dict(client.decoder.decode(client.until(Frame.HEADERS, each)[1]))
            assert fields["x-agent"] == agent.decode()
        stream += 8


@pytest.mark.parametrize("limit", ["upload", "download"])
def test_httpx(start: Callable[..., Running], tmp_path: Path, limit: str) -> None:
    """Many requests at once over TLS, with bodies both ways."""
    (tmp_path / "talks.py").write_text(APPLICATION)
    authority = Authority()
    pem, root = tmp_path / "pair.pem", authority.write(tmp_path / "root.pem")
    pem.touch(0o600)
    pem.write_bytes(authority.issue("localhost").pem)
    sock = listening()
    text = CONFIGURATION.format(address=f"tls-address systemd:name=web\n<tls>\n certificate {pem}\n</tls>", limits="")
    running = start(text, ("web", sock), arguments=("--single",)).wait_ready()
    url = f"https://localhost:{sock.getsockname()[1]}"

    async def ask() -> list[httpx.Response]:
        import ssl

        context = ssl.create_default_context(cafile=str(root))
        async with httpx.AsyncClient(http2=True, http1=False, verify=context, timeout=60, trust_env=False) as client:
            if limit == "download":
                return await asyncio.gather(*(client.get(url + "/large") for _ in range(10)))
            return await asyncio.gather(*(client.post(url + "/wsgi/", content=b"u" * 300_000) for _ in range(10)))

    for response in asyncio.run(ask()):
        assert response.http_version == "HTTP/2"
        assert response.status_code == 200
        assert response.content == (b"l" * 1_000_000 if limit == "download" else b"wsgi 300000")
    assert running.stop() == 0
    assert "Traceback" not in running.errors


def test_curl_waits_for_100(site: Any, tmp_path: Path) -> None:
    """curl sends a large body when it is told to go on."""
    running, talk = site()
    port = talk().sock.getpeername()[1]
    file = tmp_path / "upload"
    file.write_bytes(b"x" * 2_000_000)
    command = ["curl", "-sS", "--max-time", "30", "--http2-prior-knowledge", "-H", "Expect: 100-continue"]
    command += ["-v", "--data-binary", f"@{file}", f"http://127.0.0.1:{port}/wsgi/"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "wsgi 2000000"
    assert "HTTP/2 100" in done.stderr
    assert running.stop() == 0


def test_no_100_behind_the_head_of_a_response(site: Any) -> None:
    """RFC 9110, 15.2: an interim response comes before the final one."""
    _running, talk = site()
    client = talk()
    block = b"\x83\x86\x01\x01a" + literal(":path", "/echoes") + literal("expect", "100-continue")
    client.say(Frame.HEADERS, 4, 1, block)
    client.until(Frame.DATA, 1)
    client.say(Frame.DATA, 1, 1, b"abc")
    assert client.body(1) == b"firstabc"
    assert [client.status(data) for _flags, data in client.frames(Frame.HEADERS, 1)] == ["200"]


def _takes_all(client: Talk) -> None:
    """Opens both windows as far as they go, and has a response begin that has no end."""
    client.say(Frame.SETTINGS, 0, 0, b"\x00\x04\x7f\xff\xff\xff")
    client.say(Frame.WINDOW_UPDATE, 0, 0, (2**31 - 1 - 65535).to_bytes(4, "big"))
    client.say(Frame.HEADERS, 5, 1, b"\x82\x86\x01\x01a" + literal(":path", "/sends"))


def test_a_fault_while_a_stream_sends(site: Any) -> None:
    """The application hears that the client has left, and nothing else."""
    running, talk = site()
    client = talk()
    _takes_all(client)
    client.until(Frame.DATA, 1, 100)
    client.say(Frame.PUSH_PROMISE, 0, 1)
    with suppress(OSError):
        while client.read():
            client.seen.clear()
    assert running.wait_said("raised").endswith("raised Disconnected")
    assert "write_eof" not in running.errors


def test_frames_that_begin_do_not_put_off_the_write_timeout(site: Any) -> None:
    """Of a client that takes nothing."""
    _running, talk = site("write-timeout 3s")
    client = talk()
    _takes_all(client)
    ends, ping = time.monotonic() + 60, frame(Frame.PING, 0, 0, b"12345678")
    client.sock.sendall(ping[:5])
    with pytest.raises(OSError):
        while time.monotonic() < ends:
            time.sleep(0.5)
            client.sock.sendall(ping[5:] + ping[:5])


def test_a_call_that_takes_too_long_while_its_client_opens_no_window(site: Any) -> None:
    """It is cancelled at request-timeout, not at write-timeout, and the journal says so."""
    running, talk = site("request-timeout 1s\n    write-timeout 60s")
    client = talk()
    client.say(Frame.HEADERS, 5, 1, b"\x82\x86\x01\x01a" + literal(":path", "/stays"))
    _flags, code = client.until(Frame.RST_STREAM, 1)
    assert int.from_bytes(code, "big") == Code.INTERNAL_ERROR
    running.wait_said("GET /stays has taken longer than request-timeout (1 s) and is cancelled")


def test_a_call_that_takes_too_long_while_its_client_takes_nothing(site: Any) -> None:
    """The same in HTTP/1.1."""
    running, talk = site("request-timeout 1s\n    write-timeout 60s")
    with socket.create_connection(talk().sock.getpeername(), 20) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(b"GET /sends HTTP/1.1\r\nHost: x\r\n\r\n")
        running.wait_said("GET /sends has taken longer than request-timeout (1 s) and is cancelled")


def test_a_call_that_takes_too_long_while_its_body_comes(site: Any) -> None:
    """Its client is told 504 at request-timeout, not 408 when the body is too slow."""
    _running, talk = site("request-timeout 1s")
    client = talk()
    client.say(Frame.HEADERS, 4, 1, POST)
    client.say(Frame.DATA, 0, 1, b"a")
    _flags, head = client.until(Frame.HEADERS, 1)
    assert client.status(head) == "504"


def test_a_client_that_only_pings(site: Any) -> None:
    """Who asks for nothing is idle, whatever else it says: RFC 9113, 6.7 keeps no connection alive."""
    _running, talk = site("idle-timeout 1s")
    client = talk()
    client.sock.settimeout(0.2)
    ends = time.monotonic() + 30
    with suppress(ConnectionError):
        while time.monotonic() < ends:
            client.say(Frame.PING, 0, 0, b"12345678")
            try:
                if not client.read():
                    break
            except TimeoutError:
                pass
            time.sleep(0.2)
        else:
            pytest.fail("it is kept for ever")
    assert client.frames(Frame.GOAWAY, 0)
