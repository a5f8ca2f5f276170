"""What is seen of records, and how small writes are put together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from appd.tls.framing import Framing
from appd.tls.gathered import Gathered


def record(length: int) -> bytes:
    return b"\x17\x03\x03" + length.to_bytes(2, "big") + b"x" * length


@given(st.lists(st.integers(0, 300), min_size=1, max_size=8), st.lists(st.integers(1, 700), max_size=12))
def test_one_record(lengths, steps):
    """A piece is one record when it begins where one begins and ends where that ends, however all is cut."""
    stream, ends = b"", [0]
    for length in lengths:
        stream += record(length)
        ends.append(len(stream))
    framing, at = Framing(), 0
    for step in [*steps, len(stream)]:
        piece = stream[at : at + step]
        if not piece:
            break
        begins, at = at, at + len(piece)
        # A record without anything in it is passed like several.
        expected = begins in ends and at in ends and ends.index(at) == ends.index(begins) + 1 and len(piece) > 5
        assert framing.is_one(piece) is expected


class TestGathered:
    """What is written at one time is sent at once, in order."""

    def test_while_data_is_received(self):
        """No turn of the reactor is asked for; whoever receives says when."""
        sent, clock = [], Clock()
        gathered = Gathered(sent.append, clock)
        gathered.receiving = True
        gathered.write(b"a")
        gathered.write(b"b")
        assert not sent
        assert not clock.getDelayedCalls()
        assert gathered.flush()
        assert sent == [b"ab"]
        assert not gathered.flush()

    def test_at_another_time(self):
        """In the next turn, and once."""
        sent, clock = [], Clock()
        gathered = Gathered(sent.append, clock)
        gathered.write(b"a")
        gathered.write(b"b")
        assert len(clock.getDelayedCalls()) == 1
        clock.advance(0)
        assert sent == [b"ab"]
        gathered.write(b"c")
        clock.advance(0)
        assert sent == [b"ab", b"c"]

    def test_much(self):
        """Does not wait."""
        sent = []
        gathered = Gathered(sent.append, Clock())
        gathered.write(b"a")
        gathered.write(b"x" * 64000)
        assert sent == [b"a" + b"x" * 64000]

    def test_the_end(self):
        """What waits is sent, what comes later is not, and nothing is left for a turn."""
        sent, clock = [], Clock()
        gathered = Gathered(sent.append, clock)
        gathered.write(b"a")
        gathered.close()
        gathered.write(b"b")
        assert not gathered.flush()
        assert sent == [b"a"]
        assert not clock.getDelayedCalls()

    @pytest.mark.parametrize("data", ["text", None, 5])
    def test_what_is_no_bytes(self, data):
        """Is refused where it is written."""
        with pytest.raises(TypeError):
            Gathered(lambda _data: None, Clock()).write(data)
