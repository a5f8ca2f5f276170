"""`debug on` with `--single` on a terminal: an application's error drops into pdb, as PostmortemDebuggingHTTP did."""

from __future__ import annotations

import os
import pty
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from support.running import APPD, ask, listening, read_to

APPLICATION = """
def app(environ, start_response):
    if environ["PATH_INFO"] == "/fails":
        price, bought = 3, None
        return [price * bought]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"fine"]

def make():
    return app
"""
GET = b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Terminal:
    """appd on a terminal of its own."""

    def __init__(self, folder, text: str, *, alone: bool = True) -> None:
        (folder / "broken.py").write_text(APPLICATION)
        (folder / "appd.conf").write_text(f"python-path {folder}\n{text}")
        self.passed = listening()
        self.fd, theirs = pty.openpty()
        activate = os.path.join(os.path.dirname(__file__), "..", "support", "activate.py")
        number = str(self.passed.fileno())
        command = [sys.executable, activate, number, "h", APPD, "run", str(folder / "appd.conf")]
        command += ["--single"] if alone else ["--control", str(folder / "control")]
        environ = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ, pass_fds=[self.passed.fileno()],
            start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self.said = ""

    def wait(self, text: str, timeout: float = 30.0) -> str:
        """Reads until a text comes; returns all that came, and forgets it."""
        ends = time.monotonic() + timeout
        while text not in self.said:
            assert time.monotonic() < ends, f"no {text!r} in {self.said!r}"
            if select.select([self.fd], [], [], 0.1)[0]:
                self.said += os.read(self.fd, 65536).decode(errors="replace")
        read, self.said = self.said, ""
        return read

    def type(self, line: str) -> None:
        os.write(self.fd, f"{line}\n".encode())

    def fail(self) -> socket.socket:
        """Has the application fail; the caller closes the connection."""
        client = socket.create_connection(self.passed.getsockname(), timeout=30)
        client.sendall(GET % b"/fails")
        return client


@pytest.fixture
def terminal(tmp_path):
    started: list[Terminal] = []

    def begin(text: str, **options: bool) -> Terminal:
        started.append(Terminal(tmp_path, text, **options))
        started[-1].wait("ready: serving")
        return started[-1]

    yield begin
    for one in started:
        one.process.kill()
        one.process.wait(20)
        os.close(one.fd)


HTTP = "<http h>\n address systemd:name=h\n debug {}\n <wsgi>\n  application broken:app\n </wsgi>\n</http>\n"
ZOPE = "application-object broken:make\n<server h>\n type PostmortemDebuggingHTTP\n address systemd:name=h\n</server>\n"


@pytest.mark.parametrize("text", [HTTP.format("on"), ZOPE], ids=["debug on", "PostmortemDebuggingHTTP"])
def test_a_person_looks_at_the_frames(terminal: Callable[..., Terminal], text):
    """Locals of the frame that failed; others are served meanwhile; then the answer is 500."""
    one = terminal(text)
    with one.fail() as client:
        shown = one.wait("(Pdb) ")
        assert "the application failed: GET /fails" in shown and "unsupported operand" in shown
        one.type("p 'price is %d' % price")
        assert "'price is 3'" in one.wait("(Pdb) ")
        one.type("where")
        assert "broken.py" in one.wait("(Pdb) ")
        assert ask(one.passed, GET % b"/").endswith(b"fine")
        one.type("q")
        assert read_to(client, b"\r\n").startswith(b"HTTP/1.1 500 ")
    # And the next one.
    with one.fail():
        one.wait("(Pdb) ")
        one.type("q")
        one.wait("the application failed")


def test_a_stop_does_not_wait_for_a_person(terminal: Callable[..., Terminal]):
    """Ctrl-C twice, as ever."""
    one = terminal(HTTP.format("on"))
    with one.fail():
        one.wait("(Pdb) ")
        one.process.send_signal(2)
        one.wait("stopping")
        one.process.send_signal(2)
        assert one.process.wait(20) == 0


@pytest.mark.parametrize(("debug", "alone"), [("off", True), ("on", False)], ids=["without debug", "with a supervisor"])
def test_nobody_is_asked(terminal: Callable[..., Terminal], debug, alone):
    """Without `debug on`, or with a supervisor: 500 at once."""
    one = terminal(HTTP.format(debug), alone=alone)
    with one.fail() as client:
        assert read_to(client, b"\r\n").startswith(b"HTTP/1.1 500 ")
    assert "(Pdb)" not in one.wait("the application failed")
