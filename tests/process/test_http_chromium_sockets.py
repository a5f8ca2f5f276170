"""A browser as the client of an ASGI application: its page, its WebSockets, plain and over TLS."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.authority import Authority
from support.browser import browsing, needs_browser
from support.running import Running, listening

pytestmark = needs_browser

APPLICATION = '''
PAGE = b"""<!DOCTYPE html><title>sockets</title><script>
const said = {};
const next = (socket, name) => new Promise((done, failed) => {
  socket.addEventListener(name, done, {once: true});
  socket.addEventListener("error", () => failed(new Error("an error in place of " + name)), {once: true});
});
async function run() {
  const where = location.origin.replace("http", "ws");
  const socket = new WebSocket(where + "/echo", ["one", "two"]);
  socket.binaryType = "arraybuffer";
  await next(socket, "open");
  said.protocol = socket.protocol;
  said.extensions = socket.extensions.split(";")[0];
  socket.send("h\\u00e4llo");
  said.text = (await next(socket, "message")).data;
  socket.send("x".repeat(1000000));
  said.long = (await next(socket, "message")).data.length;
  socket.send(new Uint8Array([1, 2, 250]));
  said.bytes = Array.from(new Uint8Array((await next(socket, "message")).data));
  socket.send(new Blob([new Uint8Array(200000)]));
  said.blob = (await next(socket, "message")).data.byteLength;
  const many = [];
  socket.onmessage = (event) => many.push(event.data);
  for (let at = 0; at < 500; at++) socket.send(String(at));
  while (many.length < 500) await next(socket, "message");
  said.inOrder = many.every((one, at) => one === String(at));
  socket.onmessage = null;
  socket.send("close");
  const closed = await next(socket, "close");
  said.closed = [closed.code, closed.reason, closed.wasClean];
  const mine = new WebSocket(where + "/echo");
  await next(mine, "open");
  mine.close(4321, "of mine");
  const answered = await next(mine, "close");
  said.mine = [answered.code, answered.wasClean];
  const refused = new WebSocket(where + "/refused");
  said.refused = await next(refused, "open").catch((error) => error.message);
  said.streamed = (await (await fetch("/streamed")).text()).length;
  const eight = Array.from({length: 8}, () => new WebSocket(where + "/echo"));
  await Promise.all(eight.map((one) => next(one, "open")));
  said.eight = (await Promise.all(eight.map((one, at) => (one.send("n" + at), next(one, "message")))))
    .map((event) => event.data).join("");
}
run().catch((error) => { said.error = String(error); })
  .finally(() => fetch("/result", {method: "POST", body: JSON.stringify(said)}));
</script>"""

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        if scope["path"] == "/refused":
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.accept", "subprotocol": (scope["subprotocols"] or [None])[-1]})
        while (message := await receive())["type"] == "websocket.receive":
            if message.get("text") == "close":
                await send({"type": "websocket.close", "code": 4001, "reason": "as you say"})
            else:
                await send({**message, "type": "websocket.send"})
    elif scope["type"] == "http":
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        if scope["path"] == "/result":
            print("result", body.decode(), flush=True)
        kind = b"text/html" if scope["path"] == "/" else b"text/plain"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        if scope["path"] == "/streamed":
            for _ in range(100):
                await send({"type": "http.response.body", "body": b"s" * 10000, "more_body": True})
        await send({"type": "http.response.body", "body": PAGE if scope["path"] == "/" else b""})
    else:
        raise ValueError(scope["type"])
'''


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_websockets(start: Callable[..., Running], tmp_path: Path, scheme: str) -> None:
    """Text and bytes of all sizes, a subprotocol, compression, closes of both sides, a refusal, several at once."""
    (tmp_path / "browsed.py").write_text(APPLICATION)
    pem = tmp_path / "site.pem"
    Authority("Root").issue("localhost").write(pem)
    sock = listening()
    address = "address systemd:name=web"
    if scheme == "https":
        address = f"tls-address systemd:name=web\n<tls>\n certificate {pem}\n</tls>"
    running = start(
        f"python-path {tmp_path}\n<http web>\n{address}\n<asgi>\n application browsed:app\n</asgi>\n</http>\n",
        ("web", sock),
    ).wait_ready()
    with browsing(f"{scheme}://localhost:{sock.getsockname()[1]}/", pem, tmp_path):
        line = running.wait_said("result {", 90)
    assert json.loads(line.partition("result ")[2]) == {
        "protocol": "two",
        "extensions": "permessage-deflate",
        "text": "hällo",
        "long": 1_000_000,
        "bytes": [1, 2, 250],
        "blob": 200_000,
        "inOrder": True,
        "closed": [4001, "as you say", True],
        "mine": [4321, True],
        "refused": "an error in place of open",
        "streamed": 1_000_000,
        "eight": "n0n1n2n3n4n5n6n7",
    }
    assert running.stop() == 0
    assert "Traceback" not in running.errors
