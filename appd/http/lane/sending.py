"""The half of a client that sends: at once what the socket takes, the rest from an outbox.

Most connections are idle most of the time, and an idle one is kept small: between two requests it has no `Connection`.
The server keeps a few of these that are as new; `awake` takes one.
"""

from __future__ import annotations

import time

from appd.http.core.connection import Connection
from appd.http.core.response import Prepared, status_line
from appd.http.lane.outbox import Outbox
from appd.http.log.entrylog import tell_failure
from appd.http.spool import Stretch
from appd.startup.bare import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from appd.http.core.response import Fields
    from appd.http.lane.batch import Batch
    from appd.http.lane.server import Server

__all__ = ["NOTHING", "Gone", "Sender"]

# From so many bytes on a body is not copied behind its head. Up to there the copy costs less than to have the kernel
# gather two pieces: 2 to 3 µs of 28 for 100 KB; from there on malloc(3) takes fresh pages for each.
_LARGE = 131072
# Bodies up to so many bytes may wait for others: of larger ones the client's being woken is no matter.
_SMALL = 16384
# Whoever looks at a client that may be idle looks for it; all others have a request.
NOTHING: Any = None


class Gone(Exception):
    """The client gets nothing more: it has left, or takes nothing."""


class Sender:
    """What sends on one connection.

    Args:
        server: The server.
        sock: The socket, non-blocking.

    Attributes:
        connection: What has been said on it; from the first byte of a request to the end of its response.
        deadline: When somebody looks after it; see `Deadlines`.
        held: Where a whole response may wait for those that go out with it, see `Worker`; None when it may not.
        status: The status of the response that has begun; 0 before.
        sent: The bytes of its body.
        unanswered: A token that a call has as long as nobody has answered in its place.
    """

    __slots__ = (
        "_out",
        "connection",
        "deadline",
        "fd",
        "held",
        "sent",
        "server",
        "sock",
        "status",
        "tick",
        "unanswered",
    )

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self.server = server
        self.sock = sock
        self.fd = sock.fileno()
        self.connection: Connection = NOTHING
        self.deadline = 0.0
        self.held: Batch | None = None
        self.tick = 0
        self.status = 0
        self.sent = 0
        self.unanswered: list[None] | None = None
        self._out: Outbox | None = None

    def awake(self) -> Connection:
        """What is said on the connection from now on."""
        connection: Connection | None = self.connection
        if connection is None:
            try:
                connection = self.server.spare.pop()
            except IndexError:
                connection = Connection(self.server.limits, self.server.origin)
            self.connection = connection
        return connection

    def claim(self) -> None:
        """Before a call sends the first byte of its response: decides whether that is the last on the connection.

        Raises:
            Gone: It took too long, and the client was told so.
        """
        unanswered = self.unanswered
        if unanswered is not None:
            try:
                unanswered.pop()
            except IndexError:
                raise Gone from None
        if self.server.draining:
            self.last_if_nothing_waits()

    def last_if_nothing_waits(self) -> None:
        """Lets the connection end with the response to come, unless the client has sent more already."""
        raise NotImplementedError  # only the half that receives knows: `Leaver`

    def send(self, data: bytes, flags: int = 0) -> None:
        """Sends; what the client does not take is kept, and beyond `response_spool` it is waited for.

        Args:
            data: The bytes.
            flags: Of send(2).

        Raises:
            Gone: The client gets nothing more.
        """
        if not data:
            return
        out = self._out
        if out is not None:
            self._send_behind(out, data)
            return
        try:
            sent = self.sock.send(data, flags)
        except BlockingIOError:
            sent = 0
        except OSError:
            raise Gone from None
        if sent != len(data):
            self._begin_out(memoryview(data)[sent:])

    def send_ahead(self, data: bytes) -> None:
        """Sends what a file follows at once: in one packet with its beginning, which saves the work of one.

        Raises:
            Gone: As `send`.
        """
        self.send(data, socket.MSG_MORE)

    def send_whole(self, status: int | str, fields: Fields | Prepared, body: bytes) -> bool:
        """Sends a complete response, or has it wait in `held`.

        Returns:
            Whether it waits: then whoever takes it from there has the client.

        Raises:
            Gone: The client gets nothing more.
            Incomplete: It has less of a body than it announces.
            Misuse: It cannot be sent; nothing was.
        """
        connection, size = self.connection, len(body)
        if type(fields) is Prepared and fields.length is not None and fields.length > size:
            self.send(connection.head(status, fields) + connection.body(body))
            self.status, self.sent = status_line(status)[0], size
            connection.end()
            return False
        if size < _LARGE or self._out is not None:
            data = connection.whole(status, fields, body)
            held = self.held
            waits = held is not None and size <= _SMALL and self._out is None and connection.is_as_new()
            if not waits:
                self.send(data)
            self.status = status_line(status)[0]
            self.sent = size - connection.overrun
            if waits:
                self.held = None
                held.append((self, data))  # type: ignore[union-attr]
            return waits
        head = connection.head(status, fields, len(body))
        body = connection.body(body)
        connection.end()
        try:
            sent = self.sock.sendmsg((head, body))
        except BlockingIOError:
            sent = 0
        except OSError:
            raise Gone from None
        self.status = status_line(status)[0]
        self.sent = size
        if sent < len(head):
            self._begin_out(memoryview(head + body)[sent:])
        elif sent < len(head) + len(body):
            self._begin_out(memoryview(body)[sent - len(head) :])
        return False

    def send_file(self, stretch: Stretch) -> None:
        """Sends a part of a file; it is closed afterwards, if it is owned.

        Raises:
            Gone: The client gets nothing more, or the file has less than that.
        """
        out = self._out
        if out is None:
            try:
                while stretch.left:
                    stretch.send(self.sock)
                stretch.close()
                return
            except BlockingIOError:
                out = self._out = Outbox(self.sock)
            except (OSError, EOFError):
                stretch.close()
                raise Gone from None
        with out.lock:
            out.add_file(stretch)
            self._arm_out(out)

    def _begin_out(self, data: memoryview) -> None:
        out = self._out = Outbox(self.sock)
        with out.lock:
            self._add(out, data)
            self._arm_out(out)
        self._hold(out)

    def _send_behind(self, out: Outbox, data: bytes) -> None:
        with out.lock:
            if out.broken:
                raise Gone
            self._add(out, data)
            if not out.armed:
                try:
                    out.flush()
                except (OSError, EOFError):
                    out.close()
                    raise Gone from None
                if out.size:
                    self._arm_out(out)
        self._hold(out)

    def _add(self, out: Outbox, data: bytes | memoryview) -> None:
        try:
            out.add(data)
        except OSError as error:
            out.close()
            tell_failure(
                self.server.log, "cannot keep a response", error, LOGGER="appd.http", APPD_SERVER=self.server.name
            )
            raise Gone from None

    def _hold(self, out: Outbox) -> None:
        """Lets the thread of an application wait while too much waits for the client."""
        most = self.server.limits.response_spool
        if out.size <= most:
            return
        with out.lock:
            while out.size > most and not out.broken:
                out.lock.wait()
            if out.broken:
                raise Gone

    def _arm_out(self, out: Outbox) -> None:
        """With the lock of the outbox."""
        if out.armed or not out.size:
            return
        out.armed = True
        lane = self.server.lane
        lane.deadlines.put(self, time.monotonic() + self.server.limits.write_timeout)
        lane.arm_to_send(self)
