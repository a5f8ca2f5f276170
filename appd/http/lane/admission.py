"""Which calls run and which wait.

So many calls run at a time, and of each mount no more than its share of them. What has to wait stands in a queue of its
mount; whichever call ends, the one that has waited longest of those that may run is next. Beyond the length of the
queue nobody is let in.

Whoever takes a call out of the queue decides what becomes of it: `next` and `leave` have it run, `withdraw` has it
cancelled. One of them gets it, once. So has it been since zope.server's ITask: `service` or `cancel`, never both.
"""

from __future__ import annotations

from appd.startup.bare import Lock, OrderedDict, deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Admission", "Share"]

# A mount is slow when so many of its calls, or fewer, take more than so many seconds together, of which each counts at
# most for so much; and for how long.
_CALLS, _SLOW, _AT_MOST = 32, 0.010, 0.004
_ANOTHER_CHANCE = 1.0


class Share:
    """The calls of one mount.

    Args:
        most: How many run at a time.

    Attributes:
        free: A token for each call that may still begin.
        waiting: Those that wait, in their order, with the number under which they came.
        refused: How many were refused, as the queue was full.
        cancelled: How many waited, and were cancelled.
        quick: Whether its calls are done before anybody notices; then a thread makes one without handing on.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.free: deque[None] = deque([None] * most)
        # Of a dict the first is found the more slowly the more were taken out before it.
        self.waiting: OrderedDict[Any, int] = OrderedDict()
        self.refused = self.cancelled = 0
        self.quick = True
        self._count = 0
        self._spent = 0.0
        self._until = 0.0

    @property
    def running(self) -> int:
        """How many run."""
        return self.most - len(self.free)

    def is_quick(self, now: float) -> bool:
        """Whether its next call is thought to be quick. What was slow is given another chance after a while.

        Args:
            now: The time.
        """
        if not self.quick and now >= self._until:
            self.quick = True
            self._count, self._spent = 0, 0.0
        return self.quick

    def learn(self, began: float, now: float) -> None:
        """Notes how long a call took that was thought to be quick.

        The mean of some counts, not one: a thread that had to wait for a processor looks slow, too.
        """
        took = now - began
        self._spent = spent = self._spent + (took if took < _AT_MOST else _AT_MOST)
        self._count = count = self._count + 1
        if spent > _SLOW:
            self.quick = False
            self._until = now + _ANOTHER_CHANCE
        elif count >= _CALLS:
            self._count, self._spent = 0, 0.0


class Admission:
    """The calls of a process.

    Args:
        most: How many run at a time.

    Attributes:
        queued: How many wait.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.queued = 0
        # A deque gives each token to one thread, without a lock.
        self._free: deque[None] = deque([None] * most)
        self._shares: list[Share] = []
        self._lock = Lock()
        self._came = 0

    @property
    def running(self) -> int:
        """How many run."""
        return self.most - len(self._free)

    def share(self, most: int | None) -> Share:
        """Makes the share of a mount.

        Args:
            most: How many of its calls run at a time; None for as many as there are.
        """
        made = Share(min(most or self.most, self.most))
        with self._lock:
            self._shares.append(made)
        return made

    def enter(self, share: Share, ahead: bool = False) -> bool:
        """Begins a call, unless it has to wait. Whoever may begin calls `leave` at its end.

        Args:
            share: Its mount.
            ahead: Whether it is the next of those that wait.
        """
        if self.queued and not ahead:
            return False
        try:
            self._free.pop()
        except IndexError:
            return False
        try:
            share.free.pop()
        except IndexError:
            self._free.append(None)
            return False
        return True

    def queue(self, share: Share, call: Any, most: int) -> bool:
        """Has a call wait.

        Args:
            share: Its mount.
            call: What is given to whoever leaves.
            most: The length of the queue.

        Returns:
            Whether it waits; it is refused when the queue is full.
        """
        with self._lock:
            if self.queued >= most:
                share.refused += 1
                return False
            self._came += 1
            self.queued += 1
            share.waiting[call] = self._came
            return True

    def withdraw(self, share: Share, call: Any) -> bool:
        """Takes a call out of the queue, to be cancelled.

        Returns:
            Whether it is the caller's now; not when it did not wait any more.
        """
        with self._lock:
            if share.waiting.pop(call, None) is None:
                return False
            self.queued -= 1
            share.cancelled += 1
            return True

    def drop(self, share: Share) -> tuple[Share, Any] | None:
        """Ends a call that has waited and was begun, but is cancelled after all; as `leave`."""
        with self._lock:
            share.cancelled += 1
        return self.leave(share)

    def waiting(self) -> list[tuple[Share, Any]]:
        """The calls that wait, with their mounts."""
        with self._lock:
            return [(share, call) for share in self._shares for call in share.waiting]

    def leave(self, share: Share) -> tuple[Share, Any] | None:
        """Ends a call.

        Returns:
            The call that is next, with its mount, already begun.
        """
        share.free.append(None)
        self._free.append(None)
        # Who queues looks afterwards as well, so that either of the two sees the other.
        return self.next() if self.queued else None

    def next(self) -> tuple[Share, Any] | None:
        """Begins the call that has waited longest of those that may run.

        Returns:
            The call, with its mount.
        """
        with self._lock:
            while True:
                able = [one for one in self._shares if one.waiting and one.free]
                if not able or not self._free:
                    return None
                share = min(able, key=lambda one: next(iter(one.waiting.values())))
                if self.enter(share, ahead=True):
                    self.queued -= 1
                    return share, share.waiting.popitem(last=False)[0]
