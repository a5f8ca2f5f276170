"""Whether systemd's store has room for every socket that appd has bound.

FDSTORE=1 is not answered. What goes beyond FileDescriptorStoreMax= of the unit systemd closes, with a line in the
journal that names no socket; it is bound anew at the next start, and who connects during a restart is refused. So what
systemd does is done here on paper: it keeps what comes first.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from appd.supervisor.directlog import DirectLog
    from appd.systemd.notify import Notifier
    from appd.systemd.store import Store

__all__ = ["StoreRoom", "limit_of"]

_MOST_NAMED = 5


class StoreRoom:
    """Tells of the sockets that a restart does not keep, and hands them on again when there is room.

    Args:
        store: The sockets that appd bound; what it holds by now came from systemd.
        log: The log.
        notifier: What tells systemd.
        limit: How many systemd keeps; None where that cannot be known.
    """

    def __init__(
        self, store: Store, log: DirectLog, notifier: Notifier, limit: Callable[[], int | None] = lambda: limit_of()
    ) -> None:
        self._store = store
        self._log = log
        self._notifier = notifier
        self._read_limit = limit
        self._limit: int | None = None
        self._held = {name for name, _fd in store.items()}
        self._told: list[str] = []
        self._without: list[str] = []

    def told(self, name: str) -> None:
        """Notes that systemd was told of a socket."""
        self._told.append(name)

    def look(self) -> None:
        """To be called once in a while, when no generation is on its way in."""
        if self._told:
            self._limit = self._read_limit()
        told, self._told = self._told, []
        limit = self._limit
        if limit is None or not (told or self._without):
            return
        # They came before what a reload has made needless was taken out.
        self._held.update([name for name in told if name not in self._held][: max(0, limit - len(self._held))])
        names = [name for name, _fd in self._store.items()]
        self._held.intersection_update(names)
        for name in [one for one in names if one not in self._held][: max(0, limit - len(self._held))]:
            self._notifier.tell(fds=[self._store[name]], also={"FDSTORE": "1", "FDNAME": name})
            self._held.add(name)
        before, self._without = self._without, [name for name in names if name not in self._held]
        if set(self._without) - set(before):
            kept = f"{len(names) - len(self._without)} of {len(names)}"
            room = f"FileDescriptorStoreMax={limit}; {len(names)} would do"
            where = ", ".join(map(_address, self._without[:_MOST_NAMED]))
            more = f" and {len(self._without) - _MOST_NAMED} more" if len(self._without) > _MOST_NAMED else ""
            self._log.write(
                f"of the sockets that appd has bound systemd keeps {kept} over a restart ({room}): "
                f"who connects during one is refused at {where}{more}",
                4,
            )


def _address(name: str) -> str:
    """Where a socket is bound, as its name in the store has it."""
    from urllib.parse import unquote

    from appd.systemd.store import PREFIX

    return unquote(name.removeprefix(PREFIX))


def limit_of(
    environ: Mapping[str, str] = os.environ, cgroup: str | None = None, folders: Iterable[str] | None = None
) -> int | None:
    """How many sockets systemd keeps for this process.

    What the unit says goes before $FDSTORE: the shipped one sets that for systemd before 254, and a drop-in may change
    FileDescriptorStoreMax= alone.

    Args:
        environ: NOTIFY_SOCKET, SYSTEMD_EXEC_PID and FDSTORE.
        cgroup: See `own_unit`.
        folders: The folders of units, the first wins.

    Returns:
        The number; None where nobody says, or where systemd has not made this process.
    """
    from appd.systemd.units import UNIT_PATH, own_unit, read_unit_texts, store_limit

    if not environ.get("NOTIFY_SOCKET") or environ.get("SYSTEMD_EXEC_PID") != str(os.getpid()):
        return None
    unit = own_unit(cgroup) if cgroup is not None else own_unit()
    texts = read_unit_texts(unit, folders or ("/run/systemd/transient", *UNIT_PATH)) if unit else []
    if texts:
        return store_limit(texts)
    said = environ.get("FDSTORE", "")
    return int(said) if said.isascii() and said.isdigit() else None
