"""Where the threads of a worker are, when it hangs: faulthandler writes it into a memfd, and it is told here.

One that is aborted writes its stacks as it dies. One that loads has nothing to say yet, as it runs no reactor: after a
minute it is asked by a signal, and by another one if Python does not get to answer the first. It is not killed, since
nobody knows how long its imports may take.
"""

from __future__ import annotations

import os

from appd.messages import WORKER_REPLACED
from appd.supervisor.poller import describe_exit
from appd.supervisor.spawn import ASKS, INSISTS
from appd.supervisor.worker import LOADING, send_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from appd.supervisor.directlog import DirectLog
    from appd.supervisor.worker import Worker

__all__ = ["tell_end", "tell_loading", "tell_replaced"]

# After how long a worker that still loads is asked where it is, in seconds: longer than any import should take.
_LOADS_LONG = 60.0
# After how long without an answer it is asked so that it needs no interpreter lock, and after how long once more.
_PATIENCE = 5.0
_ASKED_AGAIN = 600.0
_MOST = 1 << 20


def tell_loading(worker: Worker, now: float, log: DirectLog) -> None:
    """Tells where a worker is that has been loading for very long; to be called once in a while.

    Args:
        worker: The worker.
        now: Monotonic seconds.
        log: The log.
    """
    if worker.asking and os.fstat(worker.stacks).st_size:
        worker.asking = 0
        found = os.pread(worker.stacks, _MOST, 0).decode("utf-8", "replace").rstrip()
        # Both processes have the same offset. What it writes when it dies is to be alone there.
        os.ftruncate(worker.stacks, 0)
        os.lseek(worker.stacks, 0, os.SEEK_SET)
        text = f"worker {worker.number} has been loading for {now - worker.started:.0f} s; its threads are at:"
        log.write(f"{text}\n{found}", 4, APPD_WORKER=str(worker.number))
    if worker.state != LOADING:
        return
    due = worker.started + _LOADS_LONG if worker.asked is None else worker.asked + _ASKED_AGAIN
    if now >= due:
        worker.asked, worker.asking = now, 1
        send_signal([worker], ASKS)
    elif worker.asking == 1 and worker.asked is not None and now >= worker.asked + _PATIENCE:
        worker.asking = 2
        send_signal([worker], INSISTS)


def tell_end(worker: Worker, status: int, log: DirectLog) -> None:
    """Tells where the threads of a worker were that was aborted, and closes its memfd.

    Args:
        worker: One that has gone.
        status: What wait(2) says of it.
        log: The log.
    """
    stacks = worker.take_stacks()
    if stacks and os.WIFSIGNALED(status):
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
