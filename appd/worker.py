"""The composition root of one worker: file → settings → plan → servers → reactor.

The same steps serve `appd run`, the twistd plugin and `appd check`; each stops where it has what it needs. Twisted is
imported here and after, never before the descriptors are taken over.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from appd.activation import Inheritance, inherit
from appd.address import Address
from appd.config import Settings, load
from appd.errors import EX_OK, AppdError, ConfigurationError, Problem
from appd.notify import Notifier
from appd.signals import Stopped, StopSignals

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

    group = ServerGroup(built.services.values(), reactor, built.settings.drain_timeout)
    return Lifecycle(group, built.threads, notifier, reactor, **callbacks)


def report(log: Log, error: AppdError) -> None:
    """Logs each problem as one entry, the traceback of hosted code below the line."""
    for problem in error.problems:
        log.write(f"{problem}\n{problem.traceback.rstrip()}" if problem.traceback else str(problem), _ERROR)


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
    section = settings.log
    if section is None:
        return
    levels = section.levels.values["values"] if section.levels is not None else {}
    log.configure(section.format, section.level, levels)


def tell_warnings(log: Log, plan: Plan) -> None:
    """Logs what an administrator should know."""
    for warning in plan.warnings:
        log.write(str(warning), _WARNING)


def run(
    path: str,
    binds: Mapping[str, Sequence[Address]],
    log: Log,
    signals: StopSignals,
    environ: Mapping[str, str] = os.environ,
) -> int:
    """Runs one worker until it is told to stop.

    Args:
        path: The configuration file.
        binds: Name → addresses of `--bind`.
        log: The log, started; the caller closes it.
        signals: The ending signals, raising `Stopped` already.
        environ: What systemd says.

    Returns:
        The exit code, of sysexits(3).
    """
    notifier = Notifier(environ)
    try:
        return _Run(path, binds, log, signals, notifier).run()
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
    ) -> None:
        self._path = path
        self._binds = binds
        self._log = log
        self._signals = signals
        self._notifier = notifier
        self._exit_code = EX_OK
        self._lifecycle: Lifecycle

    def run(self) -> int:
        inheritance = inherit()
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
