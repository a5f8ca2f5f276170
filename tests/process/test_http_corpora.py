"""The corpora of requests, sent to a running appd."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.http1 import CORPORA, LIMITS, cases
from support.running import serving

CONFIGURATION = """
<http web>
  address systemd:name={name}
  <limits>
    body-size {size}
  </limits>
  <{kind}>
    application {application}
  </{kind}>
</http>
"""
# What answers, on each driver.
DRIVERS = {
    "lane": ("wsgi", "wsgiref.simple_server:demo_app"),
    "loop": ("asgi", "{folder}/quiet.py:application\n    websocket off"),
}
APPLICATIONS = Path(__file__).parents[1] / "applications"
_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) [^\r]*\r\nServer: appd\r\n")


def configuration(driver: str, name: str, folder: Path = APPLICATIONS) -> str:
    """The file of the server that answers.

    Args:
        driver: One of `DRIVERS`.
        name: The name of its socket.
        folder: Where `quiet.py` lies.
    """
    kind, application = DRIVERS[driver]
    application = application.format(folder=folder)
    return CONFIGURATION.format(name=name, size=LIMITS.body_size, kind=kind, application=application)


@pytest.fixture(scope="module", params=DRIVERS)
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of one appd for all tests of this file; $APPD_CORPORA_PORT is that of one that runs already, with the same file."""
    if "APPD_CORPORA_PORT" in os.environ:
        yield int(os.environ["APPD_CORPORA_PORT"])
        return
    folder = tmp_path_factory.mktemp("corpora")
    (folder / "appd.conf").write_text(configuration(request.param, "web"))
    with serving(folder) as (_running, number):
        yield number


def statuses(port: int, data: bytes) -> tuple[list[str], bytes]:
    """Sends bytes and the end of them; the statuses that come, and all that does."""
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    return [one.decode() for one in _STATUS.findall(answer)], answer


@pytest.mark.parametrize("path", sorted(CORPORA.glob("*.cases")), ids=lambda path: path.stem)
def test_a_running_server_does_the_same(port: int, path: Path) -> None:
    """A 200 for each request, the status of a refusal, and then the end; what is cut off is a 400 or nothing."""
    for case in cases(path):
        expected = [one[:3] if one[:3].isdigit() else "200" for one in case.expected if one != "wait"]
        found, answer = statuses(port, case.data)
        assert found[: len(expected)] == expected, (case.title, answer)
        waits = "wait" in case.expected
        assert found[len(expected) :] in ([[], ["400"]] if waits else [[]]), (case.title, answer)
        if found and found[-1] != "200":
            assert b"\r\nConnection: close\r\n" in answer.rpartition(b"HTTP/1.1 ")[2], case.title
