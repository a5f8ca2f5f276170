"""The opening handshake of WebSocket: RFC 6455, 4.2, and permessage-deflate, RFC 7692. No sockets here.

Contexts are not kept from message to message, on either side: with them each connection would hold some hundred KB of
windows, and most connections are idle.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

from appd.http.errors import Refused

if TYPE_CHECKING:
    from appd.http.request import Request

__all__ = ["Offer", "asks_for_websocket", "read_offer"]

# RFC 6455, 1.3
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_DEFLATE = "permessage-deflate"


class Offer(NamedTuple):
    """What a client asks for.

    Attributes:
        accept: The value of Sec-WebSocket-Accept.
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
            if one.partition(";")[0].strip() != _DEFLATE:
                continue
            extension = PerMessageDeflate(client_no_context_takeover=True, server_no_context_takeover=True)
            try:
                accepted = extension.accept(one)
            except ValueError:
                continue
            if accepted is None or accepted is False:
                continue
            return [extension], f"{_DEFLATE}; {accepted}" if accepted is not True and accepted else _DEFLATE
        return [], ""


def asks_for_websocket(request: Request) -> bool:
    """Whether a request of HTTP/1.1 asks for a WebSocket in place of a response."""
    named = request.named
    if named.get("upgrade", "").strip().lower() != "websocket" or request.method != "GET" or not request.minor:
        return False
    return "upgrade" in [one.strip() for one in named.get("connection", "").lower().split(",")]


def read_offer(request: Request) -> Offer:
    """Reads the handshake.

    Raises:
        Refused: It is none.
    """
    named = request.named
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
    return Offer(accept, _listed(named, "sec-websocket-protocol"), _listed(named, "sec-websocket-extensions"))


def _listed(named: dict[str, str], name: str) -> list[str]:
    return [one.strip() for one in named.get(name, "").split(",") if one.strip()]
