"""Mounts that are being served: a request in, a response sent."""

from __future__ import annotations

import os

from appd.http.core.response import Fields, Parts, Response, status_line
from appd.http.lane.gateway import Call
from appd.http.site import Mount, Redirect, Static, Wsgi
from appd.http.spool import Stretch
from appd.startup.bare import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO, Any

    from appd.http.core.request import Request
    from appd.http.lane.client import Client
    from appd.http.lane.crew import Worker
    from appd.http.lane.lane import Lane
    from appd.http.routing import Found

    Respond = Callable[[Request, tuple[bytes, ...]], Response]

__all__ = ["Application", "Mounted", "Whole", "serve"]

# A file of at most so many bytes is read and goes out behind the head, in one packet; the kernel sends a larger one.
_SMALL = 16384


class Mounted:
    """A mount.

    Args:
        mount: What the file says of it.

    Attributes:
        driver: Who serves it; None for the lane. See `handover`.
        access_log: `off`, `journal` or `combined`.
        depth: How many segments its path has.
        wants_body: Whether it looks at bodies of requests.
        script_name: Its path, decoded, a character a byte.
    """

    driver: Any = None
    wants_body = False

    def __init__(self, mount: Mount) -> None:
        self.access_log = mount.access_log
        self.depth = len(mount.route.path)
        self.script_name = "".join("/" + one.decode("latin-1") for one in mount.route.path)
        self._headers = list(mount.headers)
        self._replaced = frozenset(name.lower() for name, _value in mount.headers)

    def complete(self) -> Any:
        """Imports what it needs, if no request has made it do so: a later version of that may lie there one day."""

    def takes_body(self, request: Request) -> bool:
        """Whether the body of a request is kept for it."""
        return self.wants_body

    def with_headers(self, fields: Any) -> Any:
        """Fields of a response with those of the mount in place of its own."""
        if not self._headers:
            return fields
        return [one for one in fields if one[0].lower() not in self._replaced] + self._headers

    def answer(self, client: Client, request: Request, found: Found, body: IO[bytes] | None, worker: Worker) -> bool:
        """Answers a request, or begins to.

        Args:
            client: Who asks.
            request: What for.
            found: What the router found.
            body: The body, from its beginning; None without one.
            worker: The thread that is here.

        Returns:
            Whether the response is complete; otherwise somebody else has the client.

        Raises:
            Gone: The client gets nothing more.
        """
        raise NotImplementedError  # each kind of mount has its own: `Whole`, `Application`


class Whole(Mounted):
    """A mount whose responses are known as a whole: files, redirects.

    Args:
        mount: What the file says of it.
        make: Makes what makes a response of a request and the rest of its path.
    """

    def __init__(self, mount: Mount, make: Callable[[], Respond]) -> None:
        super().__init__(mount)
        self._make = make
        self._respond: Respond | None = None

    def complete(self) -> Respond:
        if self._respond is None:
            self._respond = self._make()
        return self._respond

    def answer(self, client: Client, request: Request, found: Found, body: IO[bytes] | None, worker: Worker) -> bool:
        return not self.deliver(client, request, found, body) and client.complete()

    def deliver(self, client: Client, request: Request, found: Found, body: IO[bytes] | None) -> bool:
        """As `answer`, without its end. Returns whether the response waits; see `Sender.send_whole`."""
        if body is not None:
            body.close()
        response = (self._respond or self.complete())(request, found.rest)
        client.claim()
        fields = self.with_headers(response.fields)
        if isinstance(response.body, Parts):
            _send_parts(client, response.status, fields, response.body)
        elif response.body is not None:
            return client.send_whole(response.status, fields, response.body)
        else:
            length = response.length
            if length is None and request.method != "HEAD" and response.status != 304:
                length = 0
            head = client.connection.head(response.status, fields, length)
            client.send(head + client.connection.end())
            client.status = response.status
        return False


def _send_parts(client: Client, status: int, fields: Fields, body: Parts) -> None:
    connection, fd = client.connection, body.descriptor
    length = sum(len(one) if isinstance(one, bytes) else one[1] for one in body.pieces)
    try:
        head = connection.head(status, fields, length)
        if length <= _SMALL:
            parts = [one if isinstance(one, bytes) else os.pread(fd, one[1], one[0]) for one in body.pieces]
            # A file that has become shorter is noticed here: `end` raises.
            data = b"".join([head, *(connection.body(one) for one in parts)])
            client.send(data + connection.end())
            client.status, client.sent = status_line(status)[0], length
            return
        client.send_ahead(head)
        client.status, client.sent = status_line(status)[0], length
        for one in body.pieces:
            if isinstance(one, bytes):
                client.send(connection.body(one))
            elif len(body.pieces) == 1:
                file, fd = fd, -1
                client.send_file(Stretch(file, one[0], connection.pass_by(one[1]), owned=True))
            else:
                client.send_file(Stretch(os.dup(fd), one[0], connection.pass_by(one[1]), owned=True))
        client.send(connection.end())
    finally:
        if fd >= 0:
            os.close(fd)


class Application(Mounted):
    """A WSGI application.

    Args:
        mount: What the file says of it.
        serves: The application.
        lane: What runs its calls.

    Attributes:
        application: What is called.
        share: Its share of the threads.
        heads: Heads of responses that were checked: what the application gave → what is sent.
    """

    wants_body = True

    def __init__(self, mount: Mount, serves: Wsgi, lane: Lane) -> None:
        super().__init__(mount)
        self.application = serves.application
        self.share = lane.admission.share(serves.threads)
        self.heads: dict[Any, Any] = {}
        self._lane = lane

    def answer(self, client: Client, request: Request, found: Found, body: IO[bytes] | None, worker: Worker) -> bool:
        call = Call(self, client, request, found.path_info, body)
        begun = self._lane.begin(call, worker, client.server.queue)
        if begun is not None:
            return begun
        if body is not None:
            body.close()
        client.server.tell_full()
        return client.plain(503, ("Retry-After", "1"))


def serve(mount: Mount, lane: Lane) -> Mounted:
    """Makes what answers for a mount. What kinds of mount need is imported later: a start counts it; see `complete`."""
    serves = mount.serves
    made: Application | Whole
    if isinstance(serves, Wsgi):
        made = Application(mount, serves, lane)
    elif isinstance(serves, Static):
        made = Whole(mount, partial(_folder, serves))
    else:
        assert isinstance(serves, Redirect)
        made = Whole(mount, partial(_redirection, serves, len(mount.route.path)))
    if mount.guard is None:
        return made
    from appd.http.lane.guarded import Guarded

    return Guarded(mount, made, mount.guard, lane)


def _folder(serves: Static) -> Respond:
    from appd.http.static.static import Folder

    return Folder(serves).respond


def _redirection(serves: Redirect, depth: int) -> Respond:
    from appd.http.redirect import Redirection

    return Redirection(serves, depth).respond
