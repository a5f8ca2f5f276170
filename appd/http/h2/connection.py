"""A connection of HTTP/2 on the server's side, without I/O: what comes in is `Receiver`'s, what goes out is here."""

from __future__ import annotations

from appd.http.h2 import frames
from appd.http.h2.codes import Code, Flag, Frame, Setting
from appd.http.h2.encoding import NO_TABLE
from appd.http.h2.flow import WINDOW
from appd.http.h2.receiving import CONNECTION_WINDOW, Receiver
from appd.http.h2.states import Input, State
from appd.http.h2.streams import LARGEST_FRAME

__all__ = ["Connection"]

_HEADERS, _DATA = int(Frame.HEADERS), int(Frame.DATA)
_PACK = frames.HEAD.pack
# A body up to this goes out with its head; of a larger one the transport is asked how much it takes.
_WHOLE = 1 << 17


class Connection(Receiver):
    """See above, and `Receiver`. A stream that the client has reset takes nothing: that is no error."""

    __slots__ = ()

    def __init__(self, streams: int, most: int, *, tunnels: bool = False) -> None:
        super().__init__(streams, most, tunnels=tunnels)
        said = {Setting.MAX_CONCURRENT_STREAMS: streams, Setting.MAX_HEADER_LIST_SIZE: most}
        if tunnels:
            said[Setting.ENABLE_CONNECT_PROTOCOL] = 1
        self.say(frames.settings(said.items()))
        self.say(frames.window_update(0, CONNECTION_WINDOW - WINDOW))

    def take_out(self) -> bytes:
        """What is to be sent, which is forgotten with that."""
        out = self.out
        data = b"".join(out)
        out.clear()
        self.size = 0
        return data

    def send_whole(self, stream: int, block: bytes, body: bytes) -> bool:
        """Sends head and body at once.

        Args:
            stream: Whose.
            block: The field block of the head.
            body: The body.

        Returns:
            Whether it was no more than the windows let through, and than is worth it; otherwise nothing is sent.
        """
        flow, size = self.flows.get(stream), len(body)
        if (
            flow is None
            or not 0 < size <= _WHOLE
            or size > flow.window
            or size > self.window
            or len(block) > LARGEST_FRAME
            or self._shrunk
        ):
            return False
        flow.window -= size
        self.window -= size
        head = len(block)
        if size <= LARGEST_FRAME:
            self.out.append(_PACK(0, head, _HEADERS, 4, stream) + block + _PACK(0, size, _DATA, 1, stream) + body)
            self.size += head + size + 18
        else:
            self.say(_PACK(0, head, _HEADERS, 4, stream) + block)
            self._say_data(stream, memoryview(body), size, end=True)
        self._ends(stream)
        return True

    def _say_data(self, stream: int, data: memoryview, size: int, *, end: bool) -> None:
        """DATA in as many frames as it takes, of which none is copied here."""
        out, most, at = self.out, self.largest, 0
        while size - at > most:
            out += (_PACK(most >> 16, most & 0xFFFF, _DATA, 0, stream), data[at : at + most])
            at += most
        out += (_PACK(size - at >> 16, size - at & 0xFFFF, _DATA, 1 if end else 0, stream), data[at:])
        # And their heads, about.
        self.size += size + 9

    def send_head(self, stream: int, block: bytes, *, end: bool = False) -> None:
        """Sends a head, or trailers.

        Args:
            stream: Whose.
            block: Its field block.
            end: Whether nothing follows.
        """
        if stream not in self.flows:
            return
        if self._shrunk:
            self._shrunk = False
            block = NO_TABLE + block
        kind, flags, most = Frame.HEADERS, Flag.END_STREAM if end else 0, self.largest
        while len(block) > most:
            self.say(frames.frame(kind, flags, stream, block[:most]))
            block, kind, flags = block[most:], Frame.CONTINUATION, 0
        self.say(frames.frame(kind, flags | Flag.END_HEADERS, stream, block))
        if end:
            self._ends(stream)

    def room(self, stream: int) -> int:
        """How many bytes of a body the windows let through; 0 or less for none."""
        flow = self.flows.get(stream)
        return min(flow.window, self.window) if flow is not None else 0

    def send_data(self, stream: int, data: bytes | memoryview, *, end: bool) -> None:
        """Sends a part of a body, which is no more than there is room for.

        Args:
            stream: Whose.
            data: The part; it is not copied before `take_out`.
            end: Whether nothing follows.
        """
        flow = self.flows.get(stream)
        if flow is None:
            return
        size = len(data)
        flow.window -= size
        self.window -= size
        self._say_data(stream, memoryview(data), size, end=end)
        if end:
            self._ends(stream)

    def _ends(self, stream: int) -> None:
        if self.flows[stream].move(Input.WE_END) is State.ENDED:
            del self.flows[stream]

    def reset(self, stream: int, code: Code) -> None:
        """Resets a stream, if it is there still."""
        flow = self.flows.pop(stream, None)
        if flow is not None:
            self.remember(stream, flow.move(Input.WE_RESET))
            self.say(frames.reset(stream, code))

    def give_back(self, stream: int, size: int) -> None:
        """Lets a stream bring as much again as was taken of it.

        Args:
            stream: Which.
            size: How much, as the event said it.
        """
        flow = self.flows.get(stream)
        if flow is None or flow.state not in (State.OPEN, State.LOCAL):
            return
        flow.taken += size
        if flow.taken >= WINDOW // 2:
            # Not for every part: half a window is enough to go on with.
            flow.credit += flow.taken
            self.say(frames.window_update(stream, flow.taken))
            flow.taken = 0

    def go_away(self, code: Code = Code.NO_ERROR, reason: str = "") -> None:
        """Says that no further stream is answered. Those that are open go on, unless whoever asks ends them."""
        self.say(frames.goaway(max(self.last, 0), code, reason))
