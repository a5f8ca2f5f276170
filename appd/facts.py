"""What a worker tells its supervisor of the file it has read: how many workers, which servers, which stored sockets."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from appd.listeners import BoundListener

if TYPE_CHECKING:
    from appd.config import Settings
    from appd.listeners import Listener
    from appd.notify import Notifier
    from appd.plan import Plan, PlannedServer

__all__ = ["digest", "pass_up", "tell_prepared"]

# How long a message may become before the next server begins another, in characters; the supervisor reads 64 KB.
_PART = 16384


def digest(settings: Settings) -> str:
    """What tells a changed section from the same: a checksum of its type and values, those of its sections too."""
    return f"{zlib.crc32(repr(settings).encode()):08x}"


def tell_prepared(settings: Settings, plan: Plan, notifier: Notifier) -> None:
    """Says that this worker could listen, and what the supervisor needs to know of the file.

    Args:
        settings: The settings of the file.
        plan: The servers, their sockets prepared; the supervisor keeps those that appd made.
        notifier: What tells the supervisor.
    """
    part: list[str] = []
    for one in plan.servers:
        # A message's blanks are folded.
        part.append(json.dumps(_facts(one, notifier), separators=(",", ":")).replace(" ", "\\u0020"))
        if sum(map(len, part)) > _PART:
            notifier.tell(also={"X_APPD_SERVERS": f"[{','.join(part)}]"})
            part.clear()
    notifier.tell(
        also={
            "X_APPD_SERVERS": f"[{','.join(part)}]",
            "X_APPD_WORKERS": str(settings.workers),
            "X_APPD_WATCHDOG": str(int(settings.watchdog * 1000)),
            "X_APPD_PREPARED": "1",
        }
    )


def _facts(server: PlannedServer, notifier: Notifier) -> dict[str, Any]:
    return {
        "name": server.name,
        "type": server.settings.section_type,
        "digest": digest(server.settings),
        "addresses": [f"{one.where} ({one.address})" for one in server.listeners],
        "keeps": pass_up(server.listeners, notifier),
    }


def pass_up(listeners: Sequence[Listener], notifier: Notifier) -> list[str]:
    """Has the supervisor keep the sockets that appd made.

    Args:
        listeners: The sockets of a server, prepared.
        notifier: What tells the supervisor.

    Returns:
        The names in the store that they use.
    """
    keeps: list[str] = []
    for listener in listeners:
        if isinstance(listener, BoundListener):
            listener.stored = listener.store_name
            notifier.tell(fds=[listener.fd], also={"FDSTORE": "1", "FDNAME": listener.stored})
        stored = getattr(listener, "stored", "")
        if stored:
            keeps.append(stored)
    return keeps
