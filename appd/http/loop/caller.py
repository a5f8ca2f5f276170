"""Who is at the other end of a connection on the loop, and what is said of it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from appd.http.log.entrylog import tell_failure
from appd.http.log.peer import answer_of, fields_of, peer_text
from appd.journal import ERROR

if TYPE_CHECKING:
    from appd.http.core.forwarded import Claims
    from appd.http.core.request import Request
    from appd.http.lane.mounted import Mounted
    from appd.journal.entry import Value

__all__ = ["Caller"]


class Caller(asyncio.Protocol):
    """What connections of HTTP/1.1 and streams of HTTP/2 have in common: whose they are.

    Attributes:
        door: Where it came in.
        server: The server.
        host: The address of the peer, "" when it has none.
        port: Its port.
        secure: Whether the client speaks TLS, with us or with a proxy in front.
        is_beyond: Whether the client is one of a proxy's UNIX socket.
        forbidden: Whether its certificate lets it in nowhere.
        variables: What a WSGI application is told of TLS.
        claims: What trusted proxies say of the request.
        tls: What ASGI's TLS extension says; None for plain connections.
        mounted: The mount that answers the request, while one does.
        protocol: What a tunnel within HTTP/2 is for; "" where none is asked for.
    """

    __slots__ = ("claims", "door", "forbidden", "host", "is_beyond", "port", "secure", "server", "tls", "variables")

    mounted: Mounted | None
    protocol = ""

    def __init__(self, door: Any, host: str, port: int) -> None:
        self.door = door
        self.server = door.server
        self.host = host
        self.port = port
        self.secure = self.is_beyond = self.forbidden = False
        self.variables: dict[str, str] = {}
        self.claims: Claims | None = None
        self.tls: dict[str, Any] | None = None

    @property
    def call_limit(self) -> float:
        """How long the call of a mount of the loop may take, from its head, in seconds; 0 is no limit.

        The lane looks after its own calls: they begin behind the body and the queue.
        """
        mounted = self.mounted
        return self.server.limits.request_timeout if mounted is not None and mounted.driver is not None else 0.0

    @property
    def far(self) -> tuple[str, int]:
        """The address of the client, as far as whom is trusted says it; ("", 0) for none."""
        claims = self.claims
        return (claims.host, claims.port) if claims is not None and claims.host else (self.host, self.port)

    def seen(self) -> tuple[str, int, str, str | None]:
        """Address and port of the client, the scheme that it used, and the host that a proxy was asked for."""
        claims, scheme = self.claims, "https" if self.secure else "http"
        if claims is None:
            return self.host, self.port, scheme, None
        return *self.far, claims.scheme or scheme, claims.authority

    def log_fields(self, request: Request) -> dict[str, Value]:
        """The fields of log entries about a request."""
        return fields_of(self.server.name, peer_text(*self.far), request)

    def log_access(self, request: Request, kind: str, status: int, sent: int, began: float) -> None:
        """Writes the access log."""
        answer = answer_of(request, status, sent, time.monotonic() - began, *self.far)
        self.server.access.write(answer, kind, time.time())

    def tell(self, request: Request, what: str, error: BaseException | None) -> None:
        """Tells of a failure of an application; with `debug on` a report is kept."""
        fields = self.log_fields(request)
        report = self.server.report
        if error is not None and report is not None:
            what = report(what, error, fields)
        message = f"{what}: {fields['HTTP_METHOD']!s} {fields['HTTP_PATH']!s}"
        if error is not None:
            tell_failure(self.server.log, message, error, LOGGER="appd.asgi", **fields)
        else:
            self.server.log.write(message, ERROR, LOGGER="appd.asgi", **fields)
