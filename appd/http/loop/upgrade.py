"""The opening handshake of WebSocket: RFC 6455, 4.2, and permessage-deflate, RFC 7692. No sockets here.

Contexts are not kept from message to message, on either side: with them each connection would hold some hundred KB of
windows, and most connections are idle.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from appd.http.core.errors import Refused

if TYPE_CHECKING:
    from appd.http.core.request import Request

__all__ = ["Offer", "asks_for_websocket", "read_offer"]

# RFC 6455, 1.3
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_DEFLATE = "permessage-deflate"
# RFC 7692, 7.1: what a parameter may be; one that is something else, or comes twice, has the offer declined. Of the
# windows that may be asked for, zlib cannot make that of 8 bits.
_WINDOW = re.compile(r'(?:9|1[0-5])|"(?:9|1[0-5])"')
_PARAMETERS = {
    "server_no_context_takeover": "none",
    "client_no_context_takeover": "none",
    "server_max_window_bits": "window",
    "client_max_window_bits": "window or none",
}


class Offer(NamedTuple):
    """What a client asks for.

    Attributes:
        accept: The value of Sec-WebSocket-Accept; "" within HTTP/2.
        subprotocols: Those that it speaks, the best first.
        extensions: The extensions that it offers.
    """

    accept: str
    subprotocols: list[str]
    extensions: list[str]

    def deflate(self) -> tuple[list[Any], str]:
        """Takes up permessage-deflate, if it is offered in a form that is known.

        Returns:
            Extensions for wsproto, and the value of Sec-WebSocket-Extensions; "" for none.
        """
        from wsproto.extensions import PerMessageDeflate

        for one in self.extensions:
            offer = _understood(one)
            if offer is None:
                continue
            extension = PerMessageDeflate(client_no_context_takeover=True, server_no_context_takeover=True)
            return [extension], f"{_DEFLATE}; {extension.accept(offer)}"
        return [], ""


def _understood(offer: str) -> str | None:
    """An offer of permessage-deflate in plain form; None for one that is to be declined."""
    name, *parameters = [one.strip() for one in offer.split(";")]
    if name != _DEFLATE:
        return None
    said = [name]
    seen = set()
    for one in parameters:
        key, equals, value = (part.strip() for part in one.partition("="))
        allowed = _PARAMETERS.get(key, "")
        if key in seen or not ("window" in allowed and _WINDOW.fullmatch(value) if equals else "none" in allowed):
            return None
        seen.add(key)
        bare = value.strip('"')
        said.append(f"{key}={bare}" if equals else key)
    return "; ".join(said)


def asks_for_websocket(request: Request) -> bool:
    """Whether a request of HTTP/1.1 asks for a WebSocket in place of a response."""
    named = request.named
    if named.get("upgrade", "").strip().lower() != "websocket" or request.method != "GET" or not request.minor:
        return False
    return "upgrade" in [one.strip() for one in named.get("connection", "").lower().split(",")]


def read_offer(request: Request, *, tunnel: bool = False) -> Offer:
    """Reads the handshake.

    Args:
        request: The request.
        tunnel: Whether it came within HTTP/2, where it has no key: RFC 8441, 5.

    Raises:
        Refused: It is none.
    """
    named = request.named
    subprotocols, extensions = _listed(named, "sec-websocket-protocol"), _listed(named, "sec-websocket-extensions")
    if tunnel:
        if request.length == 0:
            raise Refused(400, "a handshake of WebSocket that has ended")
        return Offer("", subprotocols, extensions)
    if request.length != 0:
        raise Refused(400, "a handshake of WebSocket with a body")
    key = named.get("sec-websocket-key", "")
    try:
        sound = len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        sound = False
    if not sound:
        raise Refused(400, "Sec-WebSocket-Key is not 16 bytes in base64")
    accept = base64.b64encode(hashlib.sha1(key.encode("latin-1") + _GUID).digest()).decode()
    return Offer(accept, subprotocols, extensions)


def _listed(named: dict[str, str], name: str) -> list[str]:
    return [one.strip() for one in named.get(name, "").split(",") if one.strip()]
