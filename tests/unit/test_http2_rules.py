"""The rules of RFC 9113, one by one: what is taken, what ends a stream, what ends the connection, and with which code."""

from __future__ import annotations

import pytest
from support.http2 import Case, cases, outcome_of_core

CASES = cases()


@pytest.mark.parametrize("case", CASES, ids=[one.title for one in CASES])
def test_a_rule(case: Case) -> None:
    """In one piece, byte by byte, and cut in the middle: the outcome is the same."""
    assert outcome_of_core([case.data]) == case.expected
    assert outcome_of_core([case.data[at : at + 1] for at in range(len(case.data))]) == case.expected
    middle = len(case.data) // 2
    assert outcome_of_core([case.data[:middle], case.data[middle:]]) == case.expected
