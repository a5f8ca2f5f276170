"""What has all connections of a process that are served on the loop, whichever server they are of."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from appd.http.handover import Handed
from appd.http.log.entrylog import EntryLog, tell_failure
from appd.http.loop.alarm import Alarm
from appd.http.loop.blocking import Watch
from appd.http.loop.client import LoopClient
from appd.http.loop.door import Adopted, LoopDoor
from appd.http.loop.lifespan import Lifespan
from appd.http.loop.mounted import AsgiMounted
from appd.http.loop.thread import LoopThread
from appd.http.site import Mount

if TYPE_CHECKING:
    from concurrent.futures import Future

    from appd.http.lane.server import Server
    from appd.http.loop.leaver import LoopLeaver

__all__ = ["Driver"]


class Driver:
    """The loop and what happens on it.

    Args:
        log: The log.

    Attributes:
        loop: The loop.
        alarm: The deadlines of connections.
        sleeps: Whether nobody looks if an application blocks the loop, as nothing happens.
        answering: What answers without a task of its own, for people; "" while nothing does.

    Resource handling: owns the thread of the loop from `start` until `stop`.
    """

    def __init__(self, log: EntryLog) -> None:
        self.log = log
        self._thread = LoopThread(log)
        self.loop = self._thread.loop
        self.alarm = Alarm(self.loop, self._failed)
        self._watch = Watch(self._thread, log, self._who)
        self.sleeps = True
        self.answering = ""
        self._lifespans: dict[int, Lifespan] = {}
        self.mounts: list[AsgiMounted] = []
        self._beginning: set[asyncio.Task[Any]] = set()
        # What is to be cut before the end.
        self._cut: list[LoopLeaver] = []

    def ride(self, reactor: Any) -> None:
        """Has the thread of the reactor be that of the loop; see `LoopThread.ride`."""
        self._thread.ride(reactor)

    def start(self) -> None:
        """Begins to run; calling again does nothing."""
        self._thread.start()
        self._watch.start(self._fell_asleep)

    def stop(self) -> bool:
        """Ends the loop and what runs on it. Returns whether it has ended."""
        self._watch.stop()
        ended = self._thread.stop()
        if not ended:
            # An application blocks it, and the process ends without it. A body of HTTP/1.0 would look whole.
            for client in self._cut:
                client.be_reset()
        return ended

    @property
    def apart(self) -> bool:
        """Whether the loop has a thread of its own, so that others may wait for it."""
        return self._thread.apart

    def alive(self) -> bool:
        """Whether the loop turns."""
        return self._thread.alive()

    def wake(self) -> None:
        """Something happens again."""
        self.sleeps = False
        self._watch.wake()

    def _fell_asleep(self) -> None:
        self.sleeps = True

    def post(self, call: Callable[..., object], *arguments: Any) -> bool:
        """Has the loop call something. Any thread may ask.

        Returns:
            Whether it will; not when it has ended.
        """
        return self._thread.post(call, *arguments)

    def cut(self, client: LoopLeaver) -> None:
        """Cuts a connection at the end of a drain, before the loop ends. Any thread may ask."""
        self._cut.append(client)
        self.post(client.cut_now)

    def run(self, coroutine: Any) -> Future[Any]:
        """Has the loop run a coroutine. Any other thread may ask."""
        return self._thread.run(coroutine)

    # What a server asks for.

    def mount(self, mount: Mount) -> AsgiMounted:
        """Makes what answers for a mount. One application that is mounted twice begins and ends once."""
        serves: Any = mount.serves
        # Whatever stands before it.
        key = id(getattr(serves.application, "guarded", serves.application))
        lifespan = self._lifespans.get(key)
        if lifespan is None:
            lifespan = self._lifespans[key] = Lifespan(serves, self.log)
        made = AsgiMounted(mount, serves, self, lifespan)
        self.mounts.append(made)
        return made

    def listen(
        self, server: Server, sock: socket.socket, *, many_processes: bool = False, security: Any = None
    ) -> LoopDoor:
        """Begins to accept connections on a socket.

        Args:
            server: Whose they are.
            sock: The socket, listening and non-blocking; it belongs to the driver from now on.
            many_processes: Whether other processes serve the same.
            security: What makes it speak TLS, `appd.tls.stdlib.OnSockets`; None when it is plain.
        """
        door = LoopDoor(server, sock, self, many_processes=many_processes, security=security)
        server.doors.append(door)
        door.resume()
        return door

    def adopt(self, server: Server, sock: socket.socket, *, many_processes: bool = False, security: Any = None) -> None:
        """Serves one connection that somebody else has accepted."""
        door = LoopDoor(server, sock, self, many_processes=many_processes, security=security)
        try:
            peer = sock.getpeername()
        except OSError:  # gone already; reading will tell
            peer = ""
        coming = Adopted(door, sock.detach(), peer)
        server.clients.add(coming)
        self.post(coming.begin)

    def take(self, handed: Handed) -> LoopClient:
        """Takes over a connection that the lane had; see `handover`."""
        client = LoopClient(self, handed.door, handed.host, handed.port, handed)
        # Before anybody can end it.
        client.server.clients.add(client)
        self.post(self.connect, client, handed.sock)
        return client

    # Connections; in the thread of the loop.

    def connect(self, client: LoopClient, sock: socket.socket) -> asyncio.Task[None]:
        """Makes a transport for a plain connection; done when it is there."""
        return self.keep(self._connect(client, sock))

    def keep(self, beginning: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs what begins a connection to its end: the loop itself knows its tasks only weakly."""
        task = self.loop.create_task(beginning)
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)
        return task

    async def _connect(self, client: LoopClient, sock: socket.socket) -> None:
        try:
            await self.loop.connect_accepted_socket(lambda: client, sock)
        except (OSError, asyncio.CancelledError):
            # A client that left at once.
            sock.close()
            client.server.lost(client)

    async def idle(self, mounts: list[AsgiMounted]) -> None:
        """Waits until no call of an application runs any more: some go on after their response."""
        while tasks := [one for mount in mounts for one in mount.tasks]:
            await asyncio.wait(tasks)

    # Applications.

    async def start_up(self, mounts: list[AsgiMounted]) -> None:
        """Has the applications of mounts begin.

        Raises:
            LifespanFailed: One cannot.
        """
        for one in mounts:
            await one.lifespan.start_up()

    async def shut_down(self, mounts: list[AsgiMounted]) -> None:
        """Has the applications of mounts end, the last first; nothing is raised."""
        for one in reversed(mounts):
            await one.lifespan.shut_down()

    def _who(self, task: Any) -> str:
        """Which application runs, for people."""
        for mount in self.mounts:
            if task in mount.tasks:
                return mount.dotted
        return self.answering

    def _failed(self, error: BaseException) -> None:
        tell_failure(self.log, "the HTTP engine failed at a connection, which is closed", error, LOGGER="appd.http")
