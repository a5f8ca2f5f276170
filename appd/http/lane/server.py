"""One server: its listening sockets, its connections, and which mount answers a request."""

from __future__ import annotations

import errno
import os
import time

from appd.http.core.date import Origin
from appd.http.core.errors import Incomplete, Refused
from appd.http.core.target import host_name
from appd.http.lane.client import DRAIN_LINGER, Client
from appd.http.lane.crowd import Crowd, Peers
from appd.http.lane.door import Door
from appd.http.lane.leaving import Leaver
from appd.http.lane.mounted import serve
from appd.http.lane.sending import Gone
from appd.http.log.accesslog import AccessLog
from appd.http.log.entrylog import EntryLog, tell_failure
from appd.http.routing import Finder
from appd.http.site import Asgi
from appd.journal import WARNING
from appd.pending import Pending
from appd.startup.bare import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO, Any

    from appd.http.core.connection import Connection
    from appd.http.core.forwarded import Trusted
    from appd.http.core.proxyprotocol import Proxied
    from appd.http.core.request import Request
    from appd.http.lane.crew import Worker
    from appd.http.lane.lane import Lane
    from appd.http.lane.tlsclient import Security
    from appd.http.routing import Found
    from appd.http.site import Site
    from appd.seldom import Seldom

__all__ = ["Server"]


