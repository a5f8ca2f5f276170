"""The order in which servers start: that of the file, but each after those that it names with `after`."""

from __future__ import annotations

from appd.errors import ConfigurationError, Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["in_order"]


def in_order(servers: Sequence[tuple[str, Sequence[str], Problem]]) -> list[str]:
    """Sorts servers so that each comes after those it names with `after`; otherwise the order of the file stands.

    Args:
        servers: Name, the names it comes after, and the problem to report (its place) when that cannot be.

    Returns:
        The names in the order of starting.

    Raises:
        ConfigurationError: A name is unknown, or they wait for each other.
    """
    if not any(after for _name, after, _problem in servers):
        return [name for name, _after, _problem in servers]
    from graphlib import CycleError, TopologicalSorter

    known = {name.lower(): name for name, _after, _problem in servers}
    problems = [
        problem._replace(message=f"after: there is no server {wanted!r}, only {', '.join(sorted(known.values()))}")
        for _name, after, problem in servers
        for wanted in after
        if wanted.lower() not in known
    ]
    if problems:
        raise ConfigurationError(*problems)
    graph: TopologicalSorter[str] = TopologicalSorter()
    for name, after, _problem in servers:
        graph.add(name, *(known[wanted.lower()] for wanted in after))
    try:
        ordered = list(graph.static_order())
    except CycleError as error:
        circle = error.args[1]
        problem = next(problem for name, _after, problem in servers if name == circle[0])
        raise ConfigurationError(
            problem._replace(message=f"after: servers wait for each other: {' after '.join(reversed(circle))}")
        ) from None
    position = {name: number for number, (name, _after, _problem) in enumerate(servers)}
    return _stable(ordered, position, {name: {known[one.lower()] for one in after} for name, after, _ in servers})


def _stable(ordered: Iterable[str], position: dict[str, int], after: dict[str, set[str]]) -> list[str]:
    """The order of the file wherever `after` leaves a choice."""
    left = sorted(ordered, key=position.__getitem__)
    done: list[str] = []
    while left:
        following = next(name for name in left if after[name] <= set(done))
        left.remove(following)
        done.append(following)
    return done
