"""`<process>`: a child that is kept running, with the sockets of its addresses.

As systemd would start it, sd_listen_fds(3), but beside the other servers of the file: with the same start, reload, stop
and journal. In one process (`processes one`) a reload ends the child of the generation before, and the next one is
started when it has gone; who connects meanwhile waits in the queue of the socket. With `processes all` each worker has
a child, those of both generations overlap, and the old ones are told to end when the new ones run.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from twisted.internet import defer
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from appd.errors import ConfigurationError, Problem
from appd.lending import Section
from appd.listening.listeners import InheritedListener, Listener
from appd.servers.process.child import Child, describe_end
from appd.servers.process.command import environment, find_program, launched, prefixed_line, socket_name
from appd.servers.sectioned import SectionedServerType
from appd.servers.turn import Turn
from appd.service import ServerService

__all__ = ["ProcessService", "server_type"]

_log = Logger(namespace="appd.process")

# How soon to look again whether the child of another process has ended, in seconds.
_LOOK_AGAIN = 0.1
# A child that has lived so long is taken for one that works, in seconds; systemd's StartLimit has intervals like it.
_SETTLED = 60.0
_LONGEST_PAUSE = 60.0
_LEVELS = (
    *(LogLevel.critical, LogLevel.critical, LogLevel.critical, LogLevel.error),
    *(LogLevel.warn, LogLevel.info, LogLevel.info, LogLevel.debug),
)


class ProcessService(ServerService):
    """One child that is kept running.

    Args:
        name: What the server is called.
        listeners: The sockets that it gets.
        reactor: The reactor.
        program: Its path and its arguments.
        what: The path of the program.
        more: What is added to its environment.
        directory: Where it is started; None is where appd is.
        restart_after: The shortest pause before it is started again, in seconds.
        stop_timeout: How long it may take to end, in seconds.
        turn: Whose turn it is to have a child, among processes.
        processes: `one` or `all`.
    """

    rests = False

    def __init__(
        self,
        name: str,
        listeners: Sequence[Listener],
        reactor: Any,
        program: Sequence[str],
        what: str,
        more: dict[str, str],
        directory: str | None = None,
        restart_after: float = 1.0,
        stop_timeout: float = 30.0,
        turn: Turn | None = None,
        processes: str = "one",
    ) -> None:
        super().__init__(name, "process", listeners, reactor, description=what, processes=processes)
        self.kinds = ("stream", "datagram")
        self._program = program
        self._more = more
        self._directory = directory
        self._pause = self._restart_after = restart_after
        self._stop_timeout = stop_timeout
        self._turn = turn or Turn("", name)
        self._child: Child | None = None
        self._began = 0.0
        self._wanted = False
        self._later: Any = None
        self._kill: Any = None
        self._gone: list[defer.Deferred[None]] = []

    @property
    def descriptors(self) -> list[int]:
        """None: the child has them."""
        return []

    def startService(self) -> None:
        """Makes what appd binds and starts the child, as soon as that of the generation before has gone.

        Raises:
            AppdError: An address cannot be listened on.
        """
        self.privilegedStartService()
        super(ServerService, self).startService()
        self._wanted = True
        self._start()
        self._record()

    def _start(self) -> None:
        self._later = None
        if not self._wanted or self._child is not None:
            return
        try:
            if not self._turn.take():
                self._later = self.reactor.callLater(_LOOK_AGAIN, self._start)
                return
            self._spawn()
        except OSError as error:
            _log.error("{appd_server}: no child can be started: {error}", appd_server=self.name, error=error)
            self._turn.give()
            self._again()

    def _spawn(self) -> None:
        names = [
            socket_name(one.socket.name if isinstance(one, InheritedListener) else one.address.name, str(self.name))
            for one in self.listeners
        ]
        held = [one.duplicate() for one in self.listeners]  # type: ignore[attr-defined]  # those of sockets have it
        child = Child(self._line, self._ended)
        try:
            made = environment(os.environ, self._more, names)
            program = launched(self._program, sys.executable, os.getpid())
            child.start(self.reactor, program, made, self._directory, [one.fileno() for one in held])
        finally:
            for one in held:
                one.close()
        self._child, self._began = child, self.reactor.seconds()
        _log.info("{appd_server}: {what} runs as {pid}", appd_server=self.name, what=self.description, pid=child.pid)

    def _line(self, line: bytes) -> None:
        priority, text = prefixed_line(line)
        _log.emit(_LEVELS[priority], "{line}", line=text, appd_server=self.name)

    def _ended(self, reason: Failure) -> None:
        pid, self._child = self._child.pid if self._child is not None else 0, None
        if self._kill is not None and self._kill.active():
            self._kill.cancel()
        self._kill = None
        self._turn.give()
        if self._wanted:
            lived = self.reactor.seconds() - self._began
            self._pause = self._restart_after if lived >= _SETTLED else self._pause
            _log.warn(
                "{appd_server}: {what} ({pid}) {how} after {lived:.1f} s; it is started again in {pause:g} s",
                appd_server=self.name,
                what=self.description,
                pid=pid,
                how=describe_end(reason),
                lived=lived,
                pause=self._pause,
            )
            self._again()
        else:
            _log.info(
                "{appd_server}: {what} ({pid}) {how}",
                appd_server=self.name,
                what=self.description,
                pid=pid,
                how=describe_end(reason),
            )
        gone, self._gone = self._gone, []
        for one in gone:
            one.callback(None)

    def _again(self) -> None:
        self._later = self.reactor.callLater(self._pause, self._start)
        self._pause = min(max(_LONGEST_PAUSE, self._restart_after), 2 * self._pause)

    def stop_accepting(self) -> None:
        """Has the child end: it is told SIGTERM, and killed after `stop-timeout`."""
        self._wanted = False
        if self._later is not None and self._later.active():
            self._later.cancel()
        if self._child is not None and self._kill is None:
            self._child.signal(signal.SIGTERM)
            self._kill = self.reactor.callLater(self._stop_timeout, self._kill_it)

    def _kill_it(self) -> None:
        if self._child is not None:
            _log.warn(
                "{appd_server}: {what} ({pid}) has not ended after SIGTERM and is killed",
                appd_server=self.name,
                what=self.description,
                pid=self._child.pid,
            )
            self._child.signal(signal.SIGKILL, whole=True)

    def resume_accepting(self) -> None:
        """Keeps a child running again."""
        if self.running and not self._wanted:
            self._wanted = True
            self._pause = self._restart_after
            # One that has been told to end is followed by the next when it has.
            self._start()

    def drain(self) -> defer.Deferred[None]:
        """Fires when the child has ended; may be cancelled."""
        if self._child is None:
            return defer.succeed(None)
        waiting: defer.Deferred[None] = defer.Deferred(self._gone.remove)
        self._gone.append(waiting)
        return waiting

    @defer.inlineCallbacks
    def stopService(self) -> Any:
        """Kills a child that has not ended by now.

        Returns:
            Fires when it is gone and the sockets of this process are closed.
        """
        self.stop_accepting()
        if self._child is not None:
            self._kill_it()
            yield self.drain()
        yield super().stopService()


class _ProcessType(SectionedServerType):
    kinds = frozenset({"stream", "datagram"})
    needs_address = False
    section_says = "has a command"

    def make(self, name: str, section: Section) -> ProcessService:
        """See SectionedServerType."""
        settings, host = section.settings, section.host
        problems: list[Problem] = []
        program: list[str] = settings.command
        if settings.tls_address:
            problems.append(
                settings.problem(f"server {name!r}: the child gets the socket and speaks TLS itself", "tls_address")
            )
        for number, one in enumerate(section.listeners):
            if one.kind == "connection" or (one.kind and not hasattr(one, "duplicate")):
                message = f"server {name!r}: {one.address} is no socket that listens and can be passed to a child"
                problems.append(settings.problem(message, "address", number))
        directory = settings.directory or os.getcwd()
        if not os.path.isdir(directory):
            problems.append(settings.problem(f"directory {directory}: there is no such folder", "directory"))
        more = dict(settings.environment.values["values"]) if settings.environment is not None else {}
        try:
            found = find_program(program[0], directory, more.get("PATH") or os.environ.get("PATH") or os.defpath)
        except ValueError as error:
            problems.append(settings.problem(f"command: {error}", "command"))
        if problems:
            raise ConfigurationError(*problems)
        processes = settings.processes or self.processes
        return ProcessService(
            name,
            section.listeners,
            host.reactor,
            [found, *program[1:]],
            found,
            more,
            settings.directory,
            settings.restart_after,
            settings.stop_timeout,
            Turn(host.shared.get("folder", "") if processes == "one" else "", name),
            processes,
        )


server_type = _ProcessType()