class Server:
    """A server.

    Args:
        name: What it is called.
        site: What it serves.
        lane: What polls, reads and answers.
        log: The log.
        changed: Called, in some thread, when a connection has begun or ended.
        report: What keeps a report of an error and says where; None to keep none.
        driver: What serves the mounts that are not the lane's; None where there are none.

    Attributes:
        changed: As given; whoever has the server may set it.
        queue, idle_timeout, request_timeout: Of the limits; a named tuple takes longer to ask.
        forgets: Whether nothing of a request matters to the next one on its connection.
        clients: The open connections.
        total: How many there have been.
        requests: How many requests.
        spare: Protocols on which nothing has been said, for clients that are asked for something next.
        draining: Whether connections are to end.
        ended: Whether a call that has waited is cancelled, as nothing is waited for any more.
        reloading: Whether that is because of a reload, so that what streams may go on for longer.
        driver: What serves those mounts, and connections of HTTP/2.
        full: Whether so many connections are open that no more is to be accepted.
        http2: Whether HTTP/2 is spoken.
        tunnels: Whether WebSockets are taken within HTTP/2.
        elsewhere: Whether there are mounts that the lane does not serve.
    """

    # More than thirty attributes, beyond which CPython takes longer to find one without these.
    __slots__ = (
        "_finder",
        "_mounted",
        "_peers",
        "_read_claims",
        "_seldom",
        "_shares",
        "access",
        "access_log",
        "changed",
        "clients",
        "doors",
        "draining",
        "driver",
        "elsewhere",
        "ended",
        "forgets",
        "full",
        "http2",
        "idle_timeout",
        "lane",
        "limits",
        "log",
        "name",
        "origin",
        "proxy_protocol",
        "queue",
        "reloading",
        "report",
        "request_timeout",
        "requests",
        "spare",
        "total",
        "trusted",
        "tunnels",
    )

    def __init__(
        self,
        name: str,
        site: Site,
        lane: Lane,
        log: EntryLog,
        changed: Callable[[], None] = lambda: None,
        report: Callable[[str, BaseException, Any], str] | None = None,
        driver: Any = None,
    ) -> None:
        self.name = name
        self.lane = lane
        self.log = log
        self.limits = limits = site.limits
        self.queue, self.idle_timeout, self.request_timeout = limits.queue, limits.idle_timeout, limits.request_timeout
        # HTTP/2 begins a connection, and follows nothing.
        self.forgets = not limits.requests_per_connection and not site.http2
        self.origin = Origin()
        self.access = AccessLog(name, log, site.sample)
        self.access_log = site.access_log
        self.report = report
        # What few files need is imported for these only: a start counts it.
        self.trusted: Trusted | None = None
        if site.trusted:
            from appd.http.core.forwarded import Trusted, read_claims

            self.trusted, self._read_claims = Trusted(site.trusted), read_claims
        self.proxy_protocol = site.proxy_protocol
        self.driver = driver
        self.http2 = site.http2
        self.clients = Crowd()
        self.total = self.requests = 0
        self.draining = self.reloading = self.ended = False
        self.doors: list[Door] = []
        self.changed = changed
        self._mounted = [driver.mount(one) if isinstance(one.serves, Asgi) else serve(one, lane) for one in site.mounts]
        shares = zip(site.mounts, [getattr(one, "share", None) for one in self._mounted], strict=True)
        self._shares = [(one.where, share) for one, share in shares if share is not None]
        self.tunnels = any(isinstance(one.serves, Asgi) and one.serves.websocket for one in site.mounts)
        self.elsewhere = any(one.driver is not None for one in self._mounted)
        self._finder = Finder(self._mounted, [one.route for one in site.mounts])
        self._peers = Peers()
        self._seldom: Seldom | None = None
        self.spare: list[Connection] = []
        self.full = False

    def complete(self) -> None:
        """Imports what its mounts need; see `Mounted.complete`."""
        for one in self._mounted:
            one.complete()

    def pending(self) -> list[Pending]:
        """The calls of each mount that has any."""
        return [
            Pending(self.name, where, one.running, len(one.waiting), one.most, one.refused, one.cancelled)
            for where, one in self._shares
        ]

    # Sockets.

    def listen(self, sock: socket.socket, *, many_processes: bool = False, security: Security | None = None) -> Door:
        """Begins to accept connections on a socket.

        Args:
            sock: The socket, listening and non-blocking; it belongs to the server from now on.
            many_processes: Whether other processes serve the same.
            security: What makes it speak TLS; None when it is plain.
        """
        door = Door(self, sock, many_processes=many_processes, security=security)
        self.doors.append(door)
        door.resume()
        return door

    def adopt(self, sock: socket.socket, *, many_processes: bool = False, security: Security | None = None) -> None:
        """Serves one connection that somebody else has accepted.

        Args:
            sock: The socket, connected and non-blocking; it belongs to the server from now on.
            many_processes: Whether other processes serve the same.
            security: What makes it speak TLS; None when it is plain.
        """
        door = Door(self, sock, many_processes=many_processes, security=security)
        try:
            peer = sock.getpeername()
        except OSError:  # gone already; reading will tell
            peer = ""
        door.begin(sock.detach(), peer)

    def cannot_accept(self, door: Door, error: OSError) -> None:
        """The system gives no connection. Nothing is accepted for a moment, lest we spin."""
        door.rest()
        limit = " (LimitNOFILE= of the unit)" if error.errno == errno.EMFILE else ""
        self._tell("accept", f"cannot accept connections: {os.strerror(error.errno or 0)}{limit}; they wait")

    # Connections.

    def welcome(self, client: Any) -> None:
        """A connection has begun: a `Client`, or one of another driver."""
        limits = self.limits
        self.clients[client] = None
        self.total += 1
        if self.proxy_protocol:
            if not self.trusted or not self.trusted.holds(client.host):
                self._tell("untrusted", f"{client.host or 'a UNIX peer'} is not trusted to say who it speaks for")
                client.close()
                return
        elif limits.connections_per_peer and not self.count(client):
            client.turn_away()
            return
        wait = client.patience
        client.settle(min(wait, DRAIN_LINGER) if self.draining else wait)
        if limits.connections and len(self.clients) >= limits.connections:
            self._tell("full", f"{limits.connections} connections are open (connections); more wait")
            for door in self.doors:
                door.shut()
            self.full = True
            self._reopen()
        self.changed()

    def introduce(self, client: Any, proxied: Proxied) -> bool:
        """Takes a client for whom the proxy in front says it is, and counts it.

        Returns:
            Whether it is not one too many of its peer's.
        """
        if proxied.source is not None:
            client.host, client.port = proxied.source
            # Who comes by the proxy's UNIX socket is not by ours.
            client.is_beyond = not client.host
        client.secure = client.secure or bool(proxied.tls)
        return self.count(client)

    def count(self, client: Leaver) -> bool:
        """Counts a connection for its peer, which is known by now.

        Returns:
            Whether it is not one too many.
        """
        most = self.limits.connections_per_peer
        if not most or not client.host:
            return True
        client.counted = client.host
        count = self._peers.add(client.host)
        if count > most:
            self._tell("peer", f"more than {most} connections (connections-per-peer) from {client.host}")
        return count <= most

    def replace(self, client: Leaver, successor: Any) -> None:
        """A connection has another driver now."""
        self.clients.discard(client)
        if self.draining:
            successor.drain(time.monotonic() + DRAIN_LINGER)

    def lost(self, client: Any) -> None:
        """A connection has ended."""
        self.clients.pop(client, None)
        if client.counted:
            self._peers.drop(client.counted)
        if self.full:
            self._reopen()
        self.changed()

    def _reopen(self) -> None:
        if len(self.clients) < self.limits.connections:
            self.full = False
            for door in self.doors:
                door.poll()

    def drain(self) -> None:
        """Ends each connection when what it has begun is answered; an idle one in a moment."""
        self.draining = True
        ends = time.monotonic() + DRAIN_LINGER
        for client in list(self.clients):
            client.drain(ends)

    def abort(self) -> int:
        """Cancels the calls that still wait, and cuts every connection.

        Returns:
            How many connections there were.
        """
        self.ended = True
        cancelled = self.lane.end(self)
        if cancelled:
            calls = f"{cancelled} call{'s' * (cancelled != 1)}"
            what = f"server {self.name!r}: {calls} still waited for a thread when the drain ended: cancelled, with 503"
            self.log.write(what, WARNING, LOGGER="appd.http", APPD_SERVER=self.name)
        those = list(self.clients)
        for client in those:
            client.abort()
        return len(those)

    # Requests.

    def answer(self, client: Client, request: Request, body: IO[bytes] | None, worker: Worker) -> bool:
        """Answers a request that is complete, or begins to.

        Args:
            client: Who asks.
            request: What for.
            body: The body, from its beginning; None without one.
            worker: The thread that is here.

        Returns:
            Whether the response is complete, and the connection goes on or ends; else somebody else has the client.

        Raises:
            Gone: The client gets nothing more.
        """
        self.requests += 1
        try:
            found = self._finder.known.get((request.host, request.path)) if self.trusted is None else None
            if found is None:
                found = self.find_for(client, request)
            if found is not None:
                client.mounted = found.mounted
                answered: bool = found.mounted.answer(client, request, found, body, worker)
                return answered
            if body is not None:
                body.close()
            client.claim()
            if request.path == "*":
                return not client.send_whole(200, (), b"") and client.complete()
            return client.plain(404)
        except Gone:
            raise
        except Refused as refused:
            client.refuse(refused)
            return False
        except Incomplete:
            client.cut()
        except Exception as error:
            fields = client.log_fields(request)
            what = f"cannot answer {fields['HTTP_METHOD']!s} {fields['HTTP_PATH']!s}"
            tell_failure(self.log, what, error, LOGGER="appd.http", **fields)
            if client.connection.request is not None and not client.connection.sending:
                return client.plain(500)
            client.cut()
        return client.complete()

    def wants_body(self, client: Client, request: Request) -> bool:
        """Whether what answers a request looks at its body."""
        try:
            found = self.find_for(client, request)
        except Refused:
            return False
        return found is not None and found.mounted.takes_body(request)

    def find_for(self, client: Any, request: Request) -> Found | None:
        """Finds what answers a request, and notes what trusted proxies say of its client.

        Args:
            client: Who asks: a `Client`, or a connection of another driver.
            request: What for.

        Returns:
            None when nothing does.

        Raises:
            Refused: What the proxies say cannot be understood.
        """
        host = request.host
        if self.trusted and not client.is_beyond:
            claims = client.claims = self._read_claims(request.named, client.host, self.trusted)
            if claims is not None and claims.authority:
                host = host_name(claims.authority)
        return self._finder.find(host, request.path)

    def tell_full(self) -> None:
        """A request was refused, since too many wait."""
        threads = self.lane.threads
        self._tell("queue", f"{threads} calls run and {self.queue} wait (queue): more are answered with 503")

    def _tell(self, about: str, what: str) -> None:
        """Says once in a while what happens often."""
        if self._seldom is None:
            from appd.seldom import Seldom  # late: a first answer tells of nothing

            self._seldom = Seldom()
        if self._seldom.is_due(about):
            self.log.write(f"server {self.name!r}: {what}", WARNING, LOGGER="appd.http", APPD_SERVER=self.name)
