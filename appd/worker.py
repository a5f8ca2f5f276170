"""The composition root of one worker: file → settings → plan → servers → reactor.

The same steps serve `appd run`, the twistd plugin and `appd check`; each stops where it has what it needs. Twisted is
imported here and after, never before the descriptors are taken over.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import zlib
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from appd.activation import Inheritance, inherit
from appd.address import Address
from appd.config import Settings, load
from appd.errors import EX_OK, AppdError, ConfigurationError, Problem
from appd.notify import Notifier
from appd.signals import Stopped, StopSignals
from appd.supervisor.spawn import CHANNEL, STACKS
from appd.tls.postponed import postpone_openssl

if TYPE_CHECKING:
    from appd.journal import Log
    from appd.lifecycle import Lifecycle
    from appd.plan import Plan

__all__ = ["Built", "build", "compose", "report", "run"]

_ERROR, _WARNING = 3, 4
NO_RELOAD = "SIGHUP: reload needs the supervisor; `systemctl restart` reads the file again"


class Built(NamedTuple):
    """Servers that are made and not started.

    Attributes:
        settings: The settings of the file.
        plan: Which sockets each has.
        services: Server name → its service, in the order of starting.
        threads: The pool for blocking applications, not started.
    """

    settings: Settings
    plan: Plan
    services: Mapping[str, Any]
    threads: Any


def build(
    settings: Settings,
    inheritance: Inheritance | None,
    binds: Mapping[str, Sequence[Address]],
    reactor: Any,
) -> Built:
    """Makes the servers of a file, hosted code imported; nothing listens yet and nothing has been bound.

    Args:
        settings: The settings of the file.
        inheritance: What systemd passed; None when that is not known (`appd check`).
        binds: Name → addresses of `--bind`.
        reactor: The reactor.

    Raises:
        ConfigurationError: Every problem at once.
    """
    from appd import hosting
    from appd.lifecycle import application_threads
    from appd.plan import make_plan
    from appd.registry import Registry

    hosting.apply_surroundings(settings)
    plan = make_plan(settings, Registry(), inheritance, binds)
    db = None
    dotted = settings.application_object
    if dotted is not None:
        made_by = hosting.load(dotted, settings, "application_object")
        if not callable(made_by):
            raise ConfigurationError(
                settings.problem(f"{dotted} is not callable: it is {made_by!r}", "application_object")
            )
        db = hosting.call(f"{dotted} failed", made_by, settings, "application_object")
    threads = application_threads(settings.threads)
    services = _services(plan, db, settings, reactor, threads)
    return Built(settings, plan, services, threads)


def _services(plan: Plan, db: Any, settings: Settings, reactor: Any, threads: Any) -> dict[str, Any]:
    from appd import hosting
    from appd.interfaces import Host, Section

    problems: list[Problem] = []
    services: dict[str, Any] = {}
    host = Host(reactor, threads, settings)
    for one in plan.servers:
        section = Section(one.settings, one.listeners, host)
        try:
            service = hosting.call(
                f"server {one.name!r} cannot be made",
                lambda one=one, section=section: one.server_type.create(one.name, db, section=section),  # type: ignore[misc]
                one.settings,
                "",
            )
        except ConfigurationError as error:
            problems += error.problems
            continue
        problems += _unserved(one.name, one.settings, service)
        services[one.name] = service
    if problems:
        raise ConfigurationError(*problems)
    return services


def _unserved(name: str, settings: Settings, service: Any) -> list[Problem]:
    """Sockets of a kind that the finished server does not serve; only `<server>` finds out this late."""
    from appd.activation import takes
    from appd.service import ServerService

    if not isinstance(service, ServerService):
        return []
    return [
        settings.problem(
            f"server {name!r}: {one.address} is a {one.kind} socket, but {service.type_name} takes "
            f"{takes(service.kinds)}: see the .socket unit",
            "address",
        )
        for one in service.listeners
        if one.kind and ("stream" if one.kind == "connection" else one.kind) not in service.kinds
    ]


def compose(built: Built, notifier: Notifier, reactor: Any, **callbacks: Any) -> Lifecycle:
    """Puts the servers together as the one service of the worker.

    Args:
        built: The servers.
        notifier: What tells the service manager.
        reactor: The reactor.
        callbacks: As for `appd.lifecycle.Lifecycle`.
    """
    from appd.lifecycle import Lifecycle
    from appd.service import ServerGroup

    number = int(os.environ.get("APPD_WORKER", "1"))
    services = [one for one in built.services.values() if number == 1 or getattr(one, "processes", "one") == "all"]
    group = ServerGroup(services, reactor, built.settings.drain_timeout)
    lifecycle = Lifecycle(group, built.threads, notifier, reactor, **callbacks)
    with_tls = [one.tls for one in built.plan.servers if one.tls is not None and built.services[one.name] in services]
    if with_tls:
        from appd.tls.renewal import Renewal

        Renewal(with_tls, reactor, lifecycle.tell_certificates, speaks=number == 1).setServiceParent(lifecycle)
    return lifecycle


def report(log: Log, error: AppdError) -> None:
    """Logs each problem as one entry, the traceback of hosted code below the line."""
    for problem in error.problems:
        log.write(f"{problem}\n{problem.traceback.rstrip()}" if problem.traceback else str(problem), _ERROR)


def pass_up(built: Built, notifier: Notifier) -> list[str]:
    """Has the supervisor keep the sockets that appd made.

    Args:
        built: The servers, their sockets prepared.
        notifier: What tells the supervisor.

    Returns:
        The names in the store that this file uses.
    """
    from appd.listeners import BoundListener

    keeps: list[str] = []
    for one in built.plan.servers:
        for listener in one.listeners:
            if isinstance(listener, BoundListener):
                listener.stored = listener.store_name
                notifier.tell(fds=[listener.fd], also={"FDSTORE": "1", "FDNAME": listener.stored})
            stored = getattr(listener, "stored", "")
            if stored:
                keeps.append(stored)
    return keeps


def digest(settings: Settings) -> str:
    """What tells a changed section from the same: a checksum of its type and values, those of its sections too."""
    return f"{zlib.crc32(repr(settings).encode()):08x}"


def leave_forks_alone() -> None:
    """A fork that hosted code makes has no writer thread and no reactor: it prints and dies as any process does."""
    os.register_at_fork(after_in_child=_forked)


def _forked() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    logging.getLogger().handlers.clear()


def configure_log(log: Log, settings: Settings) -> None:
    """Applies the `<log>` section."""
    log.configure(*log_settings(settings))


def log_settings(settings: Settings) -> tuple[str, str, dict[str, str]]:
    """The format, the general level, and the levels of namespaces that a file asks for."""
    section = settings.log
    if section is None:
        return "auto", "info", {}
    return section.format, section.level, dict(section.levels.values["values"]) if section.levels is not None else {}


def tell_warnings(log: Log, plan: Plan) -> None:
    """Logs what an administrator should know."""
    for warning in plan.warnings:
        log.write(str(warning), _WARNING)


def run(
    path: str,
    binds: Mapping[str, Sequence[Address]],
    log: Log,
    signals: StopSignals,
    inheritance: Inheritance | None = None,
    environ: MutableMapping[str, str] = os.environ,
) -> int:
    """Runs one worker until it is told to stop.

    Args:
        path: The configuration file.
        binds: Name → addresses of `--bind`.
        log: The log, started; the caller closes it.
        signals: The ending signals, raising `Stopped` already.
        inheritance: What systemd passed; without it it is looked up in the environment.
        environ: What systemd says.

    Returns:
        The exit code, of sysexits(3).
    """
    notifier = Notifier(environ)
    supervisor, stacks = environ.pop(CHANNEL, ""), environ.pop(STACKS, "")
    # A worker that is aborted for not answering says where it was: to its supervisor, or to standard error.
    if stacks:
        os.set_inheritable(int(stacks), False)
    faulthandler.enable(int(stacks) if stacks else 2)
    try:
        return _Run(path, binds, log, signals, notifier, int(supervisor) if supervisor else None).run(inheritance)
    except Stopped:
        notifier.tell(stopping=True, status="stopped before it served")
        return EX_OK
    except AppdError as error:
        report(log, error)
        notifier.tell_failure(error)
        return error.exit_code


class _Run:
    """One run of the reactor."""

    def __init__(
        self,
        path: str,
        binds: Mapping[str, Sequence[Address]],
        log: Log,
        signals: StopSignals,
        notifier: Notifier,
        supervisor: int | None,
    ) -> None:
        self._supervisor = supervisor
        self._path = path
        self._binds = binds
        self._log = log
        self._signals = signals
        self._notifier = notifier
        self._exit_code = EX_OK
        self._levels: dict[str, str] = {}
        self._general = ""
        self._lifecycle: Lifecycle

    def run(self, inheritance: Inheritance | None) -> int:
        inheritance = inheritance or inherit()
        # Reading the file imports server types, and these Twisted.
        postpone_openssl()
        settings = load(self._path)
        configure_log(self._log, settings)
        self._signals.check()
        from twisted.internet import reactor
        from twisted.logger import globalLogBeginner

        # Twisted's own redirection of print has one buffer for all threads and mixes their lines.
        globalLogBeginner.beginLoggingTo([self._log.observer()], redirectStandardIO=False)
        self._log.install_prints()
        self._log.install_stdlib()
        leave_forks_alone()
        built = build(settings, inheritance, self._binds, reactor)
        tell_warnings(self._log, built.plan)
        self._built = built
        self._lifecycle = compose(built, self._notifier, reactor, failed=self._failed, finished=lambda: self._drain())
        self._signals.check()
        return self._serve(reactor)

    def _serve(self, reactor: Any) -> int:
        self._reactor = reactor
        reactor.addSystemEventTrigger("before", "shutdown", self._lifecycle.stopService)
        reactor.callWhenRunning(self._start)
        # From here to `_start` Twisted's own handlers stop the reactor, which drains as well.
        reactor.run()
        return self._exit_code

    def _start(self) -> None:
        self._signals.call_when_told(
            self._reactor.callFromThread, self._drain, self._lifecycle.leave_at_once, self._no_reload
        )
        if self._signals.received is not None:
            self._drain()
            return
        if self._supervisor is None:
            self._go()
            return
        # Ctrl-C of a terminal reaches every process; the supervisor tells this one, which would take both for two.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        from appd.channel import Channel
        from appd.service import ServerService

        words: dict[str, Callable[..., None]] = {
            "go": self._go,
            "drain": self._drain_slowly,
            "log-level": self._set_level,
            "pause": lambda: self._for_ones(ServerService.stop_accepting),
            "resume": lambda: self._for_ones(ServerService.resume_accepting),
        }
        Channel(self._supervisor, self._reactor, words, self._drain)
        self._lifecycle.beat(self._built.settings.watchdog / 3)
        self._tell_prepared()

    def _for_ones(self, step: Callable[[Any], None]) -> None:
        """Does something with the servers that run in one process only."""
        for server in self._lifecycle.group.servers:
            if server.processes == "one":
                step(server)

    def _tell_prepared(self) -> None:
        """Binds what must be bound, passes it up, and says what the supervisor needs to know of the file."""
        try:
            self._lifecycle.privilegedStartService()
        except AppdError as error:
            self._failed(error)
            return
        keeps = pass_up(self._built, self._notifier)
        facts = {
            "X_APPD_WORKERS": str(self._built.settings.workers),
            "X_APPD_WATCHDOG": str(int(self._built.settings.watchdog * 1000)),
            "X_APPD_KEEPS": " ".join(keeps),
            "X_APPD_SERVERS": "|".join(f"{one.name}={digest(one.settings)}" for one in self._built.plan.servers),
            "X_APPD_PREPARED": "1",
        }
        self._notifier.tell(also=facts)

    def _set_level(self, level: str, namespace: str = "") -> None:
        """The level of one namespace, or of all, until the next start."""
        format_, general, levels = log_settings(self._built.settings)
        self._levels = {**levels, **self._levels, namespace: level} if namespace else {}
        self._general = self._general if namespace else level
        self._log.configure(format_, self._general or general, self._levels or levels)

    def _drain_slowly(self) -> None:
        """After a reload: connections may go on for longer than at a stop."""
        self._lifecycle.group.drain_timeout = self._built.settings.reload_drain_timeout
        self._drain()

    def _go(self) -> None:
        try:
            self._lifecycle.startService()
        except AppdError as error:
            self._failed(error)

    def _failed(self, error: AppdError) -> None:
        report(self._log, error)
        self._notifier.tell_failure(error)
        self._exit_code = error.exit_code
        self._drain()

    def _drain(self) -> None:
        if self._reactor.running and not getattr(self, "_ending", False):
            self._ending = True
            self._reactor.stop()

    def _no_reload(self) -> None:
        self._log.write(NO_RELOAD, _WARNING)
