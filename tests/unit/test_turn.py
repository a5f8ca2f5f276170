"""Whose turn it is, between the workers of one supervisor."""

from __future__ import annotations

from appd.servers.turn import Turn


def test_one_has_it(tmp_path):
    """The second does not get it before the first has given it back, and reads what that has left."""
    first, second = Turn(str(tmp_path), "Clock"), Turn(str(tmp_path), "clock")
    assert first.take() and first.take() and first.taken
    first.write("a text that is long")
    assert not second.take() and not second.taken
    first.write("short")
    first.give()
    first.give()
    assert second.take() and second.read() == "short"
    second.give()


def test_names_are_apart(tmp_path):
    """However long or odd they are."""
    names = ["a", "b", "../x", "n" * 500, "h\u00e4"]
    turns = [Turn(str(tmp_path), name) for name in names]
    assert all(one.take() for one in turns)
    assert len(list(tmp_path.iterdir())) == len(names)
    for one in turns:
        one.give()


def test_without_a_supervisor():
    """There is nobody else."""
    turn = Turn("", "x")
    assert turn.take() and turn.read() == ""
    turn.write("1")
    turn.give()
    assert turn.read() == "1"
