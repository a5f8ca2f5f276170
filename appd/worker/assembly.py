"""Settings → servers that are made and not started.

`appd run`, the twistd plugin, `appd check` and `appd explain` put the servers of a file together here; each goes on as
far as it wants.
"""

from __future__ import annotations

import os

from appd.address import Address
from appd.config import Settings
from appd.errors import ConfigurationError, Problem
from appd.lending import Section
from appd.startup.bare import partial
from appd.startup.records import NamedTuple
from appd.systemd.activation import Inheritance
from appd.systemd.notify import Notifier

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from appd.journal import Log
    from appd.lending import Host
    from appd.worker.lifecycle import Lifecycle
    from appd.worker.plan import Plan, PlannedServer

__all__ = ["Built", "Ground", "build", "compose", "forerun", "lay_ground", "tell_warnings"]

_WARNING = 4


class Ground(NamedTuple):
    """What servers are made of: known without Twisted, as far as the file and hosted code do without it.

    Attributes:
        plan: Which sockets each has.
        db: The application object, None without one.
        host: What the process lends them; it has no reactor and no threads yet.
    """

    plan: Plan
    db: Any
    host: Host


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
    log: Log | None = None,
    shared: Mapping[str, Any] | None = None,
    ground: Ground | None = None,
) -> Built:
    """Makes the servers of a file, hosted code imported; nothing listens yet and nothing has been bound.

    Args:
        settings: The settings of the file.
        inheritance: What systemd passed; None when that is not known (`appd check`).
        binds: Name → addresses of `--bind`.
        reactor: The reactor.
        log: The log of the process; None when nothing will be served.
        shared: What the process lends its servers beside that: `replace`, called in some thread when it had better be
            replaced by another process; its `notifier`; and, where there is a supervisor, `folder`, which belongs to
            all its workers and to nobody else, and `keeping`, called for what keeps certificates for the worker after
            this one (`appd.tls.keeping`); where there is none, whether a person sits before it: `terminal`.
        ground: What `lay_ground` made of all that already.

    Raises:
        ConfigurationError: Every problem at once.
    """
    from appd.systemd.confinement import may_connect
    from appd.worker.plan import claims_later, unclaimed
    from appd.worker.pool import ApplicationThreads

    plan, db, host = ground or lay_ground(settings, inheritance, binds, log, shared)
    threads = ApplicationThreads(settings.threads)
    host = host._replace(reactor=reactor, threads=threads)
    problems: list[Problem] = []
    if settings.auths:
        from appd.auth.sections import prepare

        problems, unseen = prepare(host)
        plan = plan._replace(warnings=[*plan.warnings, *unseen])
    # Where it does not run, what the process may do says nothing.
    confined = inheritance is not None and not may_connect()
    services = _services(plan, db, host, confined, problems)
    plan = plan._replace(warnings=[*plan.warnings, *_unseen(services)])
    if inheritance is not None and any(map(claims_later, plan.servers)):
        warnings: list[Problem] = []
        unclaimed(settings, inheritance, problems, warnings)
        if problems:
            raise ConfigurationError(*problems)
        plan = plan._replace(warnings=[*plan.warnings, *warnings])
    return Built(settings, plan, services, threads)


def lay_ground(
    settings: Settings,
    inheritance: Inheritance | None,
    binds: Mapping[str, Sequence[Address]],
    log: Log | None = None,
    shared: Mapping[str, Any] | None = None,
) -> Ground:
    """Finds out everything that servers are made of; the application object is made.

    Args:
        settings: As for `build`, like the others.
        inheritance: See there.
        binds: See there.
        log: See there.
        shared: See there.

    Raises:
        ConfigurationError: Every problem at once.
    """
    from appd import hosting
    from appd.lending import Host
    from appd.registry import Registry
    from appd.worker.plan import make_plan

    hosting.apply_surroundings(settings)
    plan = make_plan(settings, Registry(), inheritance, binds, (shared or {}).get("keeping"))
    db = None
    dotted = settings.application_object
    if dotted is not None:
        made_by = hosting.load(dotted, settings, "application_object")
        if not callable(made_by):
            raise ConfigurationError(
                settings.problem(f"{dotted} is not callable: it is {made_by!r}", "application_object")
            )
        db = hosting.call(f"{dotted} failed", made_by, settings, "application_object")
    lent = {"replace": lambda: None, "inheritance": inheritance, "named": plan.named, **(shared or {})}
    return Ground(plan, db, Host(None, None, settings, log, lent))


def forerun(ground: Ground) -> list[Any]:
    """Has every server type make what may serve before Twisted is imported; each must have a `forerun`.

    Raises:
        ConfigurationError: Every problem at once.
    """
    problems: list[Problem] = []
    made: list[Any] = []
    for one in ground.plan.servers:
        server_type: Any = one.server_type
        section = Section(one.settings, one.listeners, ground.host, one.tls)
        try:
            made.append(_made(one, partial(server_type.forerun, one.name, section)))
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(*problems)
    return made


