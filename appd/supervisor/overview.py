"""What the supervisor says of itself: STATUS= in one line, Status of the control protocol in full."""

from __future__ import annotations

import os

from appd import __version__
from appd.dates import day, minute
from appd.errors import EX_OK, EX_SUPERSEDED
from appd.pending import sentence, totals, unpack
from appd.supervisor.wear import resident_memory
from appd.troubles import Trouble, brief, together
from appd.troubles import unpack as unpack_troubles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from appd.supervisor.generation import Generation
    from appd.supervisor.rollout import Rollout
    from appd.supervisor.supervisor import Supervisor

__all__ = ["certificates", "changes", "report", "summary"]

# So much of a reason is shown beside the rest, in characters; the journal has all of it.
_REASON = 200


def summary(rollout: Rollout) -> str:
    """STATUS=: what is served by how many, for how many, and what is left of earlier generations."""
    serving = rollout.serving
    if serving is None:
        first = next(iter(rollout.coming.workers.values()), None) if rollout.coming is not None else None
        return (first.status if first is not None else "") or "starting"
    parts = [
        f"serving {_count(len(serving.servers), 'server')}",
        _count(len(serving.workers), "worker"),
        _count(serving.connections, "connection"),
    ]
    everyone = serving.everyone
    overload = sentence(
        sum(one.running for one in everyone), sum(one.queued for one in everyone), sum(one.threads for one in everyone)
    )
    if overload:
        parts.append(overload)
    parts += filter(None, [brief(_troubles(serving))])
    known = certificates(serving.certificates)
    for soonest in known[:1]:
        parts.append(f"certificate of {soonest['name']} expires {day(soonest['expires'])}")
    for path, newer in sorted({(row["path"], row["newer"]) for row in known if row["newer"]}):
        parts.append(f"{path} is older than {newer}: restart")
    for waiting in (row for row in known if row["begins"]):
        parts.append(f"a new certificate of {waiting['name']} is not valid before {minute(waiting['begins'])}")
    if len(serving.beside) > len(serving.fresh):
        parts.append(f"{_count(len(serving.beside) - len(serving.fresh), 'recycled worker')} draining")
    for one in rollout.draining:
        parts.append(f"generation {one.number} drains {_count(one.connections, 'connection')}")
    last = rollout.outcome.last
    if last is not None and last[1] not in (EX_OK, EX_SUPERSEDED) and not rollout.stopping:
        # With Type=notify-reload `systemctl reload` itself does not tell.
        parts.append(f"the last reload failed: {last[2].splitlines()[0][:_REASON] if last[2] else last[1]}")
    return ("draining, " if rollout.stopping else "") + ", ".join(parts)


def report(supervisor: Supervisor) -> dict[str, Any]:
    """What Status answers; `appd.control.DESCRIPTION` has the types."""
    now = supervisor.poller.clock()
    rollout = supervisor.rollout
    serving = rollout.serving or rollout.coming
    last = rollout.outcome.last
    return {
        "version": __version__,
        "pid": os.getpid(),
        "generation": serving.number if serving is not None else 0,
        "status": summary(rollout),
        "restarts": rollout.restarts,
        "recycled": rollout.recycled,
        "dropped": supervisor.log.dropped + rollout.dropped + sum(one.dropped for one in rollout.workers()),
        "workers": [
            {
                "number": worker.number,
                "pid": worker.pid,
                "generation": generation.number,
                "state": worker.state,
                "age": round(now - worker.started, 3),
                "connections": worker.connections,
                "rss": resident_memory(worker.pid),
                "requests": worker.requests,
                "running": worker.running,
                "queued": worker.queued,
                "threads": worker.threads,
                "restarts": generation.restarts.get(worker.number, 0),
                "recycled": generation.recycled.get(worker.number, 0),
            }
            for generation in rollout.generations()
            for worker in generation.everyone
        ],
        "calls": [one._asdict() for one in totals(row for one in rollout.workers() for row in unpack(one.pending))],
        "servers": list(serving.servers) if serving is not None else [],
        "listening": list(serving.listening.values()) if serving is not None else [],
        "draining": [
            {"generation": one.number, "workers": len(one.everyone), "connections": one.connections}
            for one in rollout.draining
        ],
        "sockets": [name for name, _fd in (*supervisor.inherited, *supervisor.store.items())],
        "certificates": certificates(serving.certificates if serving is not None else ""),
        "troubles": [one._asdict() for one in (_troubles(serving) if serving is not None else ())],
        "reload": {"at": last[0], "exit": last[1], "reason": last[2]} if last is not None else None,
    }


def _troubles(generation: Generation) -> list[Trouble]:
    """What is wrong, as those say that hold its places."""
    return together(row for one in generation.workers.values() for row in unpack_troubles(one.troubles))


def certificates(text: str) -> list[dict[str, Any]]:
    """The certificates that expire first, as a worker has told.

    Args:
        text: What it said. Hosted code may say anything in its place.

    Returns:
        Their servers, names, paths, ends (seconds since the epoch), what is newer than a credential, and when one
        begins that is not in use yet; nothing when it is no such text.
    """
    import json

    try:
        rows = json.loads(text or "[]")
        return [
            {
                **{key: str(row[key])[:256] for key in ("server", "name", "path", "newer")},
                **{key: min(max(int(row[key]), 0), 2**40) for key in ("expires", "begins")},
            }
            # A worker of an earlier version, with which a renewed supervisor goes on, does not say when one begins.
            for row in ({"begins": 0, **one} for one in rows[:100])
        ]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return []


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """What a reload did to the servers, for the journal.

    Args:
        before: Server name → checksum of its section, a point, and one of the files that it names.
        after: The same of the new generation.
    """
    both = [name for name in after if name in before]
    kinds = {
        "added": [name for name in after if name not in before],
        "changed": [name for name in both if _section(before[name]) != _section(after[name])],
        "removed": [name for name in before if name not in after],
        "with changed files": [
            name for name in both if before[name] != after[name] and _section(before[name]) == _section(after[name])
        ],
    }
    said = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names)
    # What a program reads beside the file nobody knows: it is a new process.
    return f"reloaded; {said or 'all servers were made anew, and what the file says of them is as it was'}"


def _section(checksums: str) -> str:
    return checksums.partition(".")[0]


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"
