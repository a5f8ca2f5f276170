"""What a worker tells its supervisor of the file it has read: how many workers, which servers, which stored sockets."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from appd.listeners import BoundListener

if TYPE_CHECKING:
    from appd.config import Settings
    from appd.notify import Notifier
    from appd.plan import Plan

__all__ = ["digest", "pass_up", "tell_prepared"]


def digest(settings: Settings) -> str:
    """What tells a changed section from the same: a checksum of its type and values, those of its sections too."""
    return f"{zlib.crc32(repr(settings).encode()):08x}"


def pass_up(plan: Plan, notifier: Notifier) -> list[str]:
    """Has the supervisor keep the sockets that appd made.

    Args:
        plan: The servers, their sockets prepared.
        notifier: What tells the supervisor.

    Returns:
        The names in the store that this file uses.
    """
    keeps: list[str] = []
    for one in plan.servers:
        for listener in one.listeners:
            if isinstance(listener, BoundListener):
                listener.stored = listener.store_name
                notifier.tell(fds=[listener.fd], also={"FDSTORE": "1", "FDNAME": listener.stored})
            stored = getattr(listener, "stored", "")
            if stored:
                keeps.append(stored)
    return keeps


def tell_prepared(settings: Settings, plan: Plan, notifier: Notifier) -> None:
    """Says that this worker could listen, and what the supervisor needs to know of the file.

    Args:
        settings: The settings of the file.
        plan: The servers, their sockets prepared.
        notifier: What tells the supervisor.
    """
    keeps = pass_up(plan, notifier)
    for message in _servers(plan):
        notifier.tell(also=message)
    notifier.tell(
        also={
            "X_APPD_WORKERS": str(settings.workers),
            "X_APPD_WATCHDOG": str(int(settings.watchdog * 1000)),
            "X_APPD_KEEPS": " ".join(keeps),
            "X_APPD_PREPARED": "1",
        }
    )


def _servers(plan: Plan) -> Iterable[Mapping[str, str]]:
    """A message for each server: all of them in one could be more than a datagram holds."""
    for one in plan.servers:
        server = {
            "name": one.name,
            "type": one.settings.section_type,
            "digest": digest(one.settings),
            "addresses": [f"{listener.where} ({listener.address})" for listener in one.listeners],
        }
        # A message's blanks are folded.
        yield {"X_APPD_SERVER": json.dumps(server, separators=(",", ":")).replace(" ", "\\u0020")}
