"""Basic authentication (RFC 7617), without sockets and without knowing where passwords are kept.

An engine asks `Guard.known` first, which costs a keyed hash; then `Guard.refusal`, which answers what needs no look at
a password; and only then `Guard.verify`, which takes a tenth of a second and is for a thread that has it.
"""

from __future__ import annotations

import binascii
import re
from typing import NamedTuple, Protocol

__all__ = ["Guard", "Refusal", "Verifier"]

_SCHEME = re.compile(r"basic[ ]+([A-Za-z0-9+/]+={0,2})[ ]*\Z", re.I)
# Longer than any name and password; the limit of a header field is larger.
_LONGEST = 4096


class Verifier(Protocol):
    """What knows the passwords; any thread may ask."""

    def recall(self, credentials: bytes) -> str | None:
        """Whose credentials these are, if they were verified a moment ago."""

    def wait(self, peer: str) -> float:
        """For how many seconds nothing of a peer is looked at."""

    def verify(self, user: str, password: bytes, credentials: bytes, peer: str) -> bool | None:
        """Whether a password is right; None when so many are looked at that this one is not.

        Failures are counted and logged by it, and what is right is kept for `recall`.
        """


class Refusal(NamedTuple):
    """An answer in place of what was asked for."""

    status: int
    fields: tuple[tuple[str, str], ...]


class Guard:
    """Stands before a mount.

    Args:
        realm: What browsers show.
        verifier: What knows the passwords.
    """

    def __init__(self, realm: str, verifier: Verifier) -> None:
        quoted = re.sub(r'(["\\])', r"\\\1", realm)
        self._challenge = Refusal(401, (("WWW-Authenticate", f'Basic realm="{quoted}", charset="UTF-8"'),))
        self._verifier = verifier

    def known(self, authorization: str | None) -> str | None:
        """The user of a request whose credentials were verified a moment ago.

        Args:
            authorization: The field Authorization, a character a byte; None without one.
        """
        if authorization is None:
            return None
        return self._verifier.recall(authorization.encode("latin-1"))

    def refusal(self, authorization: str | None, peer: str) -> Refusal | None:
        """What a request is answered that is not known; None when its credentials have to be looked at.

        Args:
            authorization: As for `known`.
            peer: The address of the client, "" without one.
        """
        if authorization is None or _read(authorization) is None:
            return self._challenge
        wait = self._verifier.wait(peer)
        # RFC 6585, 4: failures are slowed without a thread that sleeps.
        return Refusal(429, (("Retry-After", str(int(wait) + 1)),)) if wait > 0 else None

    def verify(self, authorization: str, peer: str) -> str | Refusal:
        """Looks at credentials. For a thread that has a tenth of a second.

        Args:
            authorization: As for `known`.
            peer: As for `refusal`.

        Returns:
            The user, or the answer.
        """
        read = _read(authorization)
        if read is None:
            return self._challenge
        user, password = read
        found = self._verifier.verify(user, password, authorization.encode("latin-1"), peer)
        if found is None:
            return Refusal(503, (("Retry-After", "1"),))
        return user if found else self._challenge


def _read(authorization: str) -> tuple[str, bytes] | None:
    """The user and the password of a field; None when it has none."""
    match = _SCHEME.match(authorization) if len(authorization) <= _LONGEST else None
    if match is None:
        return None
    try:
        text = binascii.a2b_base64(match[1], strict_mode=True)
    except binascii.Error:
        return None
    name, colon, password = text.partition(b":")
    if not colon:
        return None
    # Before RFC 7617 many sent Latin-1, and some still do.
    try:
        return name.decode("utf-8"), password
    except UnicodeDecodeError:
        return name.decode("latin-1"), password
