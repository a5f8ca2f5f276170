"""A section `<http>` → checked records: what the engine gets, whichever it is."""

from __future__ import annotations

from appd import hosting
from appd.access import folder_refusal
from appd.config.settings import Settings
from appd.errors import ConfigurationError, Problem
from appd.http.core.limits import Limits
from appd.http.routing import Route, Router, segments_of
from appd.http.site import Asgi, Mount, Redirect, Site, Static, Wsgi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from appd.http.basic import Guard
    from appd.lending import Host

__all__ = ["LIMITS", "read_limits", "read_site"]

# The keys of <limits> that <http> has a use for: all of them.
LIMITS = frozenset(name.replace("_", "-") for name in Limits._fields)


def read_site(settings: Settings, name: str, host: Host, guard_of: Callable[[Settings], Guard] | None = None) -> Site:
    """Checks a section and imports its applications.

    Args:
        settings: The section `<http>`.
        name: What the server is called.
        host: What the process lends it.
        guard_of: Makes the guard of a mount that has a key `auth`; raises ConfigurationError.

    Raises:
        ConfigurationError: Every problem of the section.
    """
    problems: list[Problem] = []
    if not settings.mounts:
        problems.append(
            settings.problem("<http> serves nothing: add a <wsgi>, <asgi>, <resource>, <proxy>, <static> or <redirect>")
        )
    if settings.proxy_protocol and not settings.trusted:
        problems.append(
            settings.problem(
                "proxy-protocol on needs trusted: the networks of the proxies that say it", "proxy_protocol"
            )
        )
    if settings.http2 and not _is_there("hpack"):
        message = "http2 on needs hpack: apt-get install python3-hpack, or pip install 'appd[http2]'"
        problems.append(settings.problem(message, "http2"))
    routes = [_route(one) for one in settings.mounts]
    problems += _clashes(settings.mounts, routes)
    problems += _circles(settings.mounts, routes)
    mounts: list[Mount] = []
    for one, route in zip(settings.mounts, routes, strict=True):
        try:
            serves = _reader(one, route, name, host)
            mounts.append(_mount(one, route, settings.access_log, serves, guard_of))
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(*problems)
    return Site(
        tuple(mounts),
        settings.access_log,
        settings.access_log_sample,
        read_limits(settings.limits),
        tuple(settings.trusted),
        settings.proxy_protocol,
        settings.debug,
        settings.http2,
    )


def read_limits(settings: Settings | None) -> Limits:
    """The limits of a section `<limits>`; None for those of a server without one."""
    return Limits(*(getattr(settings, name) for name in Limits._fields)) if settings is not None else Limits()


def _route(settings: Settings) -> Route:
    path = settings.path
    segments = segments_of(path) if path != "/" else ()
    assert segments is not None, "the data type of the key has looked"
    return Route(segments, frozenset(settings.host))


def _clashes(mounts: Sequence[Settings], routes: Sequence[Route]) -> list[Problem]:
    problems: list[Problem] = []
    for place, (one, route) in enumerate(zip(mounts, routes, strict=True)):
        earlier = next((mounts[other] for other in range(place) if routes[other].clashes(route)), None)
        if earlier is not None:
            hosts = f" for {', '.join(sorted(route.hosts))}" if route.hosts else ""
            first = earlier.where("path")
            problems.append(one.problem(f"a second mount at {route.text}{hosts}; the first is at {first}", "path"))
    return problems


def _circles(mounts: Sequence[Settings], routes: Sequence[Route]) -> list[Problem]:
    """Redirects to a path that they answer themselves."""
    router = Router(routes)
    problems: list[Problem] = []
    for place, (one, route) in enumerate(zip(mounts, routes, strict=True)):
        if one.section_type != "http.redirect" or not one.to.startswith("/"):
            continue
        segments = segments_of(one.to.partition("?")[0].partition("#")[0])
        hosts = route.hosts or {""}
        if segments is not None and any(router.find(host, segments) == place for host in hosts):
            problems.append(one.problem(f"to {one.to}: this redirect itself answers there, which is a circle", "to"))
    return problems


def _reader(settings: Settings, route: Route, name: str, host: Host) -> Callable[[], Any]:
    """What reads the section of a mount."""
    kind = settings.section_type
    if kind in ("http.proxy", "http.resource"):
        # Late: they bring twisted.web and more.
        from appd.servers.http.behind import read_proxy, read_resource

        if kind == "http.proxy":
            return lambda: read_proxy(settings, name, host)
        return lambda: read_resource(settings, len(route.path))
    return lambda: _READERS[kind](settings)


