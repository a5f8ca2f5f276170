"""The composition root of one worker: file → settings → plan → servers → reactor.

Twisted is imported here and after, never before the descriptors are taken over; and at a cold start, where the file
allows it, not before servers answer: see `appd.worker.early`.
"""

from __future__ import annotations

import gc
import os
import sys

from appd.address import Address
from appd.config import Loaded, Settings, load_kept
from appd.errors import EX_OK, AppdError, of_the_host
from appd.messages import CANNOT_START
from appd.signals import Stopped, StopSignals
from appd.startup.bare import signal
from appd.startup.codecache import CodeCache, forget
from appd.startup.patterns import used
from appd.supervisor.spawn import CHANNEL, MATERIAL, READING, STACKS, end_with_parent
from appd.systemd.activation import Inheritance, inherit
from appd.systemd.notify import MARK, Notifier
from appd.worker.assembly import Ground, build, compose, lay_ground, tell_warnings
from appd.worker.forks import leave_forks_alone
from appd.worker.stacks import write_stacks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping, Sequence
    from typing import Any

    from appd.journal import Log
    from appd.tls.keeping import Keeping
    from appd.worker.early import Early
    from appd.worker.lifecycle import Lifecycle

__all__ = ["report", "run"]

_ERROR, _WARNING = 3, 4
# How long after it has begun to serve a worker keeps the validated file, in seconds.
_KEEP_AFTER = 3.0
_AS_IT_WAS = "{} has changed, or a file that it includes; this worker goes on with what they said: `appd reload`"
NO_RELOAD = "SIGHUP: reload needs the supervisor; `systemctl restart` reads the file again"


def report(log: Log, error: AppdError) -> None:
    """Logs each problem as one entry, the traceback of hosted code below the line."""
    for problem in error.problems:
        text = f"{problem}\n{problem.traceback.rstrip()}" if problem.traceback else str(problem)
        log.write(text, _ERROR, MESSAGE_ID=CANNOT_START)


def configure_log(log: Log, settings: Settings) -> None:
    """Applies the `<log>` section."""
    log.configure(*log_settings(settings))


def log_settings(settings: Settings) -> tuple[str, str, dict[str, str]]:
    """The format, the general level, and the levels of namespaces that a file asks for."""
    section = settings.log
    if section is None:
        return "auto", "info", {}
    return section.format, section.level, dict(section.levels.values["values"]) if section.levels is not None else {}