def _made(one: PlannedServer, make: Callable[[], Any]) -> Any:
    from appd import hosting

    return hosting.call(f"server {one.name!r} cannot be made", make, one.settings, "")


def _services(plan: Plan, db: Any, host: Host, confined: bool, problems: list[Problem]) -> dict[str, Any]:
    from appd.systemd.confinement import is_outgoing, mend
    from appd.worker.plan import unserved

    services: dict[str, Any] = {}
    for one in plan.servers:
        section = Section(one.settings, one.listeners, host, one.tls)
        try:
            service = _made(one, partial(one.server_type.create, one.name, db, section=section))
        except ConfigurationError as error:
            problems += error.problems
            continue
        if one.tls is not None:
            found = one.tls.problems()
            problems += [wrong._replace(message=f"server {one.name!r}: {wrong.message}") for wrong in found]
        problems += unserved(one, service, host.settings.idle_exit is not None)
        _lend_sockets(one, host)
        if host.settings.workers > 1 and getattr(service, "processes", "one") == "all":
            problems += _bound_by_each(one)
        if confined and is_outgoing(one.server_type, service):
            problems.append(one.settings.problem(f"server {one.name!r}: {mend('the unit')}", ""))
        if hasattr(service, "connections") and host.many_serve(getattr(service, "processes", "one")):
            service.connections.shared = True
        services[one.name] = service
    if problems:
        raise ConfigurationError(*problems)
    return services


def _unseen(services: Mapping[str, Any]) -> Iterable[Problem]:
    """What could not be looked at of that by which servers connect somewhere."""
    targets = (target for service in services.values() for target in getattr(service, "connects", ()))
    return dict.fromkeys(problem for target in targets if target.tls is not None for problem in target.tls.unseen)


def _bound_by_each(planned: PlannedServer) -> list[Problem]:
    """What keeps a server from being served by several workers: addresses that Twisted would bind in each."""
    from appd.worker.plan import every_address

    return [
        planned.settings.problem(
            f"server {planned.name!r}: Twisted binds {address}, and a second worker could not: "
            "use workers 1, or an address that appd binds or systemd passes",
            attribute,
            number,
        )
        for attribute, number, address in every_address(planned.settings)
        if address is not None and address.kind == "twisted"
    ]


def _lend_sockets(planned: PlannedServer, host: Host) -> None:
    """Has the supervisor keep what Twisted binds for the addresses of a server."""
    described = [one for one in planned.listeners if one.address is not None and one.address.kind == "twisted"]
    if described and host.shared.get("folder"):
        from appd.listening.held import Held

        shared = host.shared
        for one in described:
            one.held = Held(  # type: ignore[attr-defined]  # those of such an address
                planned.name, shared["inheritance"], {}, shared["notifier"], planned.settings.place
            )


def tell_warnings(log: Log, built: Built, supervised: bool) -> None:
    """Logs what an administrator should know.

    Args:
        log: The log.
        built: The servers.
        supervised: Whether there is a supervisor.
    """
    for warning in built.plan.warnings:
        log.write(str(warning), _WARNING)
    keys = [key for key in ("max_requests", "max_memory") if built.settings.values[key] is not None]
    if keys and not supervised:
        names = " and ".join(key.replace("_", "-") for key in keys)
        line = f"{names}: without effect, as there is no supervisor to start a fresh worker (`appd run`, not --single)"
        log.write(str(built.settings.problem(line, keys[0])), _WARNING)


def compose(built: Built, notifier: Notifier, reactor: Any, **callbacks: Any) -> Lifecycle:
    """Puts the servers together as the one service of the worker.

    Args:
        built: The servers.
        notifier: What tells the service manager.
        reactor: The reactor.
        callbacks: As for `appd.worker.lifecycle.Lifecycle`.
    """
    from appd.worker.group import ServerGroup
    from appd.worker.lifecycle import Lifecycle

    number = int(os.environ.get("APPD_WORKER", "1"))
    services = [one for one in built.services.values() if number == 1 or getattr(one, "processes", "one") == "all"]
    group = ServerGroup(services, reactor, built.settings.drain_timeout)
    lifecycle = Lifecycle(group, built.threads, notifier, reactor, **callbacks)
    with_tls = [one.tls for one in built.plan.servers if one.tls is not None and built.services[one.name] in services]
    if with_tls:
        from appd.tls.renewal import Renewal

        Renewal(with_tls, reactor, lifecycle.tell_certificates, speaks=number == 1).setServiceParent(lifecycle)
    return lifecycle
