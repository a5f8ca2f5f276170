"""What a client has done wrong, by how far it reaches: RFC 9113, 5.4."""

from __future__ import annotations

from appd.http.h2.codes import Code

__all__ = ["ConnectionFault", "StreamFault"]


class _Fault(Exception):
    """A fault.

    Args:
        code: What the client is told.
        reason: What it did, for people.
    """

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class ConnectionFault(_Fault):
    """The connection ends: RFC 9113, 5.4.1."""


class StreamFault(_Fault):
    """The stream is reset: RFC 9113, 5.4.2."""
