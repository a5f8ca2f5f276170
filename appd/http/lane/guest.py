"""A request for a mount of the lane that came on a connection which another driver has.

The threads of the lane answer it as any other, under the same admission; what they have to say goes to the driver's
`line`. A guest is what they have in place of a `Client`.

    driver: Request, body ─▶ lane.post ─▶ thread: mount ─▶ transcript ─▶ driver: line.begin, data, end

A thread does not wait for a slow client until `response_spool` bytes are on their way, some in memory and the rest in a
file, as in the lane's outbox. Files are the driver's to read.
"""

from __future__ import annotations

from appd.http.core.errors import Refused
from appd.http.core.response import Fields, Prepared, prepare, status_line
from appd.http.core.transcript import Transcript
from appd.http.lane.sending import Gone
from appd.http.log.entrylog import tell_failure
from appd.http.log.peer import describe
from appd.http.spool import IN_MEMORY, Spool, Stretch
from appd.startup.bare import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO, Any

    from appd.http.core.forwarded import Claims
    from appd.http.core.request import Request
    from appd.http.lane.crew import Worker
    from appd.http.lane.mounted import Mounted
    from appd.journal.entry import Value

__all__ = ["Guest"]

# So many bytes are told of at a time.
_PIECE = 65536
# What a client that reads at all takes in this time need not go to a file, in seconds.
_MOMENT = 0.02
_PLAIN = ("Content-Type", "text/plain; charset=utf-8")


