"""Generations of workers as plain records: who is there.

A generation is as far as the slowest of its workers; it wants as many workers as its first one read in the file.
"""

from __future__ import annotations

import os

from appd.supervisor.mailbox import number_of, unpack
from appd.supervisor.spawn import MATERIAL
from appd.supervisor.worker import SERVING, STARTING, Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Protocol
else:
    Protocol = object

__all__ = ["Generation", "Spawn"]

# What of a generation is plain, and which of it are numbers by the place of a worker.
_KEPT = (
    *("number", "reading", "material", "wanted", "servers", "listening", "idle_exit", "certificates", "levels"),
    *("draining", "ended"),
)
_COUNTS = ("failures", "restarts", "recycled")

# Pauses before a worker that died again is replaced, in seconds.
_PATIENCE = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
# A worker that has lived so long, in seconds, died for the first time again.
_SETTLED = 60.0


class Generation:
    """The workers that serve one reading of the file.

    Args:
        number: From 1.

    Attributes:
        reading: A memfd with what the file said when its first worker read it; None before that is known.
        material: Memfds with the certificates and keys that its workers had last, by the variable that tells of each to
            a worker in the place of one.
        workers: Those that hold a place, by its number.
        beside: Those that do not: fresh ones that are to replace another, and replaced ones that drain.
        wanted: How many workers the file wants; None before the first worker has read it.
        listening: Server name → what Status says of it.
        servers: Server name → what tells a changed one from the same, as the first worker said.
        keeps: The names in the store that it uses.
        idle_exit: After how long without anything to do the service may end, in seconds; 0 is never.
        certificates: When its certificates expire, as its workers said.
        levels: Namespace → level of the log, as operators have set them; that of "" is general.
        draining: Whether it is on its way out.
        ended: Whether it was told to end at once, or did not come to serve.
        failures: How often in a row a worker died, by number.
        restarts: How often one died at all, by number.
        recycled: How often one was recycled, by number.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.reading: int | None = None
        self.material: dict[str, int] = {}
        self.workers: dict[int, Worker] = {}
        self.beside: list[Worker] = []
        self.wanted: int | None = None
        self.servers: dict[str, str] = {}
        self.listening: dict[str, dict[str, Any]] = {}
        self.keeps: frozenset[str] = frozenset()
        self.idle_exit = 0.0
        self.certificates = ""
        self.levels: dict[str, str] = {}
        self.draining = False
        self.ended = False
        self.failures: dict[int, int] = {}
        self.restarts: dict[int, int] = {}
        self.recycled: dict[int, int] = {}

    @property
    def everyone(self) -> list[Worker]:
        """Every process of it."""
        return [*self.workers.values(), *self.beside]

    @property
    def fresh(self) -> list[Worker]:
        """Those on their way to the place of another; see `recycling`."""
        return [one for one in self.beside if not one.retired]

    @property
    def has_begun(self) -> bool:
        """Whether it was told to go."""
        return any(one.state in (STARTING, SERVING) for one in self.workers.values())

    def learn(self, words: Mapping[str, str]) -> None:
        """Takes what the first worker tells of the file, in one message or several.

        Args:
            words: X_APPD_SERVERS, X_APPD_LISTENING, X_APPD_KEEPS and X_APPD_IDLE_EXIT count; later X_APPD_KEEPS alone,
                of what a service has bound by itself.
        """
        self.keeps |= set(words.get("X_APPD_KEEPS", "").split())
        if self.wanted is not None:
            return
        self.idle_exit = number_of(words, "X_APPD_IDLE_EXIT", 0) / 1000
        self.servers.update(unpack(words.get("X_APPD_SERVERS", "")))
        for server, told in unpack(words.get("X_APPD_LISTENING", "")).items():
            type_name, *addresses = told.split("\n")
            self.listening[server] = {"server": server, "type": type_name, "addresses": addresses}

    def add(self, worker: Worker, *, beside: bool = False) -> None:
        """Notes a worker that was started, in the place of its number or beside it."""
        if beside:
            self.beside.append(worker)
        else:
            self.workers[worker.number] = worker
        for namespace, level in self.levels.items():
            worker.tell(_level_word(level, namespace))

    def set_level(self, level: str, namespace: str) -> None:
        """Has every worker log so, also those to come; a general level ends those of namespaces."""
        self.levels = {**self.levels, namespace: level} if namespace else {"": level}
        for worker in self.everyone:
            worker.tell(_level_word(level, namespace))

    def tell_first(self, word: str) -> None:
        """Tells the worker that has what runs in one process only."""
        if 1 in self.workers:
            self.workers[1].tell(word)

    def remove(self, worker: Worker) -> None:
        """Forgets a worker that has gone."""
        if worker in self.beside:
            self.beside.remove(worker)
        else:
            del self.workers[worker.number]
        self._forget()

    def part(self) -> bool:
        """It is on its way out: there will be no further worker. Returns whether there is one left."""
        self.draining = True
        self._forget()
        return bool(self.everyone)

    def take_reading(self, words: Mapping[str, str], fds: list[int]) -> None:
        """Takes over what the first worker passes for those that come after it.

        Args:
            words: X_APPD_READING counts.
            fds: The descriptors of the message; what is taken is removed.
        """
        if self.reading is None and fds and "X_APPD_READING" in words:
            self.reading = fds.pop()

    def take_material(self, worker: Worker, words: Mapping[str, str], fds: list[int]) -> None:
        """Takes over what a worker passes for one that comes to its place.

        Args:
            worker: Which one.
            words: X_APPD_MATERIAL counts.
            fds: The descriptors of the message; what is taken is removed.
        """
        if self.draining or not fds or "X_APPD_MATERIAL" not in words:
            return
        # The others do not watch what runs in the first alone.
        variable = MATERIAL[0 if worker.number == 1 else 1]
        if variable in self.material:
            os.close(self.material[variable])
        self.material[variable] = fds.pop()

    def _forget(self) -> None:
        """Forgets keys when no worker will come, and the file when nobody will ask for it any more."""
        if self.draining:
            for one in self.material.values():
                os.close(one)
            self.material.clear()
        if self.draining and not self.everyone and self.reading is not None:
            os.close(self.reading)
            self.reading = None

    def keep(self) -> dict[str, Any]:
        """What a later version of the supervisor needs to know of it, as JSON has it."""
        return {
            **{name: getattr(self, name) for name in _KEPT},
            **{name: list(getattr(self, name).items()) for name in _COUNTS},
            "keeps": sorted(self.keeps),
            "workers": [worker.keep() for worker in self.workers.values()],
            "beside": [worker.keep() for worker in self.beside],
        }

    @classmethod
    def kept(cls, known: Mapping[str, Any], channel: Callable[[int], Any]) -> Generation:
        """Makes it again.

        Args:
            known: What `keep` said, of this version or of another.
            channel: Makes a channel of its descriptor.
        """
        made = cls(known["number"])
        for name in _KEPT:
            setattr(made, name, known.get(name, getattr(made, name)))
        for name in _COUNTS:
            setattr(made, name, dict(known.get(name, ())))
        made.keeps = frozenset(known["keeps"])
        made.workers = {one["number"]: Worker.kept(one, channel(one["channel"])) for one in known["workers"]}
        made.beside = [Worker.kept(one, channel(one["channel"])) for one in known.get("beside", ())]
        return made

    def all_in(self, *states: str) -> bool:
        """Whether every wanted worker is there and in one of the states."""
        if self.wanted is None or len(self.workers) < self.wanted:
            return False
        return all(one.state in states for one in self.workers.values())

    def patience(self, number: int, lived: float) -> float:
        """How long to wait before a worker that died is replaced, in seconds: not at all the first time.

        Args:
            number: The one that died.
            lived: For how long it was there, in seconds.
        """
        failures = 0 if lived > _SETTLED else self.failures.get(number, 0)
        self.failures[number] = failures + 1
        return _PATIENCE[min(failures, len(_PATIENCE) - 1)]

    @property
    def connections(self) -> int:
        """How many connections its workers have open."""
        return sum(one.connections for one in self.everyone)


class Spawn(Protocol):
    """Starts a worker and notes it in its generation, in the place of that number or beside it."""

    def __call__(self, generation: Generation, number: int, *, forked: bool = False, beside: bool = False) -> None: ...


def _level_word(level: str, namespace: str) -> str:
    return f"log-level {level} {namespace}".rstrip()
