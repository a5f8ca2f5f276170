"""The scope of an ASGI call: what is known of a request and of who asks.

https://asgi.readthedocs.io/en/latest/specs/www.html; text is decoded as it says there, header fields are bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appd.http.core.request import Request

__all__ = ["make_scope", "raw_of", "tls_extension"]

_VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
_ASGI = {"version": "3.0", "spec_version": "2.4"}
_HTTP: dict[str, Any] = {"http.response.pathsend": {}, "http.response.early_hint": {}}
_TRAILERS = {**_HTTP, "http.response.trailers": {}}
_WEBSOCKET: dict[str, Any] = {"websocket.http.response": {}}


class Raw:
    """What a scope has of a request alone: one that stands for several need be encoded once.

    Args:
        request: The request.

    Attributes:
        path: Its path, decoded.
        raw_path: The same as it was sent.
        query: What follows the first `?`.
        fields: The header fields; names in lower case.
        extensions: Those of ASGI that it can be answered with.
    """

    __slots__ = ("extensions", "fields", "path", "query", "raw_path")

    def __init__(self, request: Request) -> None:
        path = request.path
        self.path = unquote(path) if "%" in path else path
        self.raw_path = path.encode("latin-1")
        self.query = request.query.encode("latin-1")
        self.fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.fields]
        # RFC 9110, 6.5.1: trailers are for who says that he takes them.
        self.extensions = _TRAILERS if "trailers" in request.named.get("te", "") else _HTTP


def raw_of(request: Request) -> Raw:
    """What was made of a request, or is now."""
    raw: Raw | None = request.raw
    if raw is None:
        raw = request.raw = Raw(request)
    return raw


def make_scope(line: Any, request: Request, mount: Any, *, websocket: bool = False) -> dict[str, Any]:
    """Makes the scope of a call.

    Args:
        line: What the request came on: `LoopClient` or a stream of HTTP/2.
        request: The request.
        mount: What is called.
        websocket: Whether it asks for a WebSocket.
    """
    raw = raw_of(request)
    host, port, scheme, authority = line.seen()
    fields = list(raw.fields)
    if authority is not None:
        fields = [one if one[0] != b"host" else (b"host", authority.encode("latin-1")) for one in fields]
    extensions: dict[str, Any]
    if websocket:
        extensions = _WEBSOCKET
        scheme = "wss" if scheme == "https" else "ws"
    else:
        extensions = raw.extensions
    tls = line.tls
    scope = {
        "type": "websocket" if websocket else "http",
        "asgi": _ASGI,
        "http_version": line.http_version(request),
        "method": request.method,
        "scheme": scheme,
        "path": raw.path,
        "raw_path": raw.raw_path,
        "query_string": raw.query,
        "root_path": mount.root_path,
        "headers": fields,
        "client": (host, port) if host else None,
        "server": line.door.address,
        # Of the body; None where that is not known. HTTP/2 has no field that says that there is one.
        "appd.length": request.length,
        "extensions": {**extensions, "tls": tls} if tls is not None else extensions.copy(),
    }
    if websocket:
        del scope["method"]
    state = mount.state
    if state is not None:
        scope["state"] = state.copy()
    return scope


def tls_extension(variables: Mapping[str, str]) -> dict[str, Any]:
    """What is known of a TLS connection: https://asgi.readthedocs.io/en/latest/specs/tls.html.

    Args:
        variables: What WSGI applications are told of it.
    """
    certificate = variables.get("SSL_CLIENT_CERT")
    return {
        "server_cert": None,
        "client_cert_chain": [certificate] if certificate else [],
        # Of that each byte is a character (PEP 3333).
        "client_cert_name": variables["SSL_CLIENT_S_DN"].encode("latin-1").decode() if certificate else None,
        "client_cert_error": None,
        "tls_version": _VERSIONS.get(variables.get("SSL_PROTOCOL", "")),
        "cipher_suite": None,
    }
