"""All connections of a process, and the threads that read and answer them.

Connections are polled edge-triggered: epoll tells once of what has come, and a client that is armed again after its
answer costs no system call. So whoever arms one must have read all that was there, or have it looked at anew
(`rearm`, `read_more`). What is told of a client while some thread has it is noted and looked at anew when it is armed.

At most `threads` calls of applications run at a time; one more thread is always free to poll, so that connections are
accepted, deadlines kept, files served, calls queued and refused whatever the applications do.

Of a call that has waited, either `run` or `cancel` is called, once; see `Admission` for who decides.
"""

from __future__ import annotations

import select
import time

from appd.http.lane.admission import Admission
from appd.http.lane.aside import Aside
from appd.http.lane.batch import Batch
from appd.http.lane.crew import Crew, Worker
from appd.http.lane.deadlines import Deadlines
from appd.http.lane.gateway import Call
from appd.http.lane.sending import Gone
from appd.http.log.entrylog import EntryLog, tell_failure
from appd.http.log.stacks import stacks
from appd.journal import ERROR
from appd.startup.bare import Lock, partial, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from appd.http.lane.door import Door
    from appd.http.lane.guest import Guest
    from appd.http.lane.sending import Sender
    from appd.http.lane.server import Server

__all__ = ["Lane"]

_READ = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
_SEND = select.EPOLLOUT | select.EPOLLET
_BOTH = _READ | _SEND
# How long nothing is accepted when the process or the system has no descriptors, in seconds.
_PAUSE = 0.5


