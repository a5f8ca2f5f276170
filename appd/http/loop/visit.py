"""A request for a mount of the lane on a connection of the loop: its body is collected here, the lane's threads answer.

To the connection it is what an `Exchange` is.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from appd.http.core.errors import Incomplete, Misuse, Refused
from appd.http.lane.guest import Guest
from appd.http.log.entrylog import tell_failure
from appd.http.loop.pump import pump
from appd.http.spool import Stretch
from appd.http.upload import Upload

if TYPE_CHECKING:
    from typing import IO

    from appd.http.core.request import Request
    from appd.http.lane.mounted import Mounted

__all__ = ["Visit"]

# A file of so many bytes is read at once: the disk holds up a loop for no longer than the page cache takes.
_SMALL = 65536


class Visit:
    """One request.

    Args:
        line: What it came on.
        request: The request.
        mount: What answers.

    Attributes:
        done: Whether the response is complete.
        task: What sends a file, while one is being sent.

    Resource handling: owns the body until the lane has it.
    """

    __slots__ = ("_guest", "_line", "_mount", "_owed", "_upload", "_waits", "done", "gone", "request", "task")

    def __init__(self, line: Any, request: Request, mount: Mounted) -> None:
        self.request = request
        self.done = self.gone = False
        self.task: asyncio.Task[None] | None = None
        self._line = line
        self._mount = mount
        self._guest: Guest | None = None
        self._upload: Upload | None = None
        # What the client has not taken yet of what was sent last, and whether that is waited for.
        self._owed: tuple[int, bool] | None = None
        self._waits = False

    def begin(self) -> None:
        """Has the lane answer, or waits for the body."""
        if self.request.length == 0:
            self._call(None, 0)
            return
        wanted = self._mount.takes_body(self.request)
        if not wanted and self._line.continue_due:
            # Nothing has been sent of it, and with the answer the connection ends.
            self._call(None, 0)
            return
        self._upload = Upload(self._line.server.limits.upload_memory, self._line.began, keep=wanted)
        self._line.wants_body()

    def feed(self, data: bytes) -> bool:
        """Takes a part of the body; there is always room."""
        if self._upload is not None:
            try:
                self._upload.add(data)
            except OSError as error:
                self._no_room(error)
        return True

    def end_body(self) -> None:
        """The body is complete."""
        upload, self._upload = self._upload, None
        if upload is None:
            return
        try:
            body = upload.complete()
        except OSError as error:
            self._no_room(error)
            return
        self._call(body, upload.length)

    def _no_room(self, error: OSError) -> None:
        line = self._line
        fields = line.log_fields(self.request)
        tell_failure(line.server.log, "cannot keep the body of a request", error, LOGGER="appd.http", **fields)
        self._drop()
        self.done = True
        line.exchange = None
        line.refuse(Refused(503, "no room for the body"))

    def _call(self, body: IO[bytes] | None, length: int) -> None:
        self._guest = Guest(self._line, self.request, body, length, self._said)
        self._line.server.lane.post(self._guest)

    def _drop(self) -> None:
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.close()

    def cancel(self) -> None:
        """Sends nothing more of a file."""
        if self.task is not None:
            self.task.cancel()

    def lost(self) -> None:
        """The client has left, or sends nothing more: only what has left cannot be answered."""
        self._drop()
        if self._line.broken or self.done:
            self.done = True
            if self._guest is not None:
                self._guest.lost()
            self.cancel()

    def _said(self) -> None:
        self._line.driver.post(self._carry_out)

    def _carry_out(self) -> None:
        """Does what the guest has said, as far as no file is being sent and the client takes it."""
        guest, line = self._guest, self._line
        assert guest is not None
        try:
            while guest.words and self.task is None and not self._waits:
                if line.blocked is not None and not (self.done or line.broken):
                    self._wait()
                    return
                word, what = guest.words.popleft()
                if self.done or line.broken:
                    if isinstance(what, Stretch):
                        what.close()
                    continue
                self._do(guest, word, what)
        except (Incomplete, Misuse):
            self._leave()
            line.cut()
        except OSError as error:
            fields = line.log_fields(self.request)
            tell_failure(line.server.log, "cannot send a response", error, LOGGER="appd.http", **fields)
            self._leave()
            line.cut()

    def _do(self, guest: Guest, word: str, what: Any) -> None:
        line = self._line
        if word == "whole":
            line.whole(*what)
        elif word == "data":
            self._send(guest, what, kept=False)
        elif word == "kept":
            # A moment ago it was written, and lies in the page cache.
            self._send(guest, os.pread(what.fd, what.left, what.offset), kept=True)
        elif word == "begin":
            line.begin(*what)
        elif word == "end":
            line.end(())
        elif word == "file":
            self._send_file(what)
        elif word == "done":
            self.done = True
            line.status = line.status or guest.status
            line.complete(self)
        elif word == "refuse":
            self._leave()
            line.refuse(what)
        elif word == "late":
            self._leave()
            line.too_late()
        else:
            self._leave()
            line.cut()

    def _send(self, guest: Guest, data: bytes, *, kept: bool) -> None:
        self._line.data(data)
        if self._line.blocked is None:
            guest.taken(len(data), kept)
        else:
            self._owed = len(data), kept
            self._wait()

    def _wait(self) -> None:
        """Waits until the client takes more, or has left."""
        self._waits = True
        self._line.blocked.add_done_callback(self._go_on)

    def _go_on(self, _unblocked: Any) -> None:
        self._waits = False
        owed, self._owed = self._owed, None
        if owed is not None and self._guest is not None:
            self._guest.taken(*owed)
        self._carry_out()

    def _leave(self) -> None:
        """Takes nothing more of what the guest says, whose thread is not to wait for that."""
        self.done = True
        self._line.exchange = None
        if self._guest is not None:
            self._guest.lost()

    def _send_file(self, stretch: Stretch) -> None:
        if stretch.left <= _SMALL:
            try:
                data = os.pread(stretch.fd, stretch.left, stretch.offset)
            finally:
                stretch.close()
            if len(data) < stretch.left:
                raise Incomplete("the file has become shorter")
            self._line.data(data)
            return
        self.task = self._line.loop.create_task(self._pump(stretch))

    async def _pump(self, stretch: Stretch) -> None:
        try:
            await pump(self._line, stretch.fd, stretch.offset, stretch.left)
        except (Incomplete, OSError):
            if not self._line.broken:
                self._leave()
                self._line.cut()
        finally:
            with suppress(OSError):
                stretch.close()
            self.task = None
            self._carry_out()
