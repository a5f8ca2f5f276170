"""Keys that people look for and that there are not: the reason, in place of a list of those that there are."""

from __future__ import annotations

__all__ = ["why_not"]

_GROUPS = "OpenSSL's own groups are offered, since neither Python's ssl nor pyOpenSSL lets a server choose among them"
_TICKETS = (
    "each worker has ticket keys of its own and forgets them at its end, since neither Python's ssl nor pyOpenSSL "
    "takes any; a client that comes to another worker shakes hands in full"
)
_STAPLING = (
    "Python's ssl has no call for it, and the large authorities have ended OCSP; certificates of a few days do its work"
)
_REASONS = {
    "tls": {
        "groups": _GROUPS,
        "curves": _GROUPS,
        "ecdh-curve": _GROUPS,
        "ticket-key": _TICKETS,
        "session-ticket-key": _TICKETS,
        "ocsp-stapling": _STAPLING,
        "stapling": _STAPLING,
        "dhparam": "no suites with finite-field Diffie-Hellman are offered, so that there are no parameters to choose",
    }
}


def why_not(section: str, key: str) -> str:
    """Why a section has no such key; "" when there is nothing to say.

    Args:
        section: What the section is called in the file.
        key: The key.
    """
    return _REASONS.get(section, {}).get(key.lower(), "")
