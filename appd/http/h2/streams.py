"""The streams of a connection, and what is to be sent: what both halves of it look at. RFC 9113, 5.1."""

from __future__ import annotations

from appd.http.h2 import frames
from appd.http.h2.codes import Code, Frame
from appd.http.h2.events import Event, Kind
from appd.http.h2.faults import ConnectionFault, StreamFault
from appd.http.h2.flow import WINDOW, Flow
from appd.http.h2.settings import LARGEST_WINDOW
from appd.http.h2.states import ARRIVES, State, Verdict

__all__ = ["LARGEST_FRAME", "Streams"]

LARGEST_FRAME = 16384
"""The largest frame that we take, and say that we take: RFC 9113, 4.2."""

# Of streams that were reset, and of those that were skipped, so many are remembered.
_MOST_REMEMBERED = 256
_MOST_SKIPPED = 16


class Streams:
    """See above.

    Args:
        streams: How many may be open at one time.

    Attributes:
        out: What is to be sent, in order; whoever sends it empties it.
        size: How many bytes that are, about.
        last: The last stream that was begun.
        flows: The streams that are open.
        window: How much may be sent on all streams together.
        largest: The largest frame that the client takes.
    """

    __slots__ = (
        "_first_window",
        "_over",
        "_shrunk",
        "_skipped",
        "_streams",
        "flows",
        "largest",
        "last",
        "out",
        "size",
        "window",
    )

    def __init__(self, streams: int) -> None:
        self.out: list[bytes | memoryview] = []
        self.size = 0
        # So that the first one is 1.
        self.last = -1
        self.flows: dict[int, Flow] = {}
        self.window = WINDOW
        self.largest = LARGEST_FRAME
        self._streams = streams
        self._first_window = WINDOW
        # Whether the client has made the table of its compression smaller since the last head.
        self._shrunk = False
        self._over: dict[int, State] = {}
        self._skipped: list[tuple[int, int]] = []

    def say(self, data: bytes) -> None:
        """Has something sent."""
        self.out.append(data)
        self.size += len(data)

    def remember(self, stream: int, state: State) -> None:
        """Keeps for a while how a stream came to its end."""
        over = self._over
        over[stream] = state
        if len(over) > _MOST_REMEMBERED:
            del over[next(iter(over))]

    def state(self, stream: int) -> State:
        """Where a stream is."""
        flow = self.flows.get(stream)
        if flow is not None:
            return flow.state
        if stream > self.last:
            return State.IDLE
        known = self._over.get(stream)
        if known is not None:
            return known
        return State.SKIPPED if any(first <= stream <= last for first, last in self._skipped) else State.ENDED

    def _arrives(self, kind: Frame, stream: int, events: list[Event]) -> bool:
        """Whether a frame is taken, as the state of its stream is."""
        if not stream:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"{kind.name} for no stream")
        state = self.state(stream)
        if not stream & 1:
            # Even ones are ours to begin, which we never do.
            state = State.IDLE
            if kind is Frame.HEADERS:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "a stream with an even number")
        verdict = ARRIVES[state][kind]
        if verdict is Verdict.TAKE:
            return True
        if verdict is Verdict.IGNORE:
            if kind is not Frame.WINDOW_UPDATE:
                # Which comes behind the end of many a response.
                events.append((Kind.CONTROL, stream, "frames for streams that are over", None))
            return False
        if verdict is Verdict.STREAM_CLOSED:
            raise StreamFault(Code.STREAM_CLOSED, f"{kind.name} after the end of the stream")
        code = Code.STREAM_CLOSED if verdict is Verdict.CONNECTION_CLOSED else Code.PROTOCOL_ERROR
        raise ConnectionFault(code, f"{kind.name} for a stream that is {state.name}")

    def _begin(self, stream: int) -> Flow:
        """Begins a stream.

        Raises:
            StreamFault: It is one too many.
        """
        if stream > self.last + 2:
            self._skipped.append((self.last + 2, stream - 2))
            del self._skipped[:-_MOST_SKIPPED]
        self.last = stream
        # Also where all have come in one read, and earlier ones would be answered by now: the client counts what it has
        # been answered, and that is nothing yet (RFC 9113, 5.1.2).
        if len(self.flows) >= self._streams:
            raise StreamFault(Code.REFUSED_STREAM, f"more than {self._streams} streams at one time")
        flow = self.flows[stream] = Flow(self._first_window)
        return flow

    def _end_stream(self, stream: int, fault: StreamFault, events: list[Event]) -> None:
        self.say(frames.reset(stream, fault.code))
        if self.flows.pop(stream, None) is not None or self._over.get(stream) is not State.RESET_THERE:
            self.remember(stream, State.RESET_HERE)
        events.append((Kind.CLOSED, stream, fault.code, fault.reason))

    def _shift_windows(self, by: int) -> None:
        """RFC 9113, 6.9.2."""
        for flow in self.flows.values():
            flow.window += by
            if flow.window > LARGEST_WINDOW:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "SETTINGS that open a window beyond 2^31-1")
