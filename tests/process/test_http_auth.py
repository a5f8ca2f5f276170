"""`auth` of mounts: 401 and who gets in, on the lane and on an address that Twisted binds."""

from __future__ import annotations

import base64
import http.client
import os
import subprocess
import time

import pytest
from support.running import APPD, listening, spare_port, wait_until
from support.service import Service

APPLICATION = """
def app(environ, start_response):
    body = environ["wsgi.input"].read()
    said = [environ.get(key, "-") for key in ("REMOTE_USER", "AUTH_TYPE", "HTTP_AUTHORIZATION")] + [str(len(body))]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [" ".join(said).encode("latin-1")]
"""
FILE = """python-path {folder}
<auth staff>
  passwords {folder}/passwd
  checker memory:joe:pass
  failure-delay 3s
</auth>
<http h>
  address {address}
  <static>
    root {folder}/files
    auth staff
  </static>
  <wsgi>
    path /app
    application hosted:app
    auth Staff
  </wsgi>
  <wsgi>
    path /open
    application hosted:app
  </wsgi>
  <redirect>
    path /away
    to https://example.org/
    auth staff
  </redirect>
</http>
"""


@pytest.fixture(params=["lane", "described"])
def serve(request, start, tmp_path):
    """Starts a server; gives it and what makes connections to it."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "f").write_text("content")
    (tmp_path / "hosted.py").write_text(APPLICATION)
    for user, scheme in (("alice", "--bcrypt"), ("j\u00f6rg", "--bcrypt")):
        subprocess.run(
            [APPD, "passwd", str(tmp_path / "passwd"), user, scheme], input="secret\n", text=True, check=True
        )
    if request.param == "lane":
        listener = listening()
        running = start(FILE.format(folder=tmp_path, address="systemd:name=h"), ("h", listener)).wait_ready()
        port = listener.getsockname()[1]
    else:
        port = spare_port()
        text = FILE.format(folder=tmp_path, address=f"haproxy:tcp:{port}:interface=127.0.0.1")
        running = start(text, arguments=("--single",)).wait_ready()

    def connect():
        made = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        if request.param != "lane":
            made.connect()
            made.sock.sendall(b"PROXY TCP4 192.0.2.9 192.0.2.1 1 80\r\n")
        return made

    connect.running = running
    connect.folder = tmp_path
    return connect


def ask(connect, path, user=None, password="secret", body=None, connection=None):
    """One request; a connection of its own unless one is given."""
    made = connection or connect()
    headers = {}
    if user is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    made.request("POST" if body is not None else "GET", path, body, headers)
    answer = made.getresponse()
    text = answer.read()
    if connection is None:
        made.close()
    return answer, text


def test_every_kind_of_mount_asks(serve):
    """Files, applications and redirects; a mount without the key is open, whatever is shown."""
    for path in ("/f", "/app", "/away/x", "/nothing"):
        answer, _text = ask(serve, path)
        assert answer.status == 401 and answer.getheader("WWW-Authenticate") == 'Basic realm="staff", charset="UTF-8"'
    assert ask(serve, "/open")[1] == b"- - - 0"
    assert ask(serve, "/open", "alice")[1].startswith(b"- - Basic ")
    assert ask(serve, "/f", "alice")[1] == b"content"
    assert ask(serve, "/nothing", "alice")[0].status == 404
    assert ask(serve, "/away/x", "alice")[0].getheader("Location") == "https://example.org/x"


def test_the_application_knows_who_it_is(serve):
    """And not the password."""
    for _ in range(2):
        assert ask(serve, "/app/x", "alice", body=b"x" * 200_000)[1] == b"alice Basic - 200000"
    assert ask(serve, "/app", "joe", "pass")[1] == b"joe Basic - 0"
    assert ask(serve, "/app", "j\u00f6rg")[1].decode() == "j\u00f6rg Basic - 0"


def test_one_connection_crosses_all(serve):
    """Bodies of refused requests are read past."""
    made = serve()
    for _ in range(2):
        assert ask(serve, "/app", body=b"x" * 100_000, connection=made)[0].status == 401
        assert ask(serve, "/app", "alice", body=b"x" * 100_000, connection=made)[1] == b"alice Basic - 100000"
        assert ask(serve, "/f", "alice", connection=made)[1] == b"content"
        assert ask(serve, "/open", connection=made)[0].status == 200
    made.close()


def test_what_the_loop_serves_asks_too(start, tmp_path):
    """An application of ASGI, a resource and a proxy; who is let in, and nothing of a password, is told to each."""
    (tmp_path / "hosted.py").write_text(
        """
from twisted.web import resource

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        return
    said = f"{scope['appd.user']} {b'authorization' in dict(scope['headers'])}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": said})

class Page(resource.Resource):
    isLeaf = True
    def render(self, request):
        return repr(request.getHeader("authorization")).encode()

page = Page()

def behind(environ, start_response):
    start_response("200 OK", [])
    return [environ.get("HTTP_X_FORWARDED_USER", "-").encode("latin-1")]
