"""Whether a request may be sent once more, to another upstream: RFC 9110, 9.2.2.

A request of which the upstream cannot have seen anything may always be. One that it may have begun to act on only if
its method is idempotent. And in either case only as long as nothing of its body is gone: what a client has sent is not
kept for a second time.
"""

from __future__ import annotations

__all__ = ["IDEMPOTENT", "may_retry"]

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})


def may_retry(method: str, *, reached: bool, body_begun: bool) -> bool:
    """Decides about a request that an upstream has not answered.

    Args:
        method: The method.
        reached: Whether the upstream may have got anything of it.
        body_begun: Whether anything of a body was read from the client.
    """
    if body_begun:
        return False
    return not reached or method in IDEMPOTENT
