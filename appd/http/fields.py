"""Header fields of HTTP: what RFC 9110 lets a name and a value be.

A value that holds a line break would begin a header, or a response, of its own (response splitting), so that nothing
goes out which was not looked at here.
"""

from __future__ import annotations

import re

__all__ = ["OF_THE_CONNECTION", "is_token", "is_value"]

# RFC 9110, 5.6.2: token = 1*tchar
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
# RFC 9110, 5.5: field-content is visible characters and obs-text, with spaces and tabs between them.
_VALUE = re.compile(r"(?:[\x21-\x7e\x80-\xff](?:[\t \x21-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?\Z")

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
