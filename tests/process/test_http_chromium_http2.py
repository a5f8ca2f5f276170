"""A browser over TLS and HTTP/2: a page of many parts, from every kind of mount, on one connection."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from support.authority import Authority
from support.browser import browsing, needs_browser
from support.running import Running, listening

pytestmark = needs_browser

PAGE = """<!DOCTYPE html><title>before</title>
<link rel="stylesheet" href="style.css"><script src="script.js"></script>
<p id="styled">text</p><img id="picture" src="picture.svg">
<script>addEventListener("load", run)</script>
"""
SCRIPT = """
async function run() {
  const said = {};
  const text = async (url, options) => await (await fetch(url, options)).text();
  try {
    said.style = getComputedStyle(document.getElementById("styled")).color;
    said.picture = document.getElementById("picture").naturalWidth;
    said.posted = await text("/app/posted", {method: "POST", body: "x".repeat(300000)});
    said.wsgi = await text("/wsgi/posted", {method: "POST", body: "y".repeat(300000)});
    said.large = (await (await fetch("large.bin")).arrayBuffer()).byteLength;
    const part = await fetch("large.bin", {headers: {Range: "bytes=100-199"}});
    said.part = [part.status, (await part.arrayBuffer()).byteLength];
    const many = Array.from({length: 90}, (_, at) => text((at % 2 ? "/app/" : "/wsgi/") + at));
    said.many = (await Promise.all(many)).filter((one) => one === "0").length;
    said.streamed = (await text("/app/streamed")).length;
    said.early = (await fetch("/app/fails")).status;
    const aborted = new AbortController();
    const begun = await fetch("/app/endless", {signal: aborted.signal});
    await begun.body.getReader().read();
    aborted.abort();
    said.after = await text("/app/after");
    const next = new Set(performance.getEntriesByType("resource").map((one) => one.nextHopProtocol));
    next.delete("");
    said.protocols = Array.from(next);
    said.page = performance.getEntriesByType("navigation")[0].nextHopProtocol;
  } catch (error) {
    said.error = String(error);
  }
  await fetch("/app/result", {method: "POST", body: JSON.stringify(said)});
}
"""
APPLICATION = """
peers = set()

async def app(scope, receive, send):
    path = scope["path"].rpartition("/")[2]
    peers.add(scope["client"])
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    if path == "result":
        print("connections", len(peers), flush=True)
        print("result", body.decode(), flush=True)
    if path == "fails":
        raise RuntimeError("as it is to")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"no-store")]})
    if path == "streamed":
        for _ in range(100):
            await send({"type": "http.response.body", "body": b"s" * 10000, "more_body": True})
    while path == "endless":
        try:
            await send({"type": "http.response.body", "body": b"e" * 10000, "more_body": True})
        except OSError:
            print("the endless one has ended", flush=True)
            return
    await send({"type": "http.response.body", "body": b"" if path == "streamed" else str(len(body)).encode()})

def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(len(environ["wsgi.input"].read())).encode()]
"""


def test_a_page_of_many_parts(start: Callable[..., Running], tmp_path: Path) -> None:
    """Files, uploads, ninety requests at once, a stream that is aborted: all by h2, all on one connection."""
    (tmp_path / "parts.py").write_text(APPLICATION)
    root = tmp_path / "root"
    root.mkdir()
    (root / "index.html").write_text(PAGE)
    (root / "style.css").write_text("#styled { color: rgb(1, 2, 3) }")
    (root / "script.js").write_text(SCRIPT)
    (root / "picture.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="7" height="5"/>')
    (root / "large.bin").write_bytes(bytes(3_000_000))
    pem = tmp_path / "site.pem"
    Authority("Root").issue("localhost").write(pem)
    sock = listening()
    running = start(
        f"python-path {tmp_path}\n<http web>\n tls-address systemd:name=web\n http2 on\n"
        f" <tls>\n  certificate {pem}\n </tls>\n"
        " <asgi>\n  path /app\n  application parts:app\n  lifespan off\n </asgi>\n"
        " <wsgi>\n  path /wsgi\n  application parts:wsgi\n </wsgi>\n"
        f" <static>\n  root {root}\n </static>\n</http>\n",
        ("web", sock),
        arguments=("--single",),
    ).wait_ready()
    with browsing(f"https://localhost:{sock.getsockname()[1]}/", pem, tmp_path):
        line = running.wait_said("result {", 90)
        running.wait_said("the endless one has ended", 30)
    assert json.loads(line.partition("result ")[2]) == {
        "style": "rgb(1, 2, 3)",
        "picture": 7,
        "posted": "300000",
        "wsgi": "300000",
        "large": 3_000_000,
        "part": [206, 100],
        "many": 90,
        "streamed": 1_000_000,
        "early": 500,
        "after": "0",
        "protocols": ["h2"],
        "page": "h2",
    }
    running.wait_said("connections 1")
    assert running.stop() == 0
    assert running.errors.count("Traceback") == 1
