"""Which upstream is next, and which requests are sent again."""

from __future__ import annotations

import pytest

from appd.http.proxy.balance import Balance
from appd.http.proxy.retries import may_retry
from appd.http.proxy.upstream import Upstream


class Clock:
    """Time of the test's own."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def balance(count: int = 3, **options):
    clock = Clock()
    return Balance([Upstream("http", f"b{one}", 80) for one in range(count)], clock=clock, **options), clock


def hosts(one):
    return one.upstream.host


def test_the_one_with_the_fewest_open_requests():
    """And with equal loads they take turns."""
    those, _clock = balance()
    seen = []
    for _ in range(6):
        member = those.choose()
        those.begin(member)
        seen.append(hosts(member))
    assert seen == ["b0", "b1", "b2"] * 2
    those.end(those.members[1])
    assert hosts(those.choose()) == "b1"


def test_one_that_failed_is_passed_over_for_a_while():
    """And tried again afterwards."""
    those, clock = balance(2, pause=10)
    assert those.failed(those.members[0]) is True
    assert those.failed(those.members[0]) is False, "told once"
    assert hosts(those.choose()) == "b1"
    clock.now += 10
    assert hosts(those.choose()) == "b0"


def test_when_all_are_down_the_first_to_be_back_is_tried():
    """A refusal that is certain is worth nothing."""
    those, clock = balance(2, pause=10)
    those.failed(those.members[1])
    clock.now += 1
    those.failed(those.members[0])
    assert hosts(those.choose()) == "b1"
    assert hosts(those.choose([those.members[1]])) == "b0"
    assert those.choose(those.members) is None


def test_an_answer_makes_it_healthy():
    """Failures count in a row only."""
    those, _clock = balance(1, most_failures=2)
    (member,) = those.members
    those.failed(member)
    those.succeeded(member)
    assert those.failed(member) is False
    assert those.failed(member) is True


def test_never_passed_over():
    """most-failures 0."""
    those, _clock = balance(1, most_failures=0)
    assert not any(those.failed(those.members[0]) for _ in range(9))


@pytest.mark.parametrize(
    ("method", "reached", "body_begun", "expected"),
    [
        ("GET", False, False, True),
        ("GET", True, False, True),
        ("POST", False, False, True),
        ("POST", True, False, False),
        ("PATCH", True, False, False),
        ("PUT", True, False, True),
        ("PUT", True, True, False),
        ("PUT", False, True, False),
        ("DELETE", True, False, True),
        ("BREW", True, False, False),
    ],
)
def test_retries(method, reached, body_begun, expected):
    """RFC 9110, 9.2.2."""
    assert may_retry(method, reached=reached, body_begun=body_begun) is expected


def test_answers_that_are_none():
    """One says something of a request; some in a row, with no good one in between, of the upstream."""
    those, _clock = balance(2)
    first = those.members[0]
    assert [those.failed(first, garbled=True) for _ in range(2)] == [False, False]
    those.succeeded(first)
    assert [those.failed(first, garbled=True) for _ in range(3)] == [False, False, True]
    assert hosts(those.choose()) == "b1"
    those.succeeded(first)
    assert those.failed(first) is True
