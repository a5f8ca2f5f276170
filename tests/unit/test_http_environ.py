"""The environment of a call: what is kept of it from one request with the same head to the next."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from appd.http.core.connection import Connection
from appd.http.core.date import Origin
from appd.http.core.limits import Limits
from appd.http.lane.environ import base_environ
from appd.http.lane.gateway import Call

LIMITS = Limits()
HEAD = b"GET /a?b HTTP/1.1\r\nHost: x.example\r\nAccept: */*\r\n\r\n"


class Client:
    """Takes whatever is sent."""

    server: Any = SimpleNamespace(draining=False)
    unanswered = None

    def __init__(self, port: str, peer: str) -> None:
        self.door = SimpleNamespace(environ=base_environ("x", port, many_processes=False))
        self.peer = peer

    def describe_peer(self, environ: dict[str, Any]) -> None:
        environ["REMOTE_ADDR"] = self.peer

    def send_whole(self, *_: Any) -> bool:
        return False


def call(client: Client, mount: Any) -> dict[str, Any]:
    """What an application gets that leaves its environment spoilt."""
    connection = Connection(LIMITS, Origin())
    connection.receive(HEAD)
    request: Any = connection.next()
    seen: dict[str, Any] = {}

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.update({key: value for key, value in environ.items() if key not in ("wsgi.input", "wsgi.errors")})
        seen["read"] = environ["wsgi.input"].read()
        environ.update(PATH_INFO="spoilt", HTTP_SPOILT="1", **{"wsgi.url_scheme": "spoilt"})
        del environ["HTTP_ACCEPT"]
        start_response("200 OK", [])
        return [b""]

    mount.application = application
    Call(mount, client, request, "/a", None).run()  # type: ignore[arg-type]
    return seen


def test_every_call_has_its_own() -> None:
    """Whatever one leaves behind, and whoever else has asked with the same head, at another address or mount."""
    heads: dict[Any, Any] = {}
    mounts = [
        SimpleNamespace(script_name=name, heads=heads, with_headers=lambda fields: fields) for name in ("", "/other")
    ]
    clients = [Client("80", "192.0.2.1"), Client("81", "192.0.2.2")]
    # Each differs from the one before in one of the two.
    for one, other in [(0, 0), (0, 1), (1, 1), (1, 0)] * 2:
        mount, client = mounts[one], clients[other]
        for _ in range(3):
            found = call(client, mount)
            assert (found["SERVER_PORT"], found["REMOTE_ADDR"]) == (client.door.environ["SERVER_PORT"], client.peer)
            assert (found["SCRIPT_NAME"], found["PATH_INFO"], found["read"]) == (mount.script_name, "/a", b"")
            assert (found["HTTP_ACCEPT"], found["wsgi.url_scheme"]) == ("*/*", "http")
            assert "HTTP_SPOILT" not in found and "CONTENT_LENGTH" not in found
