"""A section `<http>` → checked records: what the engine gets, whichever it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from appd import hosting
from appd.config.settings import Settings
from appd.errors import ConfigurationError, Problem
from appd.http.routing import Route, segments_of

__all__ = ["Mount", "Site", "Static", "Wsgi", "of_application", "read_site"]


class Wsgi(NamedTuple):
    """A WSGI application.

    Attributes:
        dotted: What people call it.
        application: The callable.
    """

    dotted: str
    application: Callable[..., Any]

    @property
    def text(self) -> str:
        """For `appd explain`."""
        return f"wsgi {self.dotted}"


class Static(NamedTuple):
    """A folder of files.

    Attributes:
        root: The folder.
        index_file: The file that stands for a folder.
    """

    root: str
    index_file: str = "index.html"

    @property
    def text(self) -> str:
        """For `appd explain`."""
        return "static"


class Mount(NamedTuple):
    """What answers below a path.

    Attributes:
        route: The path and the hosts.
        serves: What answers.
        headers: Fields of every response.
        access_log: `off`, `journal` or `combined`.
    """

    route: Route
    serves: Wsgi | Static
    headers: tuple[tuple[bytes, bytes], ...] = ()
    access_log: str = "off"

    @property
    def text(self) -> str:
        """For `appd explain`."""
        hosts = ",".join(sorted(self.route.hosts))
        return f"{hosts}{self.route.text} {self.serves.text}"


class Site(NamedTuple):
    """What one server serves.

    Attributes:
        mounts: The mounts in the order of the file.
        access_log: For requests that no mount answers.
        sample: One of how many requests is logged.
    """

    mounts: tuple[Mount, ...]
    access_log: str = "off"
    sample: int = 1


def of_application(application: Callable[..., Any], dotted: str) -> Site:
    """One WSGI application that answers everything."""
    return Site((Mount(Route(()), Wsgi(dotted, application)),))


def read_site(settings: Settings) -> Site:
    """Checks a section and imports its applications.

    Args:
        settings: The section `<http>`.

    Raises:
        ConfigurationError: Every problem of the section.
    """
    problems: list[Problem] = []
    if not settings.mounts:
        problems.append(settings.problem("<http> serves nothing: add a <wsgi> or a <static>"))
    routes = [_route(one) for one in settings.mounts]
    problems += _clashes(settings.mounts, routes)
    mounts: list[Mount] = []
    for one, route in zip(settings.mounts, routes, strict=True):
        try:
            mounts.append(_mount(one, route, settings.access_log))
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(*problems)
    return Site(tuple(mounts), settings.access_log, settings.access_log_sample)


def _route(settings: Settings) -> Route:
    path = settings.path
    segments = segments_of(path.encode()) if path != "/" else ()
    assert segments is not None, "the data type of the key has looked"
    return Route(segments, frozenset(settings.host))


def _clashes(mounts: list[Settings], routes: list[Route]) -> list[Problem]:
    problems: list[Problem] = []
    for place, (one, route) in enumerate(zip(mounts, routes, strict=True)):
        earlier = next((mounts[other] for other in range(place) if routes[other].clashes(route)), None)
        if earlier is not None:
            hosts = f" for {', '.join(sorted(route.hosts))}" if route.hosts else ""
            first = earlier.where("path")
            problems.append(one.problem(f"a second mount at {route.text}{hosts}; the first is at {first}", "path"))
    return problems


def _mount(settings: Settings, route: Route, access_log: str) -> Mount:
    serves = _wsgi(settings) if settings.section_type == "http.wsgi" else _static(settings)
    headers = tuple((name.encode(), value.encode()) for name, value in settings.header)
    return Mount(route, serves, headers, settings.access_log or access_log)


def _wsgi(settings: Settings) -> Wsgi:
    dotted = settings.application
    application = hosting.load(dotted, settings, "application")
    if not callable(application):
        raise ConfigurationError(
            settings.problem(f"application {dotted} is not callable: it is {application!r}", "application")
        )
    return Wsgi(dotted, application)


def _static(settings: Settings) -> Static:
    root = settings.root
    if not os.path.isdir(root):
        what = "it is no folder" if os.path.exists(root) else "there is no such folder"
        raise ConfigurationError(settings.problem(f"root {root}: {what}", "root"))
    if not os.access(root, os.R_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise ConfigurationError(settings.problem(f"root {root}: uid {os.geteuid()} may not read it", "root"))
    return Static(root, settings.index)
