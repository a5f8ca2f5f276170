"""Clients that leave at every stage, many of them: nothing is told of them as if it were ours, and nothing is left of them."""

from __future__ import annotations

import json
import os
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from support.authority import Authority
from support.http2 import frame, greeting, literal
from support.leaving import Leaver, requests, streams
from support.running import Running, ask, listening, wait_until
from support.talking import Talker

from appd.http.h2.codes import Frame

ROOT = Authority("Root")
COUNT = int(os.environ.get("APPD_LEAVERS", "150"))
APPLICATION = """
def application(environ, start_response):
    name = environ["PATH_INFO"].rpartition("/")[2]
    body = environ["wsgi.input"].read()
    if name == "file":
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](open("large.bin", "rb"))
    if name == "pieces":
        start_response("200 OK", [])
        return (b"x" * 65536 for _ in range(40))
    data = b"x" * 3_000_000 if name == "large" else b"%d" % len(body)
    start_response("200 OK", [("Content-Length", str(len(data)))])
    return [data]

async def live(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"] * 1000})
        return
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    try:
        while scope["path"] == "/endless":
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
    except OSError:
        print("the client has left", flush=True)
        raise
    if scope["path"].endswith("large"):
        for _ in range(40):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
    await send({"type": "http.response.body", "body": b"%d" % size})
"""
CONFIGURATION = """
python-path ..
threads 2
<log>
  format json
</log>
<http web>
  {address} systemd:name=web
  http2 on
  {tls}
  <wsgi>
    path /wsgi
    application hosted:application
  </wsgi>
  <static>
    path /static
    root ../files
  </static>
  {asgi}
</http>
"""
ASGI = "<asgi>\n    application hosted:live\n    lifespan off\n  </asgi>"
# All windows wide open.
ENDLESS = (
    greeting()
    + frame(Frame.SETTINGS, 0, 0, b"\x00\x04\x7f\xff\xff\xff")
    + frame(Frame.WINDOW_UPDATE, 0, 0, (2**30).to_bytes(4, "big"))
    + frame(Frame.HEADERS, 5, 1, b"\x82\x86\x01\x01a" + literal(":path", "/endless"))
)
LANE_PATHS = ["/wsgi/a", "/wsgi/large", "/wsgi/pieces", "/static/large.bin", "/none"]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("kind", ["lane", "loop", "mixed", "http2"])
def test_clients_that_leave_at_every_stage(start: Callable[..., Running], tmp_path: Path, kind: str, tls: bool) -> None:
    """By an end, half of one, or a reset; in the middle of a head, a body, a response, a handshake."""
    (tmp_path / "hosted.py").write_text(APPLICATION)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "large.bin").write_bytes(bytes(3_000_000))
    ROOT.issue("localhost").write(tmp_path / "site.pem")
    text = CONFIGURATION.format(
        address="tls-address" if tls else "address",
        tls="<tls>\n    certificate ../site.pem\n  </tls>" if tls else "",
        asgi=ASGI if kind != "lane" else "",
    )
    if kind == "loop":
        text = text.replace(text[text.index("  <wsgi>") : text.index("  <asgi>")], "")
    sock = listening(backlog=200)
    running = start(text, ("web", sock), arguments=("--single",)).wait_ready()
    (tmp_path / "run0" / "large.bin").write_bytes(bytes(3_000_000))
    fds = Path(f"/proc/{running.process.pid}/fd")
    sockets = lambda: sum("socket:" in _link(one) for one in fds.iterdir())  # noqa: E731
    before = sockets()
    paths = {"lane": LANE_PATHS, "loop": ["/live", "/large"]}.get(kind, [*LANE_PATHS, "/live", "/large"])
    says = streams(paths) if kind == "http2" else requests(paths, websocket=kind in ("loop", "mixed"))
    context = None
    if tls:
        context = ssl.create_default_context(cadata=ROOT.pem.decode())
        context.set_alpn_protocols(["h2" if kind == "http2" else "http/1.1"])
    seed = int(os.environ.get("APPD_SEED", "1"))
    leaver = Leaver(sock.getsockname(), says, seed, context)
    leaver.run(COUNT, time.monotonic() + 300)
    wait_until(lambda: sockets() <= before, 60, lambda: running.errors)
    if not tls:
        answer = ask(sock, b"GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 404 " if kind == "lane" else b"HTTP/1.1 200 ")
    assert running.stop() == 0
    entries = [json.loads(line) for line in running.err if line.startswith("{")]
    told = Counter((one.get("LOGGER", ""), one["MESSAGE"]) for one in entries if int(one["PRIORITY"]) <= 4)
    assert told == {}
    assert "Traceback" not in running.errors


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_a_client_of_tls_that_ends_without_close_notify(
    start: Callable[..., Running], tmp_path: Path, http2: bool
) -> None:
    """An application that sends without an end is told, and holds up nobody."""
    (tmp_path / "hosted.py").write_text(APPLICATION)
    ROOT.issue("localhost").write(tmp_path / "site.pem")
    section = "<tls>\n    certificate ../site.pem\n  </tls>"
    text = CONFIGURATION.format(address="tls-address", tls=section, asgi=ASGI)
    # Who takes nothing is cut after that; who is written to is known to have left before.
    text = text.replace(
        text[text.index("  <wsgi>") : text.index("  <asgi>")], "  <limits>\n    write-timeout 2s\n  </limits>\n"
    )
    sock = listening()
    running = start(text, ("web", sock), arguments=("--single",)).wait_ready()
    context = ssl.create_default_context(cadata=ROOT.pem.decode())
    context.set_alpn_protocols(["h2" if http2 else "http/1.1"])
    plain = socket.create_connection(sock.getsockname(), 20)
    client = Talker(plain, context)
    asks = b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    client.sendall(ENDLESS if http2 else asks % b"/endless")
    client.recv(1)
    plain.shutdown(socket.SHUT_WR)
    context.set_alpn_protocols(["http/1.1"])
    running.wait_said("the client has left", 30)
    with Talker(socket.create_connection(sock.getsockname(), 20), context) as other:
        other.sendall(asks % b"/")
        assert other.recv(65536).startswith(b"HTTP/1.1 200 ")
    plain.close()
    assert running.stop() == 0
    assert "SSL connection is closed" not in running.errors
    assert "Traceback" not in running.errors


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
