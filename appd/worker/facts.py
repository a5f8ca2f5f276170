"""What a worker tells its supervisor of the file it has read: how many workers, which servers, which stored sockets."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from appd.config.inputs import identity
from appd.config.settings import Settings
from appd.config.texts import write_texts
from appd.listening.listeners import BoundListener
from appd.supervisor.mailbox import pack

if TYPE_CHECKING:
    from appd.listening.listeners import Listener
    from appd.systemd.notify import Notifier
    from appd.worker.plan import Plan

__all__ = ["digest", "pass_up", "tell_prepared"]

# How long a message may become before the next server begins another, in characters; it may hold some 200 KB.
_PART = 16384


def digest(settings: Settings) -> str:
    """What tells a changed server from the same, in two parts: a checksum of what its section and those in it say, and
    one of the files that are named there, as far as size, time and inode tell."""
    named = sorted({(path, *identity(path)) for path in _paths(settings) if os.path.isfile(path)})
    return f"{zlib.crc32(repr(settings).encode()):08x}.{zlib.crc32(repr(named).encode()):08x}"


def _paths(value: Any) -> Iterator[str]:
    """All that looks like an absolute path among values: relative ones of the file are absolute by now."""
    if isinstance(value, str):
        if value.startswith("/"):
            yield value
    elif isinstance(value, Settings):
        yield from _paths(value.values)
    elif isinstance(value, Mapping):
        yield from _paths(tuple(value.values()))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _paths(one)


def tell_prepared(settings: Settings, plan: Plan, notifier: Notifier, texts: Mapping[str, str] | None = None) -> None:
    """Says that this worker could listen, and what the supervisor needs to know of the file.

    Args:
        settings: The settings of the file.
        plan: The servers, their sockets prepared; the supervisor keeps those that appd made.
        notifier: What tells the supervisor.
        texts: What the files said, for the workers that come after this one; the memfd that has it stays open, since
            the message may have to wait.
    """
    reading = write_texts(texts) if texts else None
    if reading is not None:
        notifier.tell(fds=[reading], also={"X_APPD_READING": "1"})
    servers: dict[str, str] = {}
    listening: dict[str, str] = {}
    keeps: list[str] = []

    def tell(**also: str) -> None:
        facts = {"SERVERS": pack(servers), "LISTENING": pack(listening), "KEEPS": " ".join(keeps), **also}
        notifier.tell(also={f"X_APPD_{key}": value for key, value in facts.items()})
        for part in (servers, listening, keeps):
            part.clear()

    length = 0
    for one in plan.servers:
        servers[one.name] = digest(one.settings)
        kept = pass_up(one.listeners, notifier)
        keeps += kept
        addresses = [f"{listener.where} ({listener.address})" for listener in one.listeners]
        listening[one.name] = "\n".join((one.settings.section_type, *addresses))
        length += 2 * len(one.name) + len(listening[one.name]) + sum(map(len, kept))
        if length > _PART:
            # All of them in one could be more than a datagram holds.
            tell()
            length = 0
    tell(
        WORKERS=str(settings.workers),
        WATCHDOG=str(int(settings.watchdog * 1000)),
        IDLE_EXIT=str(int((settings.idle_exit or 0) * 1000)),
        PREPARED="1",
    )


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
