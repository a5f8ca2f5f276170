"""How much of everything a server takes.

A limit that the core enforces has its status beside it; times, rates and numbers of connections are the driver's.
"""

from __future__ import annotations

from appd.startup.records import NamedTuple

__all__ = ["Limits"]


class Limits(NamedTuple):
    """The limits of one server. Sizes are bytes, times are seconds; 0 is no limit where it says so.

    Attributes:
        request_line: The longest request line without its end (414).
        header_count: The most header fields (431).
        header_size: The most bytes of all header field lines together, and of all that a chunked body has beside its
            data (431, in a body 400).
        body_size: The longest request body (413); 0 is no limit.
        header_timeout: From the first byte of a head to its last (408), however busily it trickles.
        idle_timeout: Without a byte between two requests; the connection is closed without a word.
        body_rate: A body must arrive at this many bytes a second at least (408); 0 is no limit.
        handshake_timeout: For the handshake of TLS; then the connection is closed.
        write_timeout: Without the client taking a byte of the response.
        request_timeout: For a call with its response (504). One of the lane counts from when a thread begins it, behind
            its body and the queue; past it the stacks are logged and the worker is replaced. One of the loop counts
            from the head, and is cancelled. 0 is no limit.
        connections: Open at one time; more wait in the listen queue.
        connections_per_peer: Open at one time from one address (503); 0 is no limit.
        queue: Requests that wait for a thread; beyond it 503.
        requests_per_connection: After so many the connection is closed; 0 is no limit.
        upload_memory: A request body above this is kept in a temporary file.
        response_spool: So much of a response is kept for a slow reader before its producer has to wait.
    """

    request_line: int = 8190  # Apache LimitRequestLine 8190; RFC 9112, 3 recommends at least 8000
    header_count: int = 100  # Apache LimitRequestFields 100, gunicorn 100
    header_size: int = 32768  # nginx large_client_header_buffers 4 x 8k
    body_size: int = 1 << 30  # Apache LimitRequestBody 1 GiB since 2.4.54; nginx's 1m surprises everybody once
    header_timeout: float = 20.0  # Apache mod_reqtimeout header=20
    idle_timeout: float = 75.0  # nginx keepalive_timeout 75s
    body_rate: int = 240  # Kestrel MinRequestBodyDataRate 240 bytes/s, after a grace of 5 s
    handshake_timeout: float = 10.0  # nginx gives 60 s, HAProxy and Go's servers are told 10
    write_timeout: float = 60.0  # nginx send_timeout 60s
    request_timeout: float = 0.0  # nobody's default but gunicorn's 30 s, which kills the worker under long downloads
    connections: int = 10000  # Caddy and Go have none; what a worker's descriptors must suffice for
    connections_per_peer: int = 0  # nginx limit_conn is off: many people come from behind one address
    queue: int = 1000  # gunicorn worker_connections 1000
    requests_per_connection: int = 0  # nginx keepalive_requests 1000 guards against growth that we do not have
    upload_memory: int = 100_000  # zope.app.twisted's prebuffering
    response_spool: int = 1 << 20  # waitress outbuf_overflow 1 MiB