class Guest:
    """One request.

    Args:
        line: What the request came on: `door`, `server`, `host`, `port`, `secure`, `is_beyond`, `far`, `log_fields`.
        request: The request.
        body: The body, from its beginning; None without one.
        body_length: Its length.
        said: Called, in some thread, when there is something in `words`.

    Attributes:
        words: What the driver has to send: the name of what is to be done, and with what. It takes them in order, in
            its own thread: `begin`, `data`, `kept`, `file`, `end`, `whole`, `refuse`, `late`, `cut`, `done`. What is
            `kept` lies in the spool, and of that and of `data` it says when it is `taken`.

    Resource handling: owns a temporary file while there is much that the client has not taken.
    """

    def __init__(
        self,
        line: Any,
        request: Request,
        body: IO[bytes] | None,
        body_length: int,
        said: Callable[[], None],
    ) -> None:
        self.line = line
        self.request = request
        self.door = line.door
        self.server = line.server
        self.host, self.port = line.host, line.port
        self.secure, self.is_beyond = line.secure, line.is_beyond
        self.body_length = body_length
        self.mounted: Mounted | None = None
        self.claims: Claims | None = None
        self.connection = Transcript(request)
        self.status = self.sent = 0
        self.held: Any = None
        self.unanswered: list[None] | None = None
        self.words: deque[tuple[str, Any]] = deque()
        self._body = body
        self._said = said
        # Nobody is a guest before the loop is there.
        from threading import Condition

        self._room = Condition()
        self._held = self._kept = 0
        self._spool = Spool()
        self._broken = False
        self._call: Any = None

    # In a thread of the lane.

    def visit(self, worker: Worker) -> None:
        """Has the mount answer."""
        try:
            self.server.answer(self, self.request, self._body, worker)
        except Gone:
            self.gone()
        except BaseException:
            self.close()
            raise

    def go_on(self, worker: Worker) -> None:
        """What comes next on the connection is the driver's."""

    def claim(self) -> None:
        """Before the first byte of a response; see `Sender.claim`.

        Raises:
            Gone: It took too long, and the client was told so.
        """
        if self.unanswered is not None:
            try:
                self.unanswered.pop()
            except IndexError:
                raise Gone from None

    def send(self, data: bytes) -> None:
        """Sends what the transcript has, and these bytes of the body; see `Sender.send`.

        Raises:
            Gone: The client gets nothing more.
        """
        self._say_begin()
        if data:
            self._say_data(data)
        if self.connection.ended:
            self._say_end()
        self._hold()

    def send_ahead(self, data: bytes) -> None:
        """As `send`."""
        self.send(data)

    def send_whole(self, status: int | str, fields: Fields | Prepared, body: bytes) -> bool:
        """Sends a complete response; see `Sender.send_whole`. None of them waits for others."""
        self.connection.head(status, fields, len(body))
        prepared = fields if isinstance(fields, Prepared) else prepare(fields)
        self.status, self.sent = status_line(status)[0], len(body)
        if len(body) > IN_MEMORY:
            data = self.connection.body(body)
            self.connection.ended = True
            self.send(data)
            return False
        self.connection.ended = True
        self.words.append(("whole", (self.status, prepared, body)))
        self.connection.said = True
        return False

    def send_file(self, stretch: Stretch) -> None:
        """Sends a part of a file."""
        self._say_begin()
        self._say("file", stretch)

    def _say_begin(self) -> None:
        begins = self.connection.take_head()
        if begins is not None:
            self._say("begin", begins)

    def _say_end(self) -> None:
        if not self.connection.said:
            self.connection.said = True
            self._say("end", None)

    def _say(self, word: str, what: Any) -> None:
        if self._broken:
            if isinstance(what, Stretch):
                what.close()
            raise Gone
        self.words.append((word, what))
        self._said()

    def _say_data(self, data: bytes) -> None:
        if len(data) <= _PIECE:
            self._keep(data)
            return
        view = memoryview(data)
        for at in range(0, len(data), _PIECE):
            self._keep(view[at : at + _PIECE])

    def _keep(self, data: bytes | memoryview) -> None:
        """Has a part of the body sent; what is too much for memory lies in the spool until then."""
        size = len(data)
        with self._room:
            if not self._kept and not self._fits(size):
                self._room.wait_for(lambda: self._broken or self._fits(size), _MOMENT)
            if self._broken:
                raise Gone
            self._held += size
            kept = bool(self._kept) or not self._fits(0)
            # A view would keep all that it is one of.
            what = self._spooled(data) if kept else bytes(data)
            if kept:
                self._kept += size
        self._say("kept" if kept else "data", what)

    def _fits(self, size: int) -> bool:
        return self._held - self._kept + size <= IN_MEMORY

    def _spooled(self, data: bytes | memoryview) -> Stretch:
        try:
            return self._spool.add(data)
        except OSError as error:
            fields = self.line.log_fields(self.request)
            tell_failure(self.server.log, "cannot keep a response", error, LOGGER="appd.http", **fields)
            self._say("cut", None)
            raise Gone from None

    def _hold(self) -> None:
        most = self.server.limits.response_spool
        if self._held <= most:
            return
        with self._room:
            while self._held > most and not self._broken:
                self._room.wait()
        if self._broken:
            raise Gone

    def complete(self) -> bool:
        """Ends the response."""
        self._say_begin()
        if self.connection.ended:
            self._say_end()
        self._say("done", None)
        return True

    def plain(self, status: int, *fields: tuple[str, str]) -> bool:
        """Answers with a small page that names the status; see `Leaver.plain`."""
        self.plain_page(status, *fields)
        return self.complete()

    def plain_page(self, status: int, *fields: tuple[str, str]) -> bool:
        """As `plain`, but for its end. Returns as `send_whole`."""
        text = status_line(status)[1].removeprefix("HTTP/1.1 ").replace("\r", "")
        return self.send_whole(status, (_PLAIN, *fields), text.encode())

    def refuse(self, refused: Refused) -> None:
        """Answers what the client must not do, and ends the connection."""
        self._say("refuse", refused)

    def cut(self) -> None:
        """Ends a response where it is."""
        self._say("cut", None)
        raise Gone

    def give_up(self) -> None:
        """Tells the client that a call takes too long, unless its response has begun; see `Leaver.give_up`."""
        try:
            if self.unanswered:
                self.unanswered.pop()
                self._say("late", None)
        except (IndexError, Gone):
            return

    def gone(self) -> None:
        """The client has left, or was told something else."""

    @property
    def has_left(self) -> bool:
        """Whether the client has left."""
        return self._broken

    def park(self, call: Any) -> None:
        """Has a call wait; see `Leaver.park`."""
        self._call = call

    def dismiss(self) -> None:
        """Answers 503 in place of a call, unless the client has left; see `Leaver.dismiss`."""
        try:
            self.plain(503, ("Retry-After", "1"))
        except Gone:
            return

    def close(self) -> None:
        """Something of ours has failed."""
        if not self._broken:
            self._say("cut", None)

    def describe_peer(self, environ: dict[str, Any]) -> None:
        """Adds the address, or who is at the other end of a UNIX socket."""
        describe(self, environ, self.line.sock)
        environ.update(self.line.variables)

    @property
    def far(self) -> tuple[str, int]:
        """The address of the client, as far as whom is trusted says it; ("", 0) for none."""
        claims = self.claims
        return (claims.host, claims.port) if claims is not None and claims.host else (self.host, self.port)

    def log_fields(self, request: Request) -> dict[str, Value]:
        """The fields of log entries about the request."""
        fields: dict[str, Value] = self.line.log_fields(request)
        return fields

    # In the thread of the driver.

    def taken(self, size: int, kept: bool) -> None:
        """The client has taken so many bytes.

        Args:
            size: How many.
            kept: Whether they came from the spool.
        """
        with self._room:
            self._held -= size
            if kept:
                self._kept -= size
                self._spool.taken(size)
                if not self._kept:
                    # The next byte that has to wait may wait in memory.
                    self._spool.close()
            self._room.notify_all()

    def lost(self) -> None:
        """The client has left."""
        self._broken = True
        call = self._call
        if call is not None:
            self.server.lane.cancel(call)
        with self._room:
            self._spool.close()
            self._room.notify_all()
        while self.words:
            what = self.words.popleft()[1]
            if isinstance(what, Stretch):
                what.close()
