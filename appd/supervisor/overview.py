"""What the supervisor says of itself: STATUS= in one line, Status of the control protocol in full."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from appd import __version__

if TYPE_CHECKING:
    from appd.supervisor.supervisor import Supervisor

__all__ = ["certificates", "changes", "day", "report", "summary"]


def summary(supervisor: Supervisor) -> str:
    """STATUS=: what is served by how many, for how many, and what is left of earlier generations."""
    serving = supervisor.serving
    if serving is None:
        first = next(iter(supervisor.coming.workers.values()), None) if supervisor.coming is not None else None
        return (first.status if first is not None else "") or "starting"
    parts = [
        f"serving {_count(len(serving.servers), 'server')}",
        _count(len(serving.workers), "worker"),
        _count(serving.connections, "connection"),
    ]
    known = certificates(serving.certificates)
    for soonest in known[:1]:
        parts.append(f"certificate of {soonest['name']} expires {day(soonest['expires'])}")
    for path, newer in sorted({(row["path"], row["newer"]) for row in known if row["newer"]}):
        parts.append(f"{path} is older than {newer}: restart")
    for one in supervisor.draining:
        parts.append(f"generation {one.number} drains {_count(one.connections, 'connection')}")
    return ("draining, " if supervisor.stopping else "") + ", ".join(parts)


def report(supervisor: Supervisor) -> dict[str, Any]:
    """What Status answers; `appd.control.DESCRIPTION` has the types."""
    now = supervisor.poller.clock()
    serving = supervisor.serving or supervisor.coming
    last = supervisor.last_reload
    return {
        "version": __version__,
        "pid": os.getpid(),
        "generation": serving.number if serving is not None else 0,
        "status": summary(supervisor),
        "restarts": supervisor.restarts,
        "dropped": supervisor.log.dropped + sum(one.dropped for one in supervisor.workers()),
        "workers": [
            {
                "number": worker.number,
                "pid": worker.pid,
                "generation": generation.number,
                "state": worker.state,
                "age": round(now - worker.started, 3),
                "connections": worker.connections,
                "rss": _rss(worker.pid),
            }
            for generation in supervisor.generations()
            for worker in generation.workers.values()
        ],
        "servers": list(serving.servers) if serving is not None else [],
        "sockets": [name for name, _fd in (*supervisor.inherited, *supervisor.store.items())],
        "certificates": certificates(serving.certificates if serving is not None else ""),
        "reload": {"at": last[0], "exit": last[1], "reason": last[2]} if last is not None else None,
    }


def certificates(text: str) -> list[dict[str, Any]]:
    """The certificates that expire first, as a worker has told.

    Args:
        text: What it said. Hosted code may say anything in its place.

    Returns:
        Their servers, names, paths, ends (seconds since the epoch), and what is newer than a credential; nothing when
        it is no such text.
    """
    try:
        rows = json.loads(text or "[]")
        return [
            {
                **{key: str(row[key])[:256] for key in ("server", "name", "path", "newer")},
                "expires": min(max(int(row["expires"]), 0), 2**40),
            }
            for row in rows[:100]
        ]
    except (ValueError, TypeError, KeyError):
        return []


def day(seconds: int) -> str:
    """A date as people write it: 2027-01-05."""
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """What a reload did to the servers, for the journal.

    Args:
        before: Server name → checksum of its section.
        after: The same of the new generation.
    """
    kinds = {
        "added": [name for name in after if name not in before],
        "changed": [name for name in after if name in before and before[name] != after[name]],
        "removed": [name for name in before if name not in after],
    }
    said = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names)
    return f"reloaded; {said or 'no server changed'}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def _rss(pid: int) -> int:
    """The resident memory of a process, in bytes; 0 when it has gone."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0