class Lane:
    """The engine of one process.

    Args:
        threads: How many calls of applications run at a time.
        log: The log.
        replace: Called, in some thread, when a call has taken longer than it may: the process had better be replaced.

    Attributes:
        admission: Which calls run and which wait.
        parked: The calls that wait, by the descriptor of their connection.
        deadlines: When connections are looked after.
        read_more: Has the client of a descriptor looked at anew when it is armed: not all that was there was read, or
            its end has come.
        is_unsure: Whether the client of a descriptor had to be looked at anew if it were armed now.

    Resource handling: owns its threads from `start` until `stop`.
    """

    def __init__(self, threads: int, log: EntryLog, replace: Callable[[], None] = lambda: None) -> None:
        self.log = log
        self.threads = threads
        self.admission = Admission(threads)
        self.parked: dict[int, Call] = {}
        self._crew = Crew(threads + 1, self, partial(Batch, self.failed))
        self.deadlines = Deadlines(self._crew.sooner)
        self._armed: dict[int, Any] = {}
        # Descriptors of which epoll may not tell again what is there.
        self._unsure: set[int] = set()
        self.read_more, self.is_unsure = self._unsure.add, self._unsure.__contains__
        # Held by who asks for other events, and by who lets a descriptor go, which may be another's at once.
        self._polling = Lock()
        self._doors: dict[int, Door] = {}
        self._aside = Aside()
        self._replace = replace
        self._started = self._whole = self._ended = False

    def start(self, *, early: bool = False) -> None:
        """Begins to work, `early` with what makes for a quick first answer (see `Crew.begin`); again does nothing."""
        if not self._whole:
            self._crew.begin() if early else self._crew.start()
            self._modify = self._crew.epoll.modify
            self._started, self._whole = True, not early

    def stop(self, timeout: float = 2.0) -> bool:
        """Ends the threads that are not in a call, and cancels the calls that wait; see `Crew.stop`."""
        self._ended = True
        for _share, call in self.admission.waiting():
            self.cancel(call)
        if not self._started:
            return True
        ended = self._crew.stop(timeout)
        for item in self._crew.left():
            if isinstance(item, Call):
                self._drop(item)
            elif type(item) is not int:
                item.close()
        return ended

    def alive(self) -> bool:
        """Whether somebody has polled since the last time that this was asked."""
        return not self._started or self._crew.alive()

    # Connections.

    def admit(self, client: Sender) -> None:
        """Begins to poll for a new connection."""
        self._unsure.discard(client.fd)
        self._armed[client.fd] = client
        self._poll(client, _READ, self._crew.epoll.register)

    def arm(self, client: Sender) -> None:
        """Gives a client to the poller, which has read all that was there: it is handled when it sends something."""
        fd = client.fd
        self._armed[fd] = client
        # In this order: `_missed` notes first, and looks for the client afterwards.
        if fd in self._unsure:
            self._unsure.discard(fd)
            self._poll(client, _READ)

    def rearm(self, client: Sender) -> None:
        """As `arm`, for a client of which something may be there that was not read."""
        self._armed[client.fd] = client
        self._unsure.discard(client.fd)
        self._poll(client, _READ)

    def arm_to_send(self, client: Sender) -> None:
        """Gives a client to the poller: it is handled when it takes more."""
        self._unsure.add(client.fd)
        self._armed[client.fd] = client
        self._poll(client, _SEND)

    def _poll(self, client: Sender, events: int, ask: Callable[[int, int], None] | None = None) -> None:
        with self._polling:
            # Somebody else may have been told of it already, and have closed it: its descriptor is another's.
            try:
                if client.sock.fileno() == client.fd:
                    (ask or self._modify)(client.fd, events)
            except OSError:
                if self._armed.get(client.fd) is client:
                    raise

    def disarm(self, client: Sender) -> bool:
        """Takes a client from the poller.

        Returns:
            Whether it had it.
        """
        if self._armed.get(client.fd) is not client:
            return False
        found = self._armed.pop(client.fd, None)
        if found is not None and found is not client:
            # Another has the descriptor now. What was reported meanwhile is reported again, whatever it waits for.
            self._armed[client.fd] = found
            self._unsure.add(client.fd)
            self._poll(found, _BOTH)
        return found is client

    def forget(self, client: Sender) -> None:
        """Stops polling for a client that ends."""
        fd = client.fd
        self.deadlines.drop(client)
        self._unsure.discard(fd)
        if self._armed.get(fd) is client:
            del self._armed[fd]
        with self._polling:
            try:  # noqa: SIM105  # it would take two calls more for each connection
                self._crew.epoll.unregister(fd)
            except (OSError, ValueError):  # it is not there, or nobody polls any more
                pass

    # Listening sockets.

    def open(self, door: Door) -> None:
        """Begins to accept connections."""
        self._doors[door.fd] = door
        with suppress(FileExistsError):
            self._crew.epoll.register(door.fd, select.EPOLLIN)

    def shut(self, door: Door) -> None:
        """Accepts no more connections, for now; they wait in the queue of the socket."""
        self._doors.pop(door.fd, None)
        self._aside.drop(door)
        with suppress(OSError, ValueError):
            self._crew.epoll.unregister(door.fd)

    def pause(self, door: Door) -> None:
        """Accepts no connections for a moment."""
        self.shut(door)
        self.deadlines.put(door, time.monotonic() + _PAUSE)

    def set_aside(self, door: Door, seconds: float) -> None:
        """Accepts no connections for an even shorter moment, while other processes do.

        The watch looks again within a tick.
        """
        self.shut(door)
        self._aside.put(door, seconds)
        self._crew.attend()

    # What the crew asks for.

    def take(self, item: Any, worker: Worker) -> None:
        """Does what has come; see `Handler`."""
        if type(item) is int:
            client = self._armed.pop(item, None) or self._missed(item)
            if client is not None:
                try:
                    client.handle(worker)
                except Gone:
                    client.gone()
                except BaseException:
                    client.close()
                    raise
            return
        if isinstance(item, Call):
            self._resume(item, worker)
        else:
            item.visit(worker)

    def post(self, guest: Guest) -> None:
        """Has a thread answer a request that came on a connection of another driver. Any thread may ask."""
        self._crew.post(guest)

    def _missed(self, fd: int) -> Any:
        """Something has come for a door, or for a client that some thread has."""
        door = self._doors.get(fd)
        if door is not None:
            return self._armed.pop(door.accept(), None)
        self._unsure.add(fd)
        # It may have been armed in between.
        found = self._armed.pop(fd, None)
        if found is None:
            call = self.parked.get(fd)
            if call is not None and call.client.has_left:
                self.cancel(call)
        return found

    def _resume(self, call: Call, worker: Worker) -> None:
        """Makes a call that has waited, if anybody still waits for it."""
        client = call.client
        client.park(None)
        if self._ended or client.server.ended or client.has_left:
            found = self._drop(call)
            if found is not None:
                self._next(found, worker)
            return
        try:
            if self.run(call, worker):
                client.go_on(worker)
        except Gone:
            client.gone()
        except BaseException:
            client.close()
            raise

    def begin(self, call: Call, worker: Worker, most: int) -> bool | None:
        """Makes a call, or has it wait.

        Args:
            call: The call.
            worker: The thread.
            most: How many may wait.

        Returns:
            As `run`; None when too many wait.

        Raises:
            Gone: As `run`.
        """
        share = call.mount.share
        if not worker.calls and self.admission.enter(share):
            return self.run(call, worker)
        # In this order: whoever ends the server, or learns that the client has left, notes it first and looks for the
        # call afterwards.
        call.client.park(call)
        if not self.admission.queue(share, call, most):
            call.client.park(None)
            return None
        if self._ended or call.client.server.ended or call.client.has_left:
            self.cancel(call)
        self._next(self.admission.next(), worker)
        return False

    def cancel(self, call: Call) -> bool:
        """Cancels a call, if it waits. Any thread may ask, whether it has the client or not.

        Returns:
            Whether it has waited.
        """
        if not self.admission.withdraw(call.mount.share, call):
            return False
        call.client.park(None)
        self._say_cancelled(call)
        return True

    def _drop(self, call: Call) -> Any:
        """Cancels a call that was begun. Returns the next one, begun."""
        self._say_cancelled(call)
        return self.admission.drop(call.mount.share)

    def _say_cancelled(self, call: Call) -> None:
        try:
            call.cancel()
        except Exception as error:
            self.failed(error)

    def end(self, server: Server) -> int:
        """Cancels the calls of a server that wait, now that it waits for nothing any more. Any thread may ask.

        Returns:
            How many there were.
        """
        return sum(self.cancel(call) for _share, call in self.admission.waiting() if call.client.server is server)

    def _next(self, found: Any, worker: Worker) -> None:
        if found is None:
            return
        if worker.calls:
            self._crew.post(found[1])
        else:
            worker.calls.append(found[1])

    def run(self, call: Call, worker: Worker) -> bool:
        """Makes a call that may run.

        Returns:
            Whether its response is complete, so that the connection may go on; else somebody else has the client.

        Raises:
            Gone: The client has left.
        """
        client, share = call.client, call.mount.share
        limit = client.server.request_timeout
        # In this order: the one who looks after slow calls may look in between. A clock is cheap.
        worker.began = began = time.monotonic()
        worker.call = call
        client.unanswered = [None] if limit else None
        quick = share.quick or share.is_quick(began)
        if not quick:
            worker.give()
        if worker.term:
            if worker.rest or worker.held:
                client.held = worker.held
        elif limit:
            # The lead is given away, or was taken before the call: nobody else looks how long that takes.
            self.deadlines.put(worker, began + limit)
        try:
            return not call.run() and client.complete()
        finally:
            worker.call = None
            if quick:
                share.learn(began, time.monotonic())
            found = self.admission.leave(share)
            if found is not None:
                self._next(found, worker)

    def slow(self, worker: Worker) -> None:
        """A call was longer than the watch waits: see `Handler`."""
        call = worker.call
        limit = call.client.server.request_timeout if call is not None else 0.0
        if limit:
            self.deadlines.put(worker, worker.began + limit)

    def overdue(self, worker: Worker) -> None:
        """A call has taken longer than it may, or the worker has another one by now: see `Handler`."""
        call = worker.call
        limit = call.client.server.request_timeout if call is not None else 0.0
        if call is None or not limit:
            return
        if time.monotonic() < worker.began + limit:
            self.deadlines.put(worker, worker.began + limit)
            return
        fields = call.client.log_fields(call.request)
        what = f"{fields['HTTP_METHOD']!s} {fields['HTTP_PATH']!s} has taken longer than request-timeout ({limit:g} s)"
        self.log.write(f"{what}; the threads are at:\n{stacks()}", ERROR, LOGGER="appd.http", **fields)
        call.client.give_up()
        self._replace()

    def look(self, now: float) -> float | None:
        """Does what is due: see `Handler`."""
        for one in self.deadlines.due(now):
            try:
                one.expired() if one.deadline <= now else self.deadlines.put(one, one.deadline)  # used meanwhile
            except Exception as error:
                self.failed(error)
        wait = self.deadlines.wait(time.monotonic())
        return self._aside.bring_back(now, wait)

    def failed(self, error: BaseException) -> None:
        """Something of ours has failed: see `Handler`."""
        tell_failure(self.log, "the HTTP engine failed at a connection, which is closed", error, LOGGER="appd.http")
