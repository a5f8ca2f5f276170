"""Who is at the other end of a connection, and what log entries say of them and their request."""

from __future__ import annotations

import sys

from appd.http.core.target import host_name
from appd.http.log.accesslog import Answer, printable
from appd.startup.bare import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from appd.http.core.forwarded import Claims
    from appd.http.core.request import Request
    from appd.journal.entry import Value

__all__ = ["answer_of", "credentials", "describe", "fields_of", "peer_text"]


def peer_text(host: str, port: int) -> str:
    """An address as text; "" for none."""
    if not host:
        return ""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def credentials(sock: socket.socket) -> dict[str, Any]:
    """Who is at the other end of a UNIX socket, as keys of a WSGI environment; nothing when the kernel does not say."""
    try:
        packed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    except OSError:
        return {}
    # struct ucred of unix(7)
    pid, uid, gid = (int.from_bytes(packed[at : at + 4], sys.byteorder) for at in (0, 4, 8))
    return {"appd.peer_pid": pid, "appd.peer_uid": uid, "appd.peer_gid": gid}


def fields_of(server: str, peer: str, request: Request) -> dict[str, Value]:
    """The fields of log entries about a request."""
    fields: dict[str, Value] = {"APPD_PEER": peer} if peer else {}
    return {
        "APPD_SERVER": server,
        **fields,
        "HTTP_METHOD": printable(request.method.encode("latin-1")),
        "HTTP_PATH": printable(request.target.partition("?")[0].encode("latin-1")),
    }


def answer_of(request: Request, status: int, sent: int, duration: float, host: str, port: int) -> Answer:
    """What the access log says of a request."""
    named = request.named
    return Answer(
        request.method.encode("latin-1"),
        request.target.encode("latin-1"),
        b"HTTP/1.1" if request.minor else b"HTTP/1.0",
        status,
        0 if request.method == "HEAD" else sent,
        duration,
        host,
        peer_text(host, port),
        named.get("referer", "").encode("latin-1"),
        named.get("user-agent", "").encode("latin-1"),
    )


def describe(client: Any, environ: dict[str, Any], sock: socket.socket) -> None:
    """Adds who a client is to an environment.

    Args:
        client: A `Leaver`, or what stands for one: `claims`, `secure`, `far`, `host`, `port`, `door`.
        environ: The environment.
        sock: Its socket.
    """
    claims, secure, host, port = client.claims, client.secure, client.host, client.port
    if claims is not None:
        secure = claims.scheme == "https" if claims.scheme else secure
        _describe_claims(claims, environ, secure=secure)
        host, port = client.far
    environ["REMOTE_ADDR"] = host
    if port:
        environ["REMOTE_PORT"] = str(port)
    if secure:
        environ["wsgi.url_scheme"] = "https"
    if client.door.is_local:
        environ.update(credentials(sock))


def _describe_claims(claims: Claims, environ: dict[str, Any], *, secure: bool) -> None:
    if claims.authority:
        environ["HTTP_HOST"] = claims.authority
        environ["SERVER_NAME"] = host_name(claims.authority)
    if claims.authority or claims.scheme:
        port = (claims.authority or "").rpartition("]")[2].partition(":")[2]
        environ["SERVER_PORT"] = port or ("443" if secure else "80")
