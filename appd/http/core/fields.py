"""Header fields of HTTP: what RFC 9110 lets a name and a value be.

A value that holds a line break would begin a header, or a response, of its own (response splitting), so that nothing
goes out which was not looked at here.
"""

from __future__ import annotations

from appd.http.core.grammar import TCHAR, VTEXT
from appd.startup.patterns import pattern

__all__ = ["OF_THE_CONNECTION", "is_secret", "is_token", "is_value"]

_TOKEN = pattern(rf"[{TCHAR}]++\Z")
# Without spaces at either end, which are not of the value.
_VALUE = pattern(rf"(?![\t ])[{VTEXT}]*+(?<![\t ])\Z")
# What says who somebody is, by the words that its name is made of: kept no longer than the request.
_SECRET = ("auth", "cookie", "key", "location", "secret", "session", "token")

# What speaks about this one connection and how the body is framed on it (RFC 9110, 7.6.1): the server's to say.
OF_THE_CONNECTION = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)


def is_token(name: str) -> bool:
    """Whether it may be the name of a header field, or a method."""
    return _TOKEN.match(name) is not None


def is_value(value: str) -> bool:
    """Whether it may be the value of a header field; its characters stand for bytes, as in WSGI."""
    return _VALUE.match(value) is not None


def is_secret(name: str) -> bool:
    """Whether the value of a field may be a secret: of a field that is called so, in lower case."""
    return any(one in name for one in _SECRET)
