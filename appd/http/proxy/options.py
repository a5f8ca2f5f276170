"""How a proxy treats its upstreams."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Options"]


class Options(NamedTuple):
    """How a proxy treats its upstreams.

    Attributes:
        connect_timeout: How long a connection may take, TLS included, in seconds.
        response_timeout: How long the head of a response may take from the end of the request on, and how long each
            further part of it, in seconds.
        keep_alive: For how long an idle connection is kept, in seconds; 0 keeps none.
        connections: How many connections a process has to each upstream; 0 is any number.
        preserve_host: Whether the upstream gets the Host that the client asked for, or its own.
        most_failures: After how many failures in a row an upstream is passed over; 0 for never.
        pause: For how long, in seconds.
    """

    connect_timeout: float = 5.0
    response_timeout: float = 60.0
    keep_alive: float = 15.0
    connections: int = 0
    preserve_host: bool = True
    most_failures: int = 1
    pause: float = 10.0
