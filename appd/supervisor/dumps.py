"""Where the threads of a worker are, when it hangs: faulthandler writes it into a memfd, and it is told here.

One that is aborted writes its stacks as it dies. One that loads has nothing to say yet, as it runs no reactor: a timer
of its own, which needs no interpreter lock, writes them every `LOADS_LONG` seconds until it is done. It is not killed,
since nobody knows how long its imports may take.
"""

from __future__ import annotations

import os

from appd.messages import WORKER_REPLACED
from appd.supervisor.poller import describe_exit
from appd.supervisor.spawn import LOADS_LONG
from appd.supervisor.worker import LOADING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from appd.supervisor.directlog import DirectLog
    from appd.supervisor.worker import Worker

__all__ = ["tell_end", "tell_loading", "tell_replaced"]

# How often it is told where a worker is that still loads, in seconds.
_TOLD_AGAIN = 600.0
# What each dump of the timer begins with; see `dump_traceback_later` of faulthandler.
_BEGINS = "Timeout ("
_MOST = 1 << 20


def tell_loading(worker: Worker, now: float, log: DirectLog) -> None:
    """Tells where the threads of a worker are that has been loading for very long; to be called once in a while.

    Args:
        worker: The worker.
        now: Monotonic seconds.
        log: The log.
    """
    if worker.state != LOADING or now - worker.started < LOADS_LONG or not os.fstat(worker.stacks).st_size:
        return
    found = os.pread(worker.stacks, _MOST, 0).decode("utf-8", "replace")
    # Both processes have the same offset. What it writes when it dies is to be alone there.
    os.ftruncate(worker.stacks, 0)
    os.lseek(worker.stacks, 0, os.SEEK_SET)
    if worker.told_loading is None or now - worker.told_loading >= _TOLD_AGAIN:
        worker.told_loading = now
        threads = found.rpartition(_BEGINS)[2].partition("\n")[2].rstrip()
        text = f"worker {worker.number} has been loading for {now - worker.started:.0f} s; its threads are at:"
        log.write(f"{text}\n{threads}", 4, APPD_WORKER=str(worker.number))


def tell_end(worker: Worker, status: int, log: DirectLog) -> None:
    """Tells where the threads of a worker were that was aborted, and closes its memfd.

    Args:
        worker: One that has gone.
        status: What wait(2) says of it.
        log: The log.
    """
    stacks = worker.take_stacks()
    if stacks:
        log.write(f"worker {worker.number} {describe_exit(status)}, its stacks:\n{stacks}", 3)


def tell_replaced(worker: Worker, status: int, pause: float, log: DirectLog) -> None:
    """Tells that another takes the place of a worker.

    Args:
        worker: One that has gone.
        status: What wait(2) says of it.
        pause: How long until then, in seconds.
        log: The log.
    """
    soon = f" in {pause:.0f} s" if pause else ""
    text = f"worker {worker.number} {describe_exit(status)}; it is replaced{soon}"
    log.write(text, 3, APPD_WORKER=str(worker.number), MESSAGE_ID=WORKER_REPLACED)
