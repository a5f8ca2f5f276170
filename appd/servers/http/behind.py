"""Mounts that are neither applications nor files: `<resource>` and `<proxy>` → ASGI applications of our own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appd import hosting
from appd.config.settings import Settings
from appd.errors import ConfigurationError, Problem
from appd.http.proxy.options import Options
from appd.http.proxy.upstream import Upstream, read_upstream
from appd.http.site import Asgi
from appd.tls.target import Target

if TYPE_CHECKING:
    from appd.interfaces import Host

__all__ = ["read_proxy", "read_resource"]

# A message of any length that fits into memory.
_ANY = 1 << 40


def read_resource(settings: Settings, depth: int) -> Asgi:
    """Imports a resource.

    Args:
        settings: The section `<resource>`.
        depth: How many segments the path of its mount has.

    Raises:
        ConfigurationError: It is none.
    """
    from appd.servers.http.resource import ResourceApplication, is_resource

    dotted = settings.resource
    found: Any = hosting.load(dotted, settings, "resource")
    if settings.factory:
        if not callable(found):
            raise ConfigurationError(
                settings.problem(f"resource {dotted} is not callable: it is {found!r}", "resource")
            )
        found = hosting.call(f"{dotted} failed", found, settings, "resource")
    if not is_resource(found) and callable(getattr(found, "resource", None)):
        # An application of klein's.
        found = hosting.call(f"{dotted}.resource() failed", found.resource, settings, "resource")
    if not is_resource(found):
        message = f"resource {dotted}: {found!r} is neither an IResource nor an application of klein's"
        raise ConfigurationError(settings.problem(message, "resource"))
    # What looks like a WebSocket is a request to a resource.
    return Asgi(dotted, ResourceApplication(found, depth), "off", websocket=False, kind="resource")


def read_proxy(settings: Settings, name: str, host: Host) -> Asgi:
    """Checks where requests go.

    Args:
        settings: The section `<proxy>`.
        name: What the server is called.
        host: What the process lends its servers.

    Raises:
        ConfigurationError: Every problem of it.
    """
    from importlib.util import find_spec

    from appd.http.proxy.forwarding import Proxy

    problems: list[Problem] = []
    if find_spec("aiohttp") is None:
        what = "<proxy> needs aiohttp: apt-get install python3-aiohttp, or pip install appd[proxy]"
        problems.append(settings.problem(what))
    upstreams = [read_upstream(one) for one in settings.upstream]
    if len(set(upstreams)) != len(upstreams):
        problems.append(settings.problem("upstream: the same one twice", "upstream"))
    secure = any(one.scheme == "https" for one in upstreams)
    outgoing: Any = None
    if settings.client_tls is not None and not secure:
        problems.append(settings.client_tls.problem("<client-tls> is for an upstream of https, and there is none"))
    elif secure:
        from appd.tls.outgoing import make_outgoing

        try:
            outgoing, _unseen = make_outgoing(settings.client_tls, lenient=host.log is None, keeping=host.keeping())
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(*problems)
    options = Options(
        settings.connect_timeout,
        settings.response_timeout,
        settings.keep_alive,
        settings.connections,
        settings.preserve_host,
        settings.max_failures,
        settings.failure_pause,
    )
    application = Proxy(name, upstreams, options, host.log, outgoing)  # type: ignore[arg-type]  # None is never asked
    text = ", ".join(map(str, upstreams))
    connects = tuple(_target(one, outgoing) for one in upstreams)
    return Asgi(
        text,
        application,
        "on",
        websocket=find_spec("wsproto") is not None,
        # The upstream says how long a message may be, and whether its client is still there.
        message_size=_ANY,
        ping_interval=0.0,
        kind="proxy",
        connects=connects,
    )


def _target(upstream: Upstream, outgoing: Any) -> Target:
    """What `appd check --connect` connects to."""
    return Target(upstream.host, upstream.port, upstream.path, outgoing if upstream.scheme == "https" else None)
