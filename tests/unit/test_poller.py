"""The loop of the supervisor."""

from __future__ import annotations

import signal

import pytest

from appd.supervisor.poller import Poller


@pytest.fixture
def poller():
    """A poller; the handlers of signals are put back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    made = Poller()
    yield made
    made.close()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("step", ["signal", "siginterrupt", "set_wakeup_fd"])
def test_a_signal_while_its_handler_is_installed_is_not_lost(poller, step, monkeypatch):
    """Before each of the steps: whoever had it until then has it, or the loop, and once."""
    earlier: list[int] = []
    came: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, _frame: earlier.append(number))
    real = getattr(signal, step)

    def late(*arguments: object, **options: object) -> object:
        # To this thread, as the supervisor has no other: one of the process may be given to any that does not block it.
        signal.raise_signal(signal.SIGUSR1)
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(signal, step, late)
        poller.on_signal(signal.SIGUSR1, lambda: came.append(signal.SIGUSR1))
    poller.turn(0.0)
    assert [*earlier, *came] == [signal.SIGUSR1]


def test_two_signals_are_two(poller):
    """An operator who asks twice means it."""
    came: list[int] = []
    poller.on_signal(signal.SIGUSR2, lambda: came.append(1))
    for _ in range(2):
        signal.raise_signal(signal.SIGUSR2)
        # The kernel keeps one of a number that is pending; Python's handler runs before the next line.
        signal.sigpending()
    poller.turn(0.0)
    assert came == [1, 1]
