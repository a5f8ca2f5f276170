"""A browser as the client: what pages are made of, and what scripts ask for."""

from __future__ import annotations

import gzip
import html
import json
import re
import socket
import subprocess
from pathlib import Path

from support.browser import BROWSER, HEADLESS, needs_browser
from support.running import APPD, Running

APPLICATIONS = Path(__file__).parents[1] / "applications"
pytestmark = needs_browser

PAGE = """<!DOCTYPE html><title>before</title>
<link rel="stylesheet" href="style.css"><script src="app.js"></script>
<p id="styled">text</p><img id="picture" src="picture.svg"><pre id="result">not run</pre>
<script>addEventListener("load", run)</script>
"""
# Served from its compressed copy alone: the plain one would fail.
SCRIPT = """
async function run() {
  const said = {};
  const text = async (url, options) => await (await fetch(url, options)).text();
  try {
    said.style = getComputedStyle(document.getElementById("styled")).color;
    said.picture = document.getElementById("picture").naturalWidth;
    said.posted = await text("/body_echoed", {method: "POST", body: "x".repeat(200000)}).then(one => one.length);
    said.put = await text("/body_by_read", {method: "PUT", body: new Blob(["a", "b"])});
    const part = await fetch("large.bin", {headers: {Range: "bytes=100-199"}});
    said.part = [part.status, (await part.arrayBuffer()).byteLength, part.headers.get("content-range")];
    said.large = (await (await fetch("large.bin")).arrayBuffer()).byteLength;
    const tag = (await fetch("style.css", {cache: "reload"})).headers.get("etag");
    said.known = (await fetch("style.css", {cache: "no-store", headers: {"If-None-Match": tag}})).status;
    said.moved = (await fetch("/moved/")).url.replace(location.origin, "");
    said.kept = await text("/kept", {method: "POST", body: "kept"});
    said.missing = (await fetch("missing")).status;
    said.streamed = await text("/generated").then(one => one.split(" ").length);
    said.many = (await Promise.all(Array.from({length: 40}, (_, at) => text("/with_a_length?" + at)))).join("").length;
    await fetch("/many_fields");
    said.agent = JSON.parse(await text("/said")).HTTP_USER_AGENT.includes("Chrome");
    const aborted = new AbortController();
    const begun = fetch("large.bin", {cache: "no-store", signal: aborted.signal});
    await begun; aborted.abort();
    said.after = (await fetch("style.css", {cache: "no-store"})).status;
  } catch (error) {
    said.error = String(error);
  }
  document.getElementById("result").textContent = JSON.stringify(said);
}
"""


def test_a_page(tmp_path: Path) -> None:
    """Styles, a compressed script, pictures, uploads, parts, redirects, forty requests at once."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "index.html").write_text(PAGE)
    (root / "style.css").write_text("#styled { color: rgb(1, 2, 3) }")
    (root / "app.js").write_text("throw new Error('not this one')")
    (root / "app.js.gz").write_bytes(gzip.compress(SCRIPT.encode()))
    (root / "picture.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="7" height="5"/>')
    (root / "large.bin").write_bytes(bytes(3_000_000))
    (tmp_path / "appd.conf").write_text(
        "<http web>\n address systemd:name=web\n access-log combined\n"
        f" <wsgi>\n  application {APPLICATIONS}/validated.py:application\n </wsgi>\n"
        " <static>\n  path /page\n  root root\n </static>\n"
        " <redirect>\n  path /moved\n  to /page\n  status 302\n </redirect>\n"
        " <redirect>\n  path /kept\n  to /body_echoed\n  exact on\n </redirect>\n</http>\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as sock:
        running = Running([APPD, "run", str(tmp_path / "appd.conf")], tmp_path, [("web", sock)])
        try:
            running.wait_ready()
            url = f"http://127.0.0.1:{sock.getsockname()[1]}/page/"
            command = [str(BROWSER), *HEADLESS]
            command += [f"--user-data-dir={tmp_path}/profile", "--virtual-time-budget=60000", "--dump-dom", url]
            page = subprocess.run(command, capture_output=True, timeout=120, check=True).stdout.decode()
            assert running.stop() == 0
        finally:
            running.close()
    found = re.search(r'<pre id="result">([^<]*)</pre>', page)
    assert found is not None, page
    assert json.loads(html.unescape(found[1])) == {
        "style": "rgb(1, 2, 3)",
        "picture": 7,
        "posted": 200_000,
        "put": "fb8e20fc2e4c3f248c60c39bd652f3c1347298bb977b8b4d5903b85055620603",
        "part": [206, 100, "bytes 100-199/3000000"],
        "large": 3_000_000,
        "known": 304,
        "moved": "/page/",
        "kept": "kept",
        "missing": 404,
        "streamed": 91,
        "many": 400,
        "agent": True,
        "after": 200,
    }
    assert "Traceback" not in running.errors and "AssertionError" not in running.errors
