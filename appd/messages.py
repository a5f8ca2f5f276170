"""MESSAGE_ID= of entries that the journal's catalogue explains: `journalctl -x`, systemd.journal-fields(7).

An ID stays with its event for good: administrators match on it. The texts are in packaging/appd.catalog.
"""

from __future__ import annotations

__all__ = [
    "CANNOT_START",
    "CERTIFICATE_DUE",
    "CERTIFICATE_REFUSED",
    "CREDENTIAL_OUTDATED",
    "IDLE",
    "READY",
    "RECYCLED",
    "RELOAD_FAILED",
    "STOPPING",
    "SUPERVISOR_RENEWED",
    "WORKER_HUNG",
    "WORKER_REPLACED",
]

READY = "8d3f5a1c2b7e4f0f9a6d1c0e5b482f37"
STOPPING = "b1f02d5c8e8b4a4fb6a3f4f3f0f3c9ae"
CANNOT_START = "e44145ea3a934c8f99a2867b8ba259a7"
RELOAD_FAILED = "996cd9cb462d4ed69f9cd35c17b34f03"
WORKER_REPLACED = "63cbf3a009704b9aa53132237179dd02"
WORKER_HUNG = "7d4784fc010141d1bfa8b9f0d0b47010"
RECYCLED = "4bf6fcb120be4199b09ee36f1f9bba6a"
SUPERVISOR_RENEWED = "46594ef3511a4058a67c478457b583bb"
IDLE = "f5b0ae0e517e4142bbe64f62a934b816"
CERTIFICATE_DUE = "47603eabcd6646ffb5b15b7a1fe82367"
CERTIFICATE_REFUSED = "8e91ad98f717413080cf195c686b6378"
CREDENTIAL_OUTDATED = "6a82d3b8bdf34159ada7b8f00ebb2dd4"
