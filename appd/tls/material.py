"""A policy → what it names, read and checked.

Reading anew reads only what has changed, so that a renewal of one of a thousand certificates costs that one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from appd.errors import ConfigurationError, Problem
from appd.tls.authorities import check_authorities, check_issuers, check_revocations
from appd.tls.certificates import SKEW, NotYet, Pair, read_pair
from appd.tls.expiry import Expiring
from appd.tls.names import NameIndex
from appd.tls.pem import called, not_after
from appd.tls.policy import Policy, Source
from appd.tls.sources import Content, Fingerprint, NotHere, Stamp, files, fingerprint, read

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

__all__ = ["Material", "Premature", "Refused", "read_material"]

# Path and stamp of every file that a pair was made of → the pair.
_Known = dict[tuple[tuple[str, Stamp], ...], Pair]


class Material(NamedTuple):
    """Certificates and keys, ready for an adapter.

    Attributes:
        pairs: The certificates with their keys, the default first.
        index: Finds them by name.
        trust: The authorities of clients and their lists of revoked certificates, as PEM.
        fingerprint: What the files were when they were read.
        known: The pairs by what they were read from.
        lists: Of each file of revoked certificates: where it is, for people, and when it expires.
        authorities: Of each file of authorities the one that expires first.
        since: When that was, in monotonic seconds, which are those of every process of the host.
    """

    pairs: tuple[Pair, ...]
    index: NameIndex  # type: ignore[assignment]  # shadows tuple.index, which nobody needs here
    trust: bytes
    fingerprint: Fingerprint
    known: _Known
    lists: tuple[tuple[str, float], ...] = ()
    authorities: tuple[Expiring, ...] = ()
    since: float = 0.0


class Refused(ConfigurationError):
    """What the files hold is not taken.

    Args:
        problems: Why.
        fingerprint: What the files were.
    """

    def __init__(self, problems: Sequence[Problem], fingerprint: Fingerprint) -> None:
        super().__init__(*problems)
        self.fingerprint = fingerprint


class Premature(Refused):
    """Nothing is wrong but that its time has not come.

    Attributes:
        begins: When all of it is valid, in seconds since the epoch.
        pairs: The certificates that are not valid yet.
    """

    def __init__(self, problems: Sequence[Problem], fingerprint: Fingerprint, later: Sequence[NotYet]) -> None:
        super().__init__(problems, fingerprint)
        self.begins = max(one.begins for one in later)
        self.pairs = tuple(one.pair for one in later if one.pair is not None)


def read_material(
    policy: Policy, *, lenient: bool = False, before: Material | None = None, now: float | None = None
) -> tuple[Material | None, list[Problem]]:
    """Reads and checks everything that a policy names.

    Args:
        policy: The policy.
        lenient: Whether what this process may not look at is passed over: `appd check` is not the service.
        before: What was read before and is in use, here or in the worker before this one, to be taken again where
            nothing has changed.
        now: Seconds since the epoch.

    Returns:
        The material, None when something could not be looked at; and what could not, for people.

    Raises:
        Premature: Something is not valid yet.
        Refused: Something is wrong; every problem at once, each with the line of its key and its path.
    """
    return _Reader(policy, lenient, before, now or time.time()).read()


class _Reader:
    """One reading."""

    def __init__(self, policy: Policy, lenient: bool, before: Material | None, now: float) -> None:
        self._policy = policy
        self._lenient = lenient
        self._known: _Known = before.known if before is not None else {}
        # Where there is something else to serve, nobody's clock has to be wrong.
        self._skew = SKEW if before is None else 0.0
        self._now = now
        self._later: list[NotYet] = []
        self._problems: list[Problem] = []
        self._unseen: list[Problem] = []
        self._pairs: _Known = {}
        self._lists: list[tuple[str, float]] = []
        self._authorities: list[Expiring] = []

    def read(self) -> tuple[Material | None, list[Problem]]:
        policy = self._policy
        # Before the files: what is written while they are read is a change.
        since, stamps = time.monotonic(), fingerprint(policy.sources)
        passphrase = self._passphrase()
        chain, key = self._one(policy.chain), self._one(policy.private_key)
        whole = not self._problems and not self._unseen
        for source in policy.certificates:
            for content in self._contents(source):
                if whole:
                    self._pair(source, content, chain, key, passphrase)
        trust = self._trust()
        if self._problems and len(self._later) == len(self._problems):
            raise Premature(self._problems, stamps, self._later)
        if self._problems:
            raise Refused(self._problems, stamps)
        if self._unseen:
            return None, self._unseen
        pairs = tuple(self._pairs.values())
        index = NameIndex([(one.names, one.kind) for one in pairs])
        lists, authorities = tuple(self._lists), tuple(self._authorities)
        return Material(pairs, index, trust, stamps, self._pairs, lists, authorities, since), []

    def _contents(self, source: Source) -> list[Content]:
        found: list[Content] = []
        try:
            paths = files(source)
        except ValueError as error:
            self._not_read(source, error)
            return found
        for path in paths:
            try:
                found.append(read(source, path))
            except ValueError as error:
                self._not_read(source, error, path)
        return found

    def _not_read(self, source: Source, error: ValueError, path: str = "") -> None:
        if self._lenient and isinstance(error, NotHere):
            what = f"{source.key} {_named(source, path)} is not checkable here"
            self._unseen.append(Problem(f"{what}: {error}", source.place))
        else:
            self._wrong(source, error, path)

    def _one(self, source: Source | None) -> Content | None:
        return next(iter(self._contents(source)), None) if source is not None else None

    def _wrong(self, source: Source, error: ValueError, path: str = "") -> None:
        self._problems.append(Problem(f"{source.key} {_named(source, path)}: {error}", source.place))
        if isinstance(error, NotYet):
            self._later.append(error)

    def _passphrase(self) -> bytes | None:
        source = self._policy.passphrase
        content = self._one(source)
        if content is None or source is None:
            return None
        self._may_hold(source, content)
        return content.data.rstrip(b"\r\n")

    def _may_hold(self, source: Source, content: Content) -> bool:
        """Whether a file may hold a secret; complains when others may read it."""
        if content.is_open and not self._policy.world_readable_key and not source.credential:
            reason = (
                "every user of the host may read or write the secret in it: "
                f"chmod o-rwx {content.path}, or world-readable-key allow"
            )
            self._wrong(source, ValueError(reason), content.path)
            return False
        return True

    def _pair(
        self, source: Source, content: Content, chain: Content | None, key: Content | None, passphrase: bytes | None
    ) -> None:
        parts = [one for one in (content, chain, key) if one is not None]
        identity = tuple((one.path, one.stamp) for one in parts)
        policy = self._policy
        for of, one in ((source, content), (policy.chain, chain), (policy.private_key, key)):
            # Wherever one lies, and be it left over.
            if one is not None and of is not None and b"PRIVATE KEY" in one.data and not self._may_hold(of, one):
                return
        known = self._known.get(identity)
        if known is not None:
            # Also when it has expired meanwhile: it is in use, and no reason to refuse another.
            self._pairs[identity] = known
            return
        texts = [content.data] + ([chain.data] if chain is not None else [])
        try:
            self._pairs[identity] = read_pair(
                _where(source, content), texts, key.data if key is not None else None, passphrase, self._now, self._skew
            )
        except ValueError as error:
            self._wrong(source, error, content.path)

    def _trust(self) -> bytes:
        texts: list[bytes] = []
        authorities: list[Certificate] = []
        for source in self._policy.authorities:
            for content in self._contents(source):
                try:
                    if content.is_writable and not source.credential:
                        raise ValueError(
                            "every user of the host may write an authority of their own into it: "
                            f"chmod o-w {content.path}"
                        )
                    found = check_authorities(content.data, self._now, self._skew)
                    first = min(found, key=not_after)
                    serial = f"{first.issuer.rfc4514_string()} {first.serial_number:x}"
                    self._authorities.append(Expiring(_where(source, content), called(first), not_after(first), serial))
                    authorities += found
                    texts.append(content.data)
                except ValueError as error:
                    self._wrong(source, error)
        if len(texts) == len(self._policy.authorities):
            try:
                check_issuers(authorities)
            except ValueError as error:
                self._wrong(self._policy.authorities[0], error)
        lists: list[bytes] = []
        for source in self._policy.revocations:
            for content in self._contents(source):
                try:
                    until = check_revocations([content.data], (), self._now, self._skew)
                    lists.append(content.data)
                    self._lists.append((_where(source, content), until))
                except ValueError as error:
                    self._wrong(source, error)
        self._complete(lists, authorities)
        return b"\n".join([*texts, *lists])

    def _complete(self, lists: Sequence[bytes], authorities: Sequence[Certificate]) -> None:
        """Every authority has its list, where there are lists at all."""
        if lists and len(lists) == len(self._policy.revocations):
            try:
                check_revocations(lists, authorities, self._now)
            except ValueError as error:
                self._wrong(self._policy.revocations[0], error)


def _where(source: Source, content: Content) -> str:
    """Where something was read, for people."""
    return str(source) if source.credential else content.path


def _named(source: Source, path: str) -> str:
    """What is meant, for people: as it was written, and which file of a folder."""
    return f"{source} ({path})" if path and path != source.path else str(source)
