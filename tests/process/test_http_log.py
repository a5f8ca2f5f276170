"""The access log, `type HTTP`, and the file's problems, as a person meets them."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.running import APPD, Running, ask, listening, wait_until

CONFIGURATION = """
python-path {folder}
<log>
  format json
</log>
<http web>
  address systemd:name=web
  address systemd:name=unix
  access-log journal
  <{kind}>
    application {application}
  </{kind}>
  <static>
    path /quiet
    root {folder}
    access-log off
  </static>
  <static>
    path /combined
    root {folder}
    access-log combined
  </static>
</http>
"""
# What answers, on each driver; what is beside it is the lane's.
DRIVERS = {
    "lane": ("wsgi", "wsgiref.simple_server:demo_app"),
    "loop": ("asgi", f"{Path(__file__).parents[1]}/applications/quiet.py:application"),
}


def entries(running: Running) -> list[dict[str, object]]:
    found = [json.loads(line) for line in list(running.err) if line.startswith("{")]
    return [one for one in found if one.get("LOGGER") == "appd.access"]


@pytest.mark.parametrize("driver", DRIVERS)
def test_access_log(start: Callable[..., Running], tmp_path: Path, driver: str) -> None:
    """An entry for each request where it is on; the mount's word goes before the server's."""
    (tmp_path / "a.txt").write_text("0123456789")
    web, unix = listening(), listening(socket.AF_UNIX, str(tmp_path / "sock"))
    kind, application = DRIVERS[driver]
    text = CONFIGURATION.format(folder=tmp_path, kind=kind, application=application)
    running = start(text, ("web", web), ("unix", unix)).wait_ready()
    agent = b'User-Agent: "\xff\\\r\n'
    lines = [
        b"POST /x%20y?secret=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi",
        b"GET /quiet/a.txt HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /combined/a.txt?q HTTP/1.1\r\nHost: x\r\nReferer: http://r/\r\n" + agent + b"\r\n",
        b"HEAD /combined/a.txt HTTP/1.1\r\nHost: x\r\n\r\n",
        b'GET /no"where\\ HTTP/1.0\r\n\r\n',
    ]
    # One after the other: who is answered may be told of a moment later, by another thread than the next one.
    for line, count in zip(lines, (1, 1, 2, 3, 4), strict=True):
        assert ask(web, line).startswith(b"HTTP/1.")
        wait_until(lambda count=count: len(entries(running)) >= count, explain=lambda: running.errors)
    assert ask(unix, b"GET /combined/nothing HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 404")
    wait_until(lambda: len(entries(running)) >= 5, explain=lambda: running.errors)
    post, combined, head, nowhere, local = entries(running)
    assert (post["HTTP_METHOD"], post["HTTP_PATH"], post["HTTP_STATUS"]) == ("POST", "/x%20y", 200)
    assert str(post["MESSAGE"]).startswith(f"POST /x%20y 200 {post['HTTP_BYTES']} ")
    assert isinstance(post["HTTP_BYTES"], int) and isinstance(post["DURATION_USEC"], int)
    assert post["HTTP_BYTES"] > 0 < post["DURATION_USEC"] < 10_000_000
    assert (post["APPD_SERVER"], post["PRIORITY"]) == ("web", 6)
    assert str(post["APPD_PEER"]).startswith("127.0.0.1:")
    message = str(combined["MESSAGE"])
    assert message.startswith("127.0.0.1 - - [")
    assert message.endswith(r'"GET /combined/a.txt?q HTTP/1.1" 200 10 "http://r/" "\"\xff\\"')
    assert str(head["MESSAGE"]).endswith('"HEAD /combined/a.txt HTTP/1.1" 200 - "-" "-"')
    assert nowhere["HTTP_PATH"] == '/no"where\\\\'
    assert str(local["MESSAGE"]).startswith("- - - [")
    assert "APPD_PEER" not in local
    assert running.stop() == 0
    assert len(entries(running)) == 5


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_a_client_that_leaves_is_logged(start: Callable[..., Running], tmp_path: Path, kind: str) -> None:
    """Before it was answered: nginx's 499, once."""
    (tmp_path / "hosted.py").write_text(
        "import os, time\ndef application(environ, start_response):\n open('begun', 'w').close()\n"
        " while not os.path.exists('go'): time.sleep(0.01)\n"
        " start_response('200 OK', [])\n yield b'x' * 100\n time.sleep(0.5)\n yield b'x'\n"
        "async def asgi(scope, receive, send):\n if scope['type'] != 'http': raise ValueError\n open('begun', 'w').close()\n"
        " while (await receive())['type'] != 'http.disconnect':\n  pass\n"
    )
    web, unix = listening(), listening(socket.AF_UNIX, str(tmp_path / "sock"))
    application = "hosted:asgi" if kind == "asgi" else "hosted:application"
    text = CONFIGURATION.format(folder=tmp_path, kind=kind, application=application)
    running = start(text, ("web", web), ("unix", unix)).wait_ready()
    with socket.create_connection(web.getsockname(), 30) as client:
        client.sendall(b"GET /gone HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until((tmp_path / "run0" / "begun").exists)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    (tmp_path / "run0" / "go").touch()
    (entry,) = wait_until(lambda: entries(running))
    assert (entry["HTTP_STATUS"], entry["HTTP_BYTES"]) == (499, 0)
    assert running.stop() == 0
    assert len(entries(running)) == 1
    assert "Traceback" not in running.errors


def test_type_http(start: Callable[..., Running], tmp_path: Path) -> None:
    """`<server>` with the application object."""
    (tmp_path / "hosted.py").write_text(
        "from wsgiref.simple_server import demo_app\ndef make():\n    return demo_app\n"
    )
    web = listening()
    text = f"python-path {tmp_path}\napplication-object hosted:make\n<server>\n type HTTP\n address systemd:name=web\n</server>\n"
    start(text, ("web", web)).wait_ready()
    assert b"Hello world!" in ask(web, b"GET /x HTTP/1.0\r\n\r\n")


def test_type_http_without_an_application(tmp_path: Path) -> None:
    """The line of the type, and 78."""
    (tmp_path / "hosted.py").write_text("def make():\n    return 5\n")
    file = tmp_path / "appd.conf"
    file.write_text("python-path .\napplication-object hosted:make\n<server>\n  address 8080\n  type HTTP\n</server>\n")
    done = subprocess.run([APPD, "check", str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 78
    assert f"{file}:5: type HTTP serves a WSGI application, but application-object made 5" in done.stderr


def test_problems(tmp_path: Path) -> None:
    """All of a section at once, an import's own traceback below its line, and 78."""
    (tmp_path / "hosted.py").write_text("import sys\nraise RuntimeError('not today')\n")
    file = tmp_path / "appd.conf"
    file.write_text(
        "python-path .\n<http>\n address 8080\n <wsgi>\n  application hosted:application\n </wsgi>\n"
        " <static>\n  path /m\n  root gone\n </static>\n <static>\n  path /m\n  root .\n </static>\n</http>\n"
        "<http empty>\n address 8081\n</http>\n"
    )
    done = subprocess.run([APPD, "check", str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 78
    for line in (
        f"{file}:5: hosted:application cannot be imported: RuntimeError: not today",
        f"{file}:9: root {tmp_path}/gone: there is no such folder",
        f"{file}:12: a second mount at /m; the first is at {file}:8",
        f"{file}:16: <http> serves nothing",
        f'File "{tmp_path}/hosted.py", line 2, in <module>',
    ):
        assert line in done.stderr
    assert "appd/servers" not in done.stderr