"""
    )
    subprocess.run(
        [APPD, "passwd", str(tmp_path / "passwd"), "alice", "--bcrypt"], input="secret\n", text=True, check=True
    )
    listener, behind = listening(), listening(address=("127.0.0.1", 0))
    guarded = "".join(
        f"  <{kind}>\n    path /{kind}\n    {keys}\n    auth staff\n  </{kind}>\n"
        for kind, keys in (
            ("asgi", "application hosted:app"),
            ("resource", "resource hosted:page"),
            ("proxy", f"upstream 127.0.0.1:{behind.getsockname()[1]}"),
        )
    )
    start(
        f"python-path {tmp_path}\n<auth staff>\n  passwords {tmp_path}/passwd\n</auth>\n<http h>\n  address systemd:name=h\n"
        f"{guarded}</http>\n<http behind>\n  address systemd:name=behind\n  <wsgi>\n    application hosted:behind\n"
        "  </wsgi>\n</http>\n",
        ("h", listener),
        ("behind", behind),
    ).wait_ready()

    def connect():
        return http.client.HTTPConnection("127.0.0.1", listener.getsockname()[1], timeout=30)

    for path, expected in (("/asgi", b"alice False"), ("/resource", b"None"), ("/proxy", b"alice")):
        answer, _text = ask(connect, path)
        assert answer.status == 401 and answer.getheader("WWW-Authenticate").startswith('Basic realm="staff"')
        for _ in range(2):
            answer, text = ask(connect, path, "alice")
            assert (answer.status, text) == (200, expected)
    made = connect()
    made.request(
        "GET",
        "/asgi",
        headers={
            "Connection": "upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw==",
        },
    )
    assert made.getresponse().status == 401
    made.close()


def test_failures_are_slowed_and_logged(serve):
    """429 for the next attempt, of the right password too, if it was not seen lately; nothing tells who is there."""
    assert ask(serve, "/app", "joe", "pass")[0].status == 200
    first, _text = ask(serve, "/app", "alice", "wrong")
    assert first.status == 401
    assert ask(serve, "/app", "alice")[0].status == 429
    assert ask(serve, "/app", "joe", "pass")[0].status == 200, "who is known is let in"
    assert ask(serve, "/open")[0].status == 200
    wait_until(lambda: ask(serve, "/app", "alice")[0].status == 200)
    wait_until(lambda: ask(serve, "/f", "nobody", "wrong")[0].status != 429)
    serve.running.wait_said("h: login failed: password of 'alice' from ")
    serve.running.wait_said("h: login failed: password of 'nobody' from ")
    assert "wrong" not in serve.running.errors and "Traceback" not in serve.running.errors


def test_all_workers_count_together(start, tmp_path):
    """A peer that has failed at one waits at every other, and at those of the next generation."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "f").write_text("content")
    (tmp_path / "hosted.py").write_text(APPLICATION)
    command = [APPD, "passwd", str(tmp_path / "passwd"), "alice", "--bcrypt"]
    subprocess.run(command, input="secret\n", text=True, check=True)
    text = FILE.format(folder=tmp_path, address="systemd:name=h").replace("failure-delay 3s", "failure-delay 10m")
    made = Service(start, tmp_path, "workers 2\n", text)

    def connect():
        return http.client.HTTPConnection("127.0.0.1", made.passed.getsockname()[1], timeout=30)

    def asked_of():
        return [one["requests"] for one in made.status()["workers"] if one["state"] == "serving"]

    assert ask(connect, "/f", "alice", "wrong")[0].status == 401
    for reloads in range(2):
        answers = [ask(connect, "/f", "alice")[0].status for _ in range(20)]
        # Until both were asked; who is told 429 is not looked at, so it costs them nothing.
        ends = time.monotonic() + 20
        while not all(wait_until(asked_of)) and time.monotonic() < ends:
            answers.append(ask(connect, "/f", "alice")[0].status)
        assert set(answers) == {429} and len(asked_of()) == 2 and all(asked_of())
        if not reloads:
            assert made.reload().returncode == 0
    assert made.running.stop() == 0


def test_a_change_of_the_file_counts_at_once(serve):
    """What is remembered too."""
    assert ask(serve, "/f", "alice")[0].status == 200
    passwd = str(serve.folder / "passwd")
    subprocess.run([APPD, "passwd", passwd, "alice", "--bcrypt"], input="other\n", text=True, check=True)
    assert ask(serve, "/f", "alice")[0].status == 401
    wait_until(lambda: ask(serve, "/f", "alice", "other")[0].status == 200)


def test_a_hash_is_not_reckoned_for_each_request(serve):
    """A thousand requests take less than a hundred of their hashes would: bcrypt takes a quarter of a second."""
    made = serve()
    ask(serve, "/f", "alice", connection=made)
    used = cpu(serve.running.process.pid)
    for _ in range(1000):
        assert ask(serve, "/f", "alice", connection=made)[0].status == 200
    assert cpu(serve.running.process.pid) - used < 25
    made.close()


def cpu(pid):
    """Seconds of processor time of a process and its children that have not ended."""
    total = 0.0
    for one in os.listdir("/proc"):
        if one.isdigit():
            try:
                with open(f"/proc/{one}/stat") as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            if int(one) == pid or int(fields[1]) == pid:
                total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def test_check_finds_an_unknown_name(tmp_path):
    """With the line, beside other problems of the mount."""
    (tmp_path / "a.conf").write_text(
        "<http h>\n address 127.0.0.1:0\n <static>\n  root none\n  auth staf\n </static>\n</http>\n"
        "<auth staff>\n checker memory:a:b\n</auth>\n"
    )
    done = subprocess.run([APPD, "check", "a.conf"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 78
    assert [one.split(": ")[0] for one in done.stderr.splitlines()] == ["a.conf:5", "a.conf:4"]
    assert "did you mean staff?" in done.stderr