def run(
    path: str,
    binds: Mapping[str, Sequence[Address]],
    log: Log,
    signals: StopSignals,
    inheritance: Inheritance | None = None,
    environ: MutableMapping[str, str] = os.environ,
    *,
    cold: bool = False,
) -> int:
    """Runs one worker until it is told to stop.

    Args:
        path: The configuration file.
        binds: Name → addresses of `--bind`.
        log: The log, started; the caller closes it.
        signals: The ending signals, raising `Stopped` already.
        inheritance: What systemd passed; without it it is looked up in the environment.
        environ: What systemd says.
        cold: Whether nobody else serves, so that servers may begin as soon as they can.

    Returns:
        The exit code, of sysexits(3).
    """
    notifier = Notifier(environ)
    supervisor, stacks, *others = (environ.pop(key, "") for key in (CHANNEL, STACKS, READING, *MATERIAL))
    notifier.mark = MARK if supervisor else ""
    write_stacks(stacks)
    texts: Mapping[str, str] | None = None
    material: Sequence[bytes] = ()
    if any(others):
        from appd.worker.given import read_given

        texts, material = read_given(*others)
    this = _Run(path, binds, log, signals, notifier, int(supervisor) if supervisor else None, texts, material)
    try:
        return this.run(inheritance, cold)
    except Stopped:
        notifier.tell(stopping=True, status="stopped before it served")
        return EX_OK
    except (AppdError, RuntimeError) as raised:
        error = raised if isinstance(raised, AppdError) else of_the_host(raised)
        if error is None:
            raise
        report(log, error)
        notifier.tell_failure(error)
        return error.exit_code
    finally:
        this.drain_early()


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
        given: Mapping[str, str] | None,
        material: Sequence[bytes],
    ) -> None:
        self._supervisor = supervisor
        self._given = given
        self._material = material
        self._keeping: Keeping | None = None
        self._path = path
        self._binds = binds
        self._log = log
        self._signals = signals
        self._notifier = notifier
        self._exit_code = EX_OK
        self._loaded: Loaded
        self._imported: Sequence[str] = ()
        self._compiled: Sequence[str | bytes] = ()
        self._levels: dict[str, str] = {}
        self._general = ""
        self._lifecycle: Lifecycle
        self._reactor: Any = None
        self._early: Early | None = None
        self._drain_timeout = 0.0

    def run(self, inheritance: Inheritance | None, cold: bool) -> int:
        inheritance = inheritance or inherit()
        before = set(sys.modules)
        self._loaded = load_kept(self._path, self._given)
        settings = self._loaded.settings
        reading = sys.modules.keys() - before
        self._drain_timeout = settings.drain_timeout
        configure_log(self._log, settings)
        self._signals.check()
        if not self._loaded.current:
            self._log.write(_AS_IT_WAS.format(self._path))
        self._log.install_prints()
        leave_forks_alone()
        ground = self._begin_early(settings, inheritance) if cold else None
        # What only the reading of the file has brought is not needed when that is kept.
        self._imported = [one for one in sys.modules if one not in reading or one.startswith("appd.")]
        self._compiled = tuple(used)
        forget()
        # What there is by now stays, and need not be looked through; hosted code makes garbage like any other.
        gc.freeze()
        gc.enable()
        if cold and self._supervisor is not None:
            end_with_parent()
        from appd.tls.postponed import postpone_openssl

        # What the servers import, hosted code among it, imports Twisted.
        postpone_openssl()
        from appd.listening.reactor import install

        install()
        from twisted.internet import reactor
        from twisted.logger import globalLogBeginner

        # Its redirection of print has one buffer for all threads and mixes their lines: that is `install_prints`.
        globalLogBeginner.beginLoggingTo([self._log.observer()], redirectStandardIO=False)
        self._log.install_stdlib()
        built = build(settings, inheritance, self._binds, reactor, self._log, self._shared(), ground)
        tell_warnings(self._log, built, self._supervisor is not None)
        self._built = built
        self._lifecycle = compose(
            built,
            self._notifier,
            reactor,
            failed=self._failed,
            finished=lambda: self._drain(),
            dropped=lambda: self._log.dropped,
        )
        self._signals.check()
        return self._serve(reactor)

    def _begin_early(self, settings: Settings, inheritance: Inheritance) -> Ground | None:
        """Serves what can be served without Twisted, if nothing else is in the file."""
        from appd.worker.early import Early, allows

        if not allows(settings):
            return None
        self._log.install_stdlib(later=True)
        ground = lay_ground(settings, inheritance, self._binds, self._log, self._shared())
        self._early = Early(ground, self._signals, self._notifier, supervised=self._supervisor is not None)
        self._early.begin()
        return ground

    def drain_early(self) -> None:
        """Finishes what has begun, when it does not come to services that take it over."""
        if self._early is not None:
            self._early.drain(self._drain_timeout)

    def _shared(self) -> dict[str, Any]:
        """What the servers are lent: see `build`."""
        lent: dict[str, Any] = {"replace": self._replace_me, "notifier": self._notifier}
        if self._supervisor is None:
            lent["terminal"] = all(map(os.isatty, (0, 2)))
        else:
            lent |= {"folder": os.path.dirname(os.environ["NOTIFY_SOCKET"]), "keeping": self._keep_certificates}
        return lent

    def _keep_certificates(self) -> Keeping:
        """What keeps certificates from one worker to the next; made when there are some."""
        if self._keeping is None:
            from appd.tls.keeping import Keeping

            self._keeping = Keeping(self._material, os.environ.get("APPD_WORKER", "1") == "1", self._notifier)
            self._material = ()
        return self._keeping

    def _serve(self, reactor: Any) -> int:
        self._reactor = reactor
        reactor.addSystemEventTrigger("before", "shutdown", self.drain_early)
        reactor.addSystemEventTrigger("before", "shutdown", self._lifecycle.stopService)
        reactor.callWhenRunning(self._start)
        if self._early is not None:
            self._early.make_way()
        # From here to `_start` Twisted's own handlers stop the reactor, which drains as well.
        reactor.run()
        return self._exit_code

    def _start(self) -> None:
        # Twisted, OpenSSL and what is hosted stay as well. Protocols in Python leave cycles with every request, and to
        # look through all that for them was a fifth of what twisted.web does.
        gc.freeze()
        self._signals.call_when_told(
            self._reactor.callFromThread, self._drain, self._lifecycle.leave_at_once, self._no_reload
        )
        if self._signals.received is not None:
            self._drain()
            return
        if self._supervisor is None:
            self._go(alone=True)
            self._rest_alone()
            return
        # Ctrl-C of a terminal reaches every process; the supervisor tells this one, which would take both for two.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        from appd.service import ServerService
        from appd.worker.channel import Channel
        from appd.worker.rest import Rest

        rest = Rest(self._lifecycle, self._notifier, self._reactor)
        words: dict[str, Callable[..., None]] = {
            "go": self._go,
            "drain": self._drain_slowly,
            "stop": self._stop,
            "log-level": self._set_level,
            "pause": lambda: self._for_ones(ServerService.stop_accepting),
            "rest": rest.rest,
            "wake": rest.wake,
            "resume": lambda: self._for_ones(ServerService.resume_accepting),
        }
        Channel(self._supervisor, self._reactor, words, self._drain)
        self._lifecycle.beat(self._built.settings.watchdog / 3)
        self._tell_prepared()
        self._watch_wear()

    def _rest_alone(self) -> None:
        if self._built.settings.idle_exit is not None:
            from appd.worker.rest import RestAlone

            RestAlone(self._built.settings.idle_exit, self._lifecycle, self._reactor, self._drain)

    def _for_ones(self, step: Callable[[Any], None]) -> None:
        """Does something with the servers that run in one process only."""
        for server in self._lifecycle.group.servers:
            if server.processes == "one":
                step(server)

    def _tell_prepared(self) -> None:
        """Binds what must be bound, passes it up, and says what the supervisor needs to know of the file."""
        from appd.worker.facts import tell_prepared

        try:
            self._lifecycle.privilegedStartService()
        except AppdError as error:
            self._failed(error)
            return

        def prepared(_all: Any) -> None:
            if not getattr(self, "_ending", False):
                texts = self._loaded.texts() if self._given is None else None
                tell_prepared(self._built.settings, self._built.plan, self._notifier, texts)

        from twisted.internet.defer import gatherResults

        preparing = [one.prepare() for one in self._lifecycle.group.servers]
        gatherResults(preparing, consumeErrors=True).addCallbacks(prepared, self._cannot_prepare)

    def _cannot_prepare(self, failure: Any) -> None:
        error = failure.value.subFailure.value
        self._failed(error if isinstance(error, AppdError) else AppdError(str(error)))

    def _replace_me(self) -> None:
        """A call has not come back and holds its thread for ever; called in some thread."""
        if self._supervisor is not None:
            from twisted.internet import reactor  # it may be early

            said = {"X_APPD_RECYCLE": "a request took longer than request-timeout"}
            call: Any = reactor.callFromThread  # type: ignore[attr-defined]  # the module stands for the reactor
            call(self._notifier.tell, also=said)

    def _watch_wear(self) -> None:
        """Looks whether it is time to be replaced, where the file says when that is."""
        from twisted.internet.task import LoopingCall

        from appd.supervisor.wear import INTERVAL, Wear

        wear = Wear(
            self._built.settings.max_requests,
            self._built.settings.max_memory,
            lambda: self._lifecycle.group.requests,
            lambda reason: self._notifier.tell(also={"X_APPD_RECYCLE": reason}),
            lambda line: self._log.write(line, _WARNING),
        )
        if not wear.pointless:
            looking = LoopingCall(wear.look)
            looking.clock = self._reactor
            looking.start(INTERVAL)

    def _set_level(self, level: str, namespace: str = "") -> None:
        """The level of one namespace, or of all, until the next start."""
        format_, general, levels = log_settings(self._built.settings)
        self._levels = {**levels, **self._levels, namespace: level} if namespace else {}
        self._general = self._general if namespace else level
        self._log.configure(format_, self._general or general, self._levels or levels)

    def _drain_slowly(self) -> None:
        """After a reload: connections may go on for longer than at a stop."""
        self._lifecycle.group.reloading = True
        self._lifecycle.group.drain_timeout = self._built.settings.reload_drain_timeout
        self._drain()

    def _stop(self) -> None:
        """A stop, perhaps of a worker that drains after a reload already."""
        self._lifecycle.group.end_within(self._built.settings.drain_timeout)
        self._drain()

    def _go(self, *, alone: bool = False) -> None:
        try:
            if alone:  # nobody is to be accepted before everything is bound
                self._lifecycle.privilegedStartService()
            self._lifecycle.startService()
        except AppdError as error:
            self._failed(error)
            return
        if self._keeping is not None:
            self._reactor.callLater(0, self._keeping.begin, self._reactor.callFromThread)
        # When what waits has been served: the next start is the one that is to be quick.
        self._reactor.callLater(_KEEP_AFTER, self._keep)

    def _keep(self) -> None:
        self._loaded.keep()
        CodeCache().write(self._imported, self._compiled)

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
        if self._supervisor is None:  # who sends it to all processes means that one
            self._log.write(NO_RELOAD, _WARNING)
