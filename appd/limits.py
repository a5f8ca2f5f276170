"""How much a server takes of whom: the keys of `<limits>` that every type of stream server has a use for.

HTTP has more of them and an engine of its own that keeps them (`appd.http.core.limits`). These are kept by the ports,
below whatever protocol is served, so that a type only says which it takes and what is usual:

* connections: accepting pauses while so many are open, and who connects waits in the queue of listen(2);
* connections-per-peer: one too many from an address is closed at once;
* idle-timeout: a connection on which nothing has come or gone for so long is ended;
* handshake-timeout: TLS must stand by then;
* login-timeout: so must a login, in protocols that have one. The protocol calls `logged_in` when it is through with it.
"""

from __future__ import annotations

from appd.errors import Problem
from appd.startup.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from appd.config.settings import Settings

__all__ = ["UNLIMITED", "StreamLimits", "logged_in", "read_stream_limits", "unused_limits"]


class StreamLimits(NamedTuple):
    """The limits of one server; times are seconds, and 0 is no limit.

    Attributes:
        connections: How many may be open at one time.
        connections_per_peer: The same from one address. Peers of UNIX sockets have none and are not counted.
        idle_timeout: How long nothing may come or go on a connection.
        login_timeout: How long a client may take to log in; 0 also where the protocol has no login.
        handshake_timeout: How long a client may take for the handshake of TLS.
    """

    # As for HTTP; HAProxy's maxconn and nginx's worker_connections are of the same order.
    connections: int = 10000
    connections_per_peer: int = 0
    # Some protocols are silent for days, so that only a type can say what is usual.
    idle_timeout: float = 0.0
    login_timeout: float = 0.0
    # nginx gives 60 s, HAProxy and Go's servers are told 10.
    handshake_timeout: float = 10.0

    @property
    def keys(self) -> frozenset[str]:
        """The keys that a server type has whose usual limits these are: those of logins only with a login."""
        return frozenset(one.replace("_", "-") for one in self._fields if one != "login_timeout" or self.login_timeout)


UNLIMITED = StreamLimits(connections=0)
"""For servers whose engine keeps limits of its own."""


def read_stream_limits(settings: Settings | None, usual: StreamLimits) -> StreamLimits:
    """The limits of a section `<limits>`.

    Args:
        settings: The section; None without one.
        usual: What holds where nothing was written: the defaults of the schema are those of HTTP.
    """
    if settings is None:
        return usual
    written = {one: getattr(settings, one) for one in StreamLimits._fields if one in settings.places}
    return usual._replace(**written)


def unused_limits(settings: Settings, name: str, what: str, used: frozenset[str]) -> list[Problem]:
    """What a section `<limits>` says that its server has no use for.

    Args:
        settings: The section of the server.
        name: The name of the server.
        what: What it is, for people: `<echo>`.
        used: The keys that its type takes.
    """
    limits: Settings | None = settings.values.get("limits")
    if limits is None:
        return []
    written = limits.places
    takes = ", ".join(sorted(used)) or "none"
    return [
        limits.problem(f"server {name!r}: {key} is no limit of {what}, which has {takes}", attribute)
        for attribute in written
        if (key := attribute.replace("_", "-")) not in used
    ]


def logged_in(transport: Any) -> None:
    """Says that a client is through with its login, so that login-timeout does not end the connection.

    Args:
        transport: The transport of the protocol; ours may lie below others (TLS, SSH). One that is not ours, as in
            tests, has no deadline.
    """
    while transport is not None:
        told = getattr(transport, "login_done", None)
        if told is not None:
            told()
            return
        transport = getattr(transport, "transport", None)
