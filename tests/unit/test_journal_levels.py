"""Which entries are wanted."""

import pytest

from appd.journal import DEBUG, ERROR, INFO, WARNING
from appd.journal.levels import Levels


def test_longest_prefix_of_whole_components_wins() -> None:
    """A level holds for a namespace and what lies below it, not for names that merely begin alike."""
    levels = Levels("warning", {"shop": "info", "shop.cart": "debug", "stderr": "critical"})
    assert levels.enabled("shop.cart.items", DEBUG)
    assert levels.enabled("shop.cart", DEBUG)
    assert not levels.enabled("shop.cartoon", DEBUG)
    assert levels.enabled("shop.cartoon", INFO)
    assert not levels.enabled("shopping", INFO)
    assert levels.enabled("shopping", WARNING)
    assert levels.enabled("", WARNING)
    assert not levels.enabled("stderr", ERROR)


def test_unknown_level() -> None:
    """A wrong name says which there are."""
    with pytest.raises(ValueError, match="'loud' is not a log level; use one of debug, info"):
        Levels("loud")
    with pytest.raises(ValueError, match="'loud'"):
        Levels("INFO", {"a": "loud"})


def test_invented_namespaces_are_forgotten() -> None:
    """A program that makes up namespaces does not make the process grow."""
    levels = Levels()
    for number in range(5000):
        assert levels.enabled(f"n{number}", INFO)
    assert len(levels._answers) <= 1024
