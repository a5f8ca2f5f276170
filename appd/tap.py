"""The twistd plugin: `twistd -n appd --config FILE` runs one worker among twistd's own options.

twistd makes the log, the signals and the reactor; the rest is what `appd run` does. Where twistd was given no log of
its own (--logfile, --syslog, --logger), appd's takes its place: entries of the journal, lines elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.application.service import IServiceMaker, MultiService
from twisted.logger import ILogObserver, Logger
from twisted.python import usage

from appd.address import parse_bind
from appd.errors import EX_SOFTWARE, AppdError
from appd.signals import StopSignals
from appd.startup.vendored import append_vendored
from appd.systemd.activation import inherit
from appd.systemd.notify import Notifier

if TYPE_CHECKING:
    from appd.journal import Log
    from appd.worker.lifecycle import Lifecycle

__all__ = ["Options", "makeService"]


class Options(usage.Options):
    """The options of the subcommand."""

    optParameters: ClassVar[list[list[str]]] = [["config", "c", "/etc/appd/appd.conf", "The configuration file."]]

    def __init__(self) -> None:
        super().__init__()
        self["binds"] = {}

    def opt_bind(self, text: str) -> None:
        """NAME=ADDRESS: make the socket that systemd:name=NAME means, when systemd passed none; repeatable."""
        try:
            name, address = parse_bind(text)
        except ValueError as error:
            raise usage.UsageError(str(error)) from None
        self["binds"].setdefault(name, []).append(address)


def makeService(options: Options) -> MultiService:
    """Makes the worker for twistd.

    Args:
        options: The options of the subcommand.

    Raises:
        SystemExit: The file is wrong; each problem has been logged as one line, and the manager told.
    """
    from twisted.internet import reactor

    append_vendored()
    from appd.config import load
    from appd.journal import Log
    from appd.worker import assembly, worker

    signals = StopSignals()
    signals.raise_when_told()
    log = Log()
    log.start()
    notifier = Notifier()
    _restore_listen_variables()
    try:
        inheritance = inherit()
        settings = load(options["config"])
        worker.configure_log(log, settings)
        # Without a log of appd's, servers log events, which go where twistd was told.
        keeps = _keeps_twistd_log(options)
        built = assembly.build(
            settings, inheritance, options["binds"], reactor, None if keeps else log, {"notifier": notifier}
        )
        assembly.tell_warnings(log, built, supervised=False)
        service = _TwistdWorker(reactor, log, signals, keeps)
        service.lifecycle = assembly.compose(
            built, notifier, reactor, failed=service.failed, finished=lambda: service.drain()
        )
        service.lifecycle.setServiceParent(service)
        service.idle_exit = settings.idle_exit
    except AppdError as error:
        worker.report(log, error)
        notifier.tell_failure(error)
        log.close(5.0)
        raise SystemExit(error.exit_code) from None
    return service


def _restore_listen_variables() -> None:
    """Puts back what Twisted may have removed.

    Where the folder of the plugins has no dropin.cache that is up to date, twistd imports every plugin, endpoints among
    them, before it asks this one. The kernel keeps the environment that the process began with (proc_pid_environ(5)).
    """
    if "LISTEN_FDS" in os.environ:
        return
    try:
        begun_with = Path("/proc/self/environ").read_bytes()
    except OSError:
        return
    for name, _, value in (one.partition(b"=") for one in begun_with.split(b"\0")):
        if name in (b"LISTEN_PID", b"LISTEN_FDS"):
            os.environb[name] = value


def _keeps_twistd_log(options: Options) -> bool:
    parent: Any = options.parent or {}
    # In the background there is no standard error, and a thread does not survive the fork into it.
    return not parent.get("nodaemon") or bool(parent.get("logfile") or parent.get("syslog") or parent.get("logger"))


class _TwistdWorker(MultiService):
    """The worker as twistd sees it.

    Args:
        reactor: The reactor.
        log: appd's log, started.
        signals: The ending signals, raising already.
        keeps_twistd_log: Whether twistd was told where to log.
    """

    lifecycle: Lifecycle
    idle_exit: float | None = None

    def __init__(self, reactor: Any, log: Log, signals: StopSignals, keeps_twistd_log: bool) -> None:
        super().__init__()
        self._reactor = reactor
        self._log = log
        self._keeps_twistd_log = keeps_twistd_log
        self._signals = signals
        self._ending = False

    def setServiceParent(self, parent: Any) -> None:
        """Joins the application, and gives it appd's log: twistd looks for this component when it has no other."""
        super().setServiceParent(parent)
        if not self._keeps_twistd_log and not IServiceMaker.providedBy(parent):
            parent.setComponent(ILogObserver, self._log.observer())
            self._log.install_stdlib()

    def startService(self) -> None:
        """Starts the servers.

        Raises:
            SystemExit: One cannot listen.
        """
        self._reactor.callWhenRunning(self._take_signals)
        self._signals.check()
        self._or_exit(super().startService)

    def privilegedStartService(self) -> None:
        """Binds before twistd gives up root.

        Raises:
            SystemExit: The host refuses.
        """
        self._or_exit(super().privilegedStartService)

    def _or_exit(self, step: Callable[[], object]) -> None:
        try:
            step()
        except AppdError as error:
            from appd.worker import worker

            worker.report(self._log, error)
            Notifier().tell_failure(error)
            self._log.close(5.0)
            raise SystemExit(error.exit_code) from None

    def _take_signals(self) -> None:
        if self.idle_exit is not None:
            from appd.worker.rest import RestAlone

            RestAlone(self.idle_exit, self.lifecycle, self._reactor, self.drain)
        self._signals.call_when_told(
            self._reactor.callFromThread, self.drain, self.lifecycle.leave_at_once, self._no_reload
        )

    def _no_reload(self) -> None:
        Logger(namespace="appd.tap").warn(
            "SIGHUP: reload needs the supervisor; `systemctl restart` reads the file again"
        )

    def failed(self, error: AppdError) -> None:
        """A server failed to listen after the start."""
        from appd.worker import worker

        worker.report(self._log, error)
        Notifier().tell_failure(error)
        # twistd itself exits with 0 whatever happened in the reactor; systemd must see the failure.
        self._reactor.addSystemEventTrigger("after", "shutdown", self._exit, error.exit_code or EX_SOFTWARE)
        self.drain()

    def drain(self) -> None:
        """Begins the shutdown of the reactor, which drains."""
        if self._reactor.running and not self._ending:
            self._ending = True
            self._reactor.stop()

    def _exit(self, code: int) -> None:
        self._log.close(5.0)
        os._exit(code)