def _mount(
    settings: Settings,
    route: Route,
    access_log: str,
    read: Callable[[], Any],
    guard_of: Callable[[Settings], Guard] | None,
) -> Mount:
    problems: list[Problem] = []
    guard: Guard | None = None
    serves: Any = None
    if settings.auth is not None:
        if guard_of is None or settings.section_type not in _GUARDED:
            # Whoever adds a kind of mount and forgets the guard opens nothing.
            kind = settings.section_type.rpartition(".")[2]
            problems.append(settings.problem(f"auth is not available on <{kind}>", "auth"))
        else:
            try:
                guard = guard_of(settings)
            except ConfigurationError as error:
                problems += error.problems
    try:
        serves = read()
    except ConfigurationError as error:
        problems += error.problems
    if problems:
        raise ConfigurationError(*problems)
    if guard is not None and settings.section_type == "http.resource":
        serves = serves._replace(application=serves.application.behind(guard))
    elif guard is not None and isinstance(serves, Asgi):
        from appd.http.loop.guarded import GuardedApplication

        serves = serves._replace(application=GuardedApplication(serves.application, guard))
    return Mount(route, serves, tuple(settings.header), settings.access_log or access_log, guard)


def _wsgi(settings: Settings) -> Wsgi:
    return Wsgi(settings.application, _application(settings), settings.threads)


def _asgi(settings: Settings) -> Asgi:
    here = _is_there("wsproto")
    if settings.websocket and not here:
        message = "websocket on needs wsproto: apt-get install python3-wsproto, or pip install 'appd[websocket]'"
        raise ConfigurationError(settings.problem(message, "websocket"))
    return Asgi(
        settings.application,
        _application(settings),
        settings.lifespan,
        here if settings.websocket is None else settings.websocket,
        settings.message_size,
        settings.ping_interval,
        settings.ping_timeout,
        settings.compression,
    )


def _is_there(module: str) -> bool:
    """Whether a module of an extra is installed."""
    # Late: most starts do not ask.
    from importlib.util import find_spec

    return find_spec(module) is not None


def _application(settings: Settings) -> Callable[..., Any]:
    """Imports an application, and makes it where the file says that a factory does."""
    dotted = settings.application
    application = hosting.load(dotted, settings, "application")
    if callable(application) and settings.factory:
        made_by = application
        application = hosting.call(f"{dotted} failed", made_by, settings, "application")
        if not callable(application):
            raise ConfigurationError(
                settings.problem(f"application {dotted} made {application!r}, which is not callable", "application")
            )
    if not callable(application):
        raise ConfigurationError(
            settings.problem(f"application {dotted} is not callable: it is {application!r}", "application")
        )
    return application  # type: ignore[no-any-return]  # looked at above


def _static(settings: Settings) -> Static:
    root = settings.root
    problems: list[Problem] = []
    refusal = folder_refusal(root)
    if refusal:
        problems.append(settings.problem(f"root {root}: {refusal}", "root"))
    if settings.immutable and not settings.max_age:
        problems.append(settings.problem("immutable on needs max-age: for how long (365d is usual)", "immutable"))
    if problems:
        raise ConfigurationError(*problems)
    return Static(
        root,
        settings.index,
        settings.listing,
        settings.hidden,
        settings.symlinks,
        settings.precompressed,
        None if settings.max_age is None else int(settings.max_age),
        settings.immutable,
        settings.charset,
    )


def _redirect(settings: Settings) -> Redirect:
    if any(one in settings.to for one in "?#") and not settings.exact:
        raise ConfigurationError(
            settings.problem(
                f"to {settings.to}: a query or fragment needs `exact on`, since nothing goes behind it", "to"
            )
        )
    return Redirect(settings.to, int(settings.status), settings.exact)


# The kinds of mount that a guard stands before, in every engine that serves them.
_GUARDED = frozenset({"http.asgi", "http.proxy", "http.redirect", "http.resource", "http.static", "http.wsgi"})
_READERS: dict[str, Callable[[Settings], Any]] = {
    "http.asgi": _asgi,
    "http.redirect": _redirect,
    "http.static": _static,
    "http.wsgi": _wsgi,
}
