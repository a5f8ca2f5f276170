"""The name that a client asks for (SNI, RFC 6066) → the certificates that have it."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["NameIndex"]


class NameIndex:
    """Finds certificates by name: an exact name goes before a wildcard, an earlier certificate before a later one.

    A wildcard stands for exactly one label (RFC 9525, 6.3). Certificates of one name with keys of different kinds
    belong together: the client's signature algorithms decide.

    Args:
        certificates: For each certificate its names and the kind of its key.
    """

    def __init__(self, certificates: Sequence[tuple[Sequence[str], str]]) -> None:
        found: dict[str, dict[str, int]] = {}
        for number, (names, kind) in enumerate(certificates):
            for name in names:
                found.setdefault(_plain(name), {}).setdefault(kind, number)
        self._by_name = {name: tuple(sorted(kinds.values())) for name, kinds in found.items()}
        # Whoever asks for nothing that is known gets the first, with what shares its name.
        first = certificates[0][0] if certificates else ()
        self.default: tuple[int, ...] = self._by_name[_plain(first[0])] if first else (0,)

    def find(self, name: str) -> tuple[int, ...]:
        """The numbers of the certificates for a name; none when no certificate has it."""
        plain = _plain(name)
        exact = self._by_name.get(plain)
        if exact is not None:
            return exact
        _first, dot, rest = plain.partition(".")
        return self._by_name.get(f"*.{rest}", ()) if dot else ()


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")
