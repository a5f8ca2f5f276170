"""What one server serves, as plain records: what a configuration becomes, and what every engine begins with."""

from __future__ import annotations

from appd.http.core.limits import Limits
from appd.http.routing import Route
from appd.startup.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from appd.http.basic import Guard

__all__ = ["Asgi", "Mount", "Redirect", "Site", "Static", "Wsgi", "of_application"]


class Wsgi(NamedTuple):
    """A WSGI application.

    Attributes:
        dotted: What people call it.
        application: The callable.
        threads: How many of its calls run at once, within the threads of the process; None for all of these.
    """

    dotted: str
    application: Callable[..., Any]
    threads: int | None = None

    @property
    def text(self) -> str:
        """For `appd explain`."""
        return f"wsgi {self.dotted}"


class Asgi(NamedTuple):
    """An ASGI application.

    Attributes:
        dotted: What people call it.
        application: The callable; or what of ours answers by itself: it has a `begin`, see `AsgiMounted`.
        lifespan: `auto`, `on` or `off`: whether it is told when it begins and ends.
        websocket: Whether it may be asked for WebSockets.
        message_size: The longest message of a WebSocket, in bytes.
        ping_interval: How often a client is asked whether it is there, in seconds; 0 for never.
        ping_timeout: How long it may take to answer, in seconds; 0 for ever.
        compression: Whether messages are compressed for clients that offer it.
        kind: What people call its mount: `asgi`, or what of ours is one.
        connects: What it opens connections to; of `appd.tls.target.Target`.
    """

    dotted: str
    application: Any
    lifespan: str = "auto"
    websocket: bool = True
    message_size: int = 16 << 20
    ping_interval: float = 20.0
    ping_timeout: float = 20.0
    compression: bool = True
    kind: str = "asgi"
    connects: tuple[Any, ...] = ()

    @property
    def text(self) -> str:
        """For `appd explain`."""
        return f"{self.kind} {self.dotted}"


class Static(NamedTuple):
    """A folder of files.

    Attributes:
        root: The folder.
        index_file: The file that stands for a folder.
        listing: Whether a folder without that file is answered with a list of what is in it.
        hidden: Whether files and folders whose name begins with a dot are served.
        links_out: Whether symbolic links may lead out of the folder.
        precompressed: Whether a compressed copy beside a file is sent to clients that take it.
        max_age: For how many seconds caches may keep what was served; None says nothing.
        immutable: Whether what was served never changes as long as it is kept (RFC 8246).
        charset: The charset of text; "" says none.
    """

    root: str
    index_file: str = "index.html"
    listing: bool = False
    hidden: bool = False
    links_out: bool = False
    precompressed: bool = True
    max_age: int | None = None
    immutable: bool = False
    charset: str = "utf-8"

    @property
    def text(self) -> str:
        """For `appd explain`."""
        return "static"


class Redirect(NamedTuple):
    """Another place that clients are sent to.

    Attributes:
        to: A URL with or without scheme and host, percent-encoded.
        status: 301, 302, 303, 307 or 308.
        exact: Whether that is the place for every path, instead of the place that the rest of a path is appended to.
    """

    to: str
    status: int = 308
    exact: bool = False

    @property
    def text(self) -> str:
        """For `appd explain`."""
        return f"redirect {self.status} {self.to}"


class Mount(NamedTuple):
    """What answers below a path.

    Attributes:
        route: The path and the hosts.
        serves: What answers.
        headers: Fields of every response, in place of what the mount itself says.
        access_log: `off`, `journal` or `combined`.
        guard: What asks who it is; None lets everybody in.
    """

    route: Route
    serves: Wsgi | Asgi | Static | Redirect
    headers: tuple[tuple[str, str], ...] = ()
    access_log: str = "off"
    guard: Guard | None = None

    @property
    def where(self) -> str:
        """Its hosts and path."""
        return f"{','.join(sorted(self.route.hosts))}{self.route.text}"

    @property
    def text(self) -> str:
        """For `appd explain`."""
        return f"{self.where} {self.serves.text}"


class Site(NamedTuple):
    """What one server serves, and to whom.

    Attributes:
        mounts: The mounts in the order of the file.
        access_log: For requests that no mount answers.
        sample: One of how many requests is logged.
        limits: How much it takes.
        trusted: Networks, as `ipaddress` reads them, and `unix` for peers on UNIX sockets, that are believed what they
            say of their clients.
        proxy_protocol: Whether each connection from a trusted peer begins with a PROXY header, and no other is taken.
        debug: Whether an application error is kept as a report.
        http2: Whether HTTP/2 is spoken, too.
    """

    mounts: tuple[Mount, ...]
    access_log: str = "off"
    sample: int = 1
    limits: Limits = Limits()
    trusted: tuple[str, ...] = ()
    proxy_protocol: bool = False
    debug: bool = False
    http2: bool = False


def of_application(application: Callable[..., Any], dotted: str) -> Site:
    """One WSGI application that answers everything."""
    return Site((Mount(Route(()), Wsgi(dotted, application)),))
