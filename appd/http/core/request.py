"""A request, as the core hands it on."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["Request"]


class Request:
    """A request, once its head is complete. Text is latin-1, a character a byte.

    One without a body may stand for several requests, also of other clients, that came with the same head: nobody
    changes it, but for what drivers keep in it.

    Attributes:
        method: The method.
        target: The request target as it was sent; ASCII.
        path: Its path, still encoded; `*` for the server as a whole.
        query: What follows the first `?`, still encoded.
        authority: Host and port as the client wrote them, "" when it named none. Of an absolute target its own, which
            then stands in the fields too.
        host: The host in lower case without port.
        minor: The minor version: 0 or 1.
        fields: The header fields in order, names in lower case.
        named: The same by name; fields of one name joined as RFC 9110, 5.3 says.
        length: Of the body in bytes; 0 for none; None for a chunked one.
        keep_alive: Whether the client lets the connection stay.
        expects_continue: Whether it waits for a 100 before it sends the body.
        trailers: The trailer fields of a chunked body, when it has ended.
        is_plain: Whether nothing in it changes how a response is made, and it stands for others; see `keep_head`.
        raw, environ: For drivers, who may keep here what they make of it.
    """

    __slots__ = (
        "authority",
        "environ",
        "expects_continue",
        "fields",
        "host",
        "is_plain",
        "keep_alive",
        "length",
        "method",
        "minor",
        "named",
        "path",
        "query",
        "raw",
        "target",
        "trailers",
    )

    def __init__(
        self,
        method: str,
        target: str,
        minor: int,
        fields: list[tuple[str, str]],
        named: dict[str, str],
        aim: tuple[str, str, str, str],
    ) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.fields = fields
        self.named = named
        self.authority, self.host, self.path, self.query = aim
        self.keep_alive = minor == 1
        self.expects_continue = False
        self.length: int | None = 0
        self.is_plain = False
        self.trailers: Sequence[tuple[str, str]] = ()
        self.raw: Any = None
        self.environ: Any = None
