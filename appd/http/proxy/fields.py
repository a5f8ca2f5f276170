"""Fields of a request for the upstream, and of its response for the client: RFC 9110, 7.6, and RFC 7239."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["Fields", "hops_of", "request_fields", "response_fields", "target_of"]

Fields = list[tuple[str, str]]
Raw = Sequence[tuple[bytes, bytes]]

# RFC 9110, 7.6.1: what is said of one connection, not of a message.
_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
# X_Y would be X-Y to an upstream that makes variables of them, and pass for what we say: names with "_" stay here.
# Expect we answer ourselves, when the upstream begins to take the body. What a client says of itself is not passed on:
# only what appd found out goes to the upstream.
_NOT_PASSED = _HOP_BY_HOP | {b"expect", b"host", b"forwarded", b"x-real-ip"}
# The handshake of a WebSocket is each side's own.
_WEBSOCKET = b"sec-websocket-"
_NOT_PASSED_PREFIXES = (b"x-forwarded-", _WEBSOCKET)
_PSEUDONYM = "appd"


def hops_of(raw: Raw) -> int:
    """How many proxies of ours a request has come through: a circle shows by it (RFC 9110, 7.6.3)."""
    via = b",".join(value for name, value in raw if name == b"via")
    return sum(one.split()[-1:] == [_PSEUDONYM.encode()] for one in via.split(b","))


def request_fields(scope: Mapping[str, Any], host: str | None = None) -> Fields:
    """Makes the fields of a request for the upstream.

    Args:
        scope: The ASGI scope, whose `client` and `scheme` are those that trusted proxies in front told.
        host: The Host for the upstream; None for the one that the client asked for.
    """
    raw: Raw = scope["headers"]
    named = _named_by_connection(raw)
    fields: Fields = []
    asked = via = ""
    for name, value in raw:
        if name == b"host":
            asked = value.decode("latin-1")
        elif name == b"via":
            via += _text(value) + ", "
        elif not (b"_" in name or name in _NOT_PASSED or name in named or name.startswith(_NOT_PASSED_PREFIXES)):
            fields.append((name.decode("latin-1"), _text(value)))
    fields.append(("host", host if host is not None else asked))
    fields.append(("via", f"{via}{scope.get('http_version', '1.1')} {_PSEUDONYM}"))
    return fields + _claims(scope, asked)


def target_of(scope: Mapping[str, Any]) -> str:
    """Path and query for the upstream, as the client wrote them."""
    path: bytes = scope["raw_path"]
    query: bytes = scope.get("query_string", b"")
    return (path + b"?" + query if query else path).decode("latin-1")


def response_fields(raw: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Makes the fields of a response for the client, names in lower case."""
    lower = [(name.lower(), value) for name, value in raw]
    named = _named_by_connection(lower)
    return [one for one in lower if not (one[0] in _HOP_BY_HOP or one[0] in named or one[0].startswith(_WEBSOCKET))]


def _text(value: bytes) -> str:
    """A value for aiohttp, which writes UTF-8: the same bytes again where they are that."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _named_by_connection(raw: Raw) -> set[bytes]:
    return {
        one.strip().lower() for name, value in raw if name == b"connection" for one in value.split(b",") if one.strip()
    }


def _claims(scope: Mapping[str, Any], host: str) -> Fields:
    """What the upstream is told of the client; both kinds say the same."""
    scheme = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])
    client = scope.get("client")
    fields: Fields = [("x-forwarded-proto", scheme)]
    pairs = []
    # The peer of a UNIX socket has no address, and saying so would be one word for some and an error for others.
    if client is not None and client[0]:
        address = client[0]
        fields.append(("x-forwarded-for", address))
        pairs.append(f'for="[{address}]"' if ":" in address else f"for={address}")
    if "appd.user" in scope:
        # Whom `auth` has let in; what the client says of itself in such a field was not passed on.
        fields.append(("x-forwarded-user", scope["appd.user"]))
    if host:
        fields.append(("x-forwarded-host", host))
        pairs.append(f'host="{host}"')
    pairs.append(f"proto={scheme}")
    fields.append(("forwarded", ";".join(pairs)))
    return fields
