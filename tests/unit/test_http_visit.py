"""A request for the lane on a connection of the loop, whose response cannot go on: its thread is free again."""

from __future__ import annotations

import queue
import socket
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from appd.http.core.connection import Connection
from appd.http.core.errors import Misuse
from appd.http.core.limits import Limits
from appd.http.lane.lane import Lane
from appd.http.lane.server import Server
from appd.http.loop.visit import Visit
from appd.http.site import of_application


class Log:
    """A log that nobody reads."""

    def write(self, *_: Any, **__: Any) -> None: ...


def application(_environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [])
    return (bytes(65536) for _ in range(1000))


@pytest.mark.parametrize("error", [Misuse("no head"), OSError("the disk is gone")])
@pytest.mark.parametrize("where", ["begin", "data"])
def test_a_response_that_cannot_go_on(where: str, error: Exception) -> None:
    """Whatever the application has to say still."""
    lane = Lane(1, Log())  # type: ignore[arg-type]  # writes
    lane.start()
    limits = Limits(response_spool=100_000)
    site = of_application(application, "test:application")._replace(limits=limits)
    server = Server("web", site, lane, Log())  # type: ignore[arg-type]  # writes
    calls: queue.SimpleQueue[tuple[Callable[..., object], tuple[Any, ...]]] = queue.SimpleQueue()
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        door = server.listen(sock.dup())
        cut: list[None] = []

        def fail(*_: Any) -> None:
            raise error

        line = SimpleNamespace(
            door=door, server=server, host="", port=0, secure=False, is_beyond=False, far=("", 0), variables={}, sock=sock,
            driver=SimpleNamespace(post=lambda call, *arguments: calls.put((call, arguments))),
            blocked=None, broken=False, exchange=None, cut=lambda: cut.append(None), continue_due=False, status=0,
            log_fields=lambda _request: {"HTTP_METHOD": "GET", "HTTP_PATH": "/"},
            begin=lambda *_: None, data=lambda _data: None,
        )  # fmt: skip
        setattr(line, where, fail)
        core = Connection(server.limits, server.origin)
        core.receive(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        request: Any = core.next()
        visit = Visit(line, request, server._mounted[0])
        visit.begin()
        ends = time.monotonic() + 20
        while not cut or lane.admission.running:
            assert time.monotonic() < ends, "the thread still waits"
            try:
                call, arguments = calls.get(timeout=0.05)
            except queue.Empty:
                continue
            call(*arguments)
        assert cut == [None]
        assert lane.stop()
        door.close()
