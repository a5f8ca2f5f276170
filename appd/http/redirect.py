"""Redirects: RFC 9110, 15.4."""

from __future__ import annotations

from appd.http.core.response import Response, status_line
from appd.http.site import Redirect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from appd.http.core.request import Request

__all__ = ["Redirection", "encoded", "page_of"]

# What a URL may hold as it is (RFC 3986), and the percent sign of what is encoded already. Without the backslash, which
# browsers take for a slash.
_SAFE = "/?:@!$&'()*+,;=-._~%[]"


def encoded(url: str) -> str:
    """Percent-encodes what must not stand in a URL, and leaves alone what is encoded already."""
    from urllib.parse import quote

    return quote(url, safe=_SAFE)


def page_of(status: int) -> bytes:
    """The small page of a status: its number and its name."""
    return f"{status_line(status)[1].partition(' ')[2].rstrip()}\n".encode()


class Redirection:
    """Answers requests of a redirect.

    Args:
        redirect: Where to.
        depth: How many segments the path of the mount has.
    """

    def __init__(self, redirect: Redirect, depth: int) -> None:
        self._to = redirect.to
        self._base = redirect.to.rstrip("/")
        self._status = redirect.status
        self._exact = redirect.exact
        self._depth = depth
        self._body = page_of(redirect.status)

    def respond(self, request: Request, _rest: tuple[bytes, ...] = ()) -> Response:
        """Answers a request of any method; the rest of its path is taken as it was sent, still encoded."""
        fields = (("Location", self._location(request)), ("Content-Type", "text/plain; charset=utf-8"))
        return Response(self._status, fields, self._body)

    def _location(self, request: Request) -> str:
        if self._exact:
            return self._to
        # The path begins with a slash, and each segment of the mount is one of it.
        parts = request.path.split("/")[1 + self._depth :]
        query = f"?{request.query}" if request.query else ""
        if not parts:
            return self._to + encoded(query)
        # Without its empty parts in front, since `//host` would be a host of the client's choice.
        rest = "/".join(parts).lstrip("/")
        return f"{self._base}/{encoded(rest + query)}"
