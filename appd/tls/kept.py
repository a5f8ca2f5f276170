"""Certificates and keys that were read and checked ↔ bytes, for the worker that comes after this one.

What is kept is what is served, not the files: nothing of it has to be read again, checked again, or opened by a
passphrase that is no longer there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from appd.tls.certificates import Pair
from appd.tls.expiry import Expiring
from appd.tls.material import Material
from appd.tls.names import NameIndex

__all__ = ["from_bytes", "merged", "to_bytes"]

# Raised whenever an earlier or later version could not read it: after an upgrade workers of two versions may meet.
_FORMAT = 1
_PAIR = ("where", "names", "expires", "kind", "serial", "strength", "begins")


def to_bytes(materials: Mapping[str, Material]) -> bytes:
    """Writes them.

    Args:
        materials: Whose they are → the certificates.
    """
    kept = {name: _plain(one) for name, one in materials.items()}
    return json.dumps({"format": _FORMAT, "kept": kept}, separators=(",", ":")).encode("ascii")


def from_bytes(data: bytes) -> dict[str, Material]:
    """Reads what `to_bytes` wrote; nothing when it is something else, or of a version that wrote otherwise.

    Args:
        data: The bytes.
    """
    try:
        found = json.loads(data)
        return {str(name): _material(one) for name, one in found["kept"].items()} if found["format"] == _FORMAT else {}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def merged(those: Iterable[Mapping[str, Material]]) -> dict[str, Material]:
    """Of what several workers have left the newest of each.

    Args:
        those: What each has left.
    """
    found: dict[str, Material] = {}
    for one in those:
        for name, material in one.items():
            if name not in found or found[name].since < material.since:
                found[name] = material
    return found


def _plain(material: Material) -> dict[str, Any]:
    return {
        "known": [[identity, _plain_pair(pair)] for identity, pair in material.known.items()],
        # What stands between the blocks of PEM may be in any encoding.
        "trust": material.trust.decode("latin-1"),
        "fingerprint": material.fingerprint,
        "lists": material.lists,
        "authorities": material.authorities,
        "since": material.since,
    }


def _plain_pair(pair: Pair) -> dict[str, Any]:
    said = {name: getattr(pair, name) for name in _PAIR}
    return said | {"chain": pair.chain.decode("latin-1"), "key": pair.key.decode("latin-1")}


def _material(plain: Mapping[str, Any]) -> Material:
    known = {_frozen(identity): _pair(pair) for identity, pair in plain["known"]}
    return Material(
        tuple(known.values()),
        NameIndex([(one.names, one.kind) for one in known.values()]),
        plain["trust"].encode("latin-1"),
        _frozen(plain["fingerprint"]),
        known,
        _frozen(plain["lists"]),
        tuple(Expiring(*one) for one in plain["authorities"]),
        float(plain["since"]),
    )


def _pair(plain: Mapping[str, Any]) -> Pair:
    said = {name: _frozen(plain[name]) for name in _PAIR}
    return Pair(**said, chain=plain["chain"].encode("latin-1"), key=plain["key"].encode("latin-1"))


def _frozen(value: Any) -> Any:
    """Lists as the tuples that they were."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
