"""Request heads and bodies, good and bad, through the core: in one piece, byte by byte, and split at every point."""

from __future__ import annotations

import pytest
from support.http1 import CORPORA, LIMITS, Case, accepted, cases, events

ALL = [
    pytest.param(case, id=f"{path.stem}: {case.title}")
    for path in sorted(CORPORA.glob("*.cases"))
    for case in cases(path)
]


@pytest.mark.parametrize("case", ALL)
def test_in_one_piece(case: Case):
    """What must come out does."""
    found = events([case.data])
    assert accepted(found, case.expected), found


@pytest.mark.parametrize("case", ALL)
def test_byte_by_byte(case: Case):
    """However slowly it arrives."""
    if len(case.data) > 4096:
        pieces = [case.data[at : at + 97] for at in range(0, len(case.data), 97)]
    else:
        pieces = [case.data[at : at + 1] for at in range(len(case.data))]
    assert events(pieces) == events([case.data])


@pytest.mark.parametrize("case", ALL)
def test_split_at_every_point(case: Case):
    """Wherever the network cuts it."""
    whole = events([case.data])
    step = 1 + len(case.data) // 500
    for at in range(1, len(case.data), step):
        assert events([case.data[:at], case.data[at:]]) == whole, at


def test_the_corpora_are_large():
    """Titles are unique, and nobody has lost a file."""
    titles = [(path.stem, case.title) for path in CORPORA.glob("*.cases") for case in cases(path)]
    assert len(titles) == len(set(titles)) >= 200
    assert LIMITS.body_size == 1000
