"""What is kept of each peer whose logins have failed: in this process, or in a file that all workers share.

Workers that counted for themselves would give a peer as many guesses as there are workers, and forget all of them at a
reload. The file is mapped into memory, and flock(2) is held for the few microseconds of a look or a change. It is a
table of buckets with places for eight peers each; where one is full, the peer that failed longest ago goes. Peers stand
in it by a keyed hash, so that nobody can choose addresses that push out his own.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from hashlib import blake2b
from typing import NamedTuple, Protocol

__all__ = ["InMemory", "Ledger", "Record", "Shared"]

_BUCKETS, _PLACES = 2048, 8
# The hash of the peer, and its record; the hash is never all zero.
_ROW = struct.Struct("=16sIxxxxdd")
_KEY = 16
_SIZE = _KEY + _BUCKETS * _PLACES * _ROW.size
# A worker that was stopped while it had the file holds up nobody for longer than so many times so many seconds.
_TRIES, _TRY_AGAIN = 50, 0.001


class Record(NamedTuple):
    """What is kept of a peer; times are of the monotonic clock, which all processes of a host share.

    Attributes:
        failed: How many logins have failed of late.
        last: When the last one did.
        free_at: When its next attempt is looked at.
    """

    failed: int
    last: float
    free_at: float


class Ledger(Protocol):
    """A record for each peer. Any thread may call; `get`, `put` and `drop` with `held`."""

    def held(self) -> AbstractContextManager[None]:
        """Nobody else looks or writes meanwhile."""

    def get(self, peer: str) -> Record | None:
        """What is kept of a peer."""

    def put(self, peer: str, record: Record) -> None:
        """Keeps something of a peer; for it another may be forgotten."""

    def drop(self, peer: str) -> None:
        """Forgets a peer."""


class InMemory:
    """Kept by this process.

    Args:
        most: How many peers; those without a failure for the longest time go first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._peers: OrderedDict[str, Record] = OrderedDict()

    def __len__(self) -> int:
        return len(self._peers)

    @contextmanager
    def held(self) -> Iterator[None]:
        """See `Ledger`."""
        with self._lock:
            yield

    def get(self, peer: str) -> Record | None:
        """See `Ledger`."""
        return self._peers.get(peer)

    def put(self, peer: str, record: Record) -> None:
        """See `Ledger`."""
        before = self._peers.get(peer)
        self._peers[peer] = record
        if before is None or before.failed != record.failed:
            self._peers.move_to_end(peer)
        while len(self._peers) > self._most:
            self._peers.popitem(last=False)

    def drop(self, peer: str) -> None:
        """See `Ledger`."""
        self._peers.pop(peer, None)


class Shared:
    """Kept in a file.

    Args:
        path: The file, in a folder that nobody else may enter; it is made if it is not there.

    Raises:
        OSError: There is no folder, or no room.

    Resource handling: owns a descriptor and a mapping for as long as the process lives.
    """

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(self._fd, 0, _SIZE)
            self._table = mmap.mmap(self._fd, _SIZE)
        except BaseException:
            os.close(self._fd)
            raise
        with self.held():
            if not any(self._table[:_KEY]):
                self._table[:_KEY] = os.urandom(_KEY)
            self._key = self._table[:_KEY]

    @contextmanager
    def held(self) -> Iterator[None]:
        """See `Ledger`."""
        with self._lock:
            held = self._take()
            try:
                yield
            finally:
                if held:
                    fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _take(self) -> bool:
        for _ in range(_TRIES):
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_TRY_AGAIN)
            else:
                return True
        return False  # without it a failure may go uncounted, and nobody waits for ever

    def _places(self, peer: str) -> tuple[bytes, range]:
        """The hash of a peer, and where its row may be."""
        hashed = blake2b(peer.encode("utf-8", "surrogateescape"), key=self._key, digest_size=16).digest()
        start = _KEY + int.from_bytes(hashed[:4]) % _BUCKETS * _PLACES * _ROW.size
        return hashed, range(start, start + _PLACES * _ROW.size, _ROW.size)

    def get(self, peer: str) -> Record | None:
        """See `Ledger`."""
        hashed, places = self._places(peer)
        for place in places:
            found, *record = _ROW.unpack_from(self._table, place)
            if found == hashed:
                return Record(*record)
        return None

    def put(self, peer: str, record: Record) -> None:
        """See `Ledger`."""
        hashed, places = self._places(peer)
        rows = [(_ROW.unpack_from(self._table, place), place) for place in places]
        own = [place for row, place in rows if row[0] == hashed]
        # A place that nobody has says that its peer failed at 0.
        place = own[0] if own else min(rows, key=lambda one: one[0][2])[1]
        _ROW.pack_into(self._table, place, hashed, min(record.failed, 2**32 - 1), record.last, record.free_at)

    def drop(self, peer: str) -> None:
        """See `Ledger`."""
        hashed, places = self._places(peer)
        for place in places:
            if self._table[place : place + 16] == hashed:
                self._table[place : place + _ROW.size] = bytes(_ROW.size)
