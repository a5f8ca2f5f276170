"""The certificates of a worker outlive it: its supervisor holds them for the worker that takes its place.

A worker that runs keeps its certificates whatever comes to lie on the disk. So does, by this, one that is made anew in
the same generation: it looks at the files as a renewal does, and what a renewal would refuse it does without. They go
up in a sealed memfd that has no name, once when the worker serves and then with each renewal. The supervisor never
looks into it.

The first worker has everything; the others do not watch what runs in the first alone. So the supervisor holds what the
first has passed and what one of the others has, and who is given both takes the newer of each.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from appd.sealed import write_sealed
from appd.tls.kept import from_bytes, merged, to_bytes
from appd.tls.material import Material, Refused, read_material

if TYPE_CHECKING:
    from appd.errors import Problem
    from appd.systemd.notify import Notifier
    from appd.tls.policy import Policy
    from appd.tls.sources import Fingerprint

__all__ = ["Keeping", "read_or_keep"]


class _Holder(Protocol):
    """Something that has certificates, and says when it has others.

    Attributes:
        material: The certificates; None where they cannot be looked at.
        changed: Called when it has taken others, in any thread.
    """

    material: Material | None
    changed: Callable[[], None]


def read_or_keep(
    policy: Policy, former: Material | None, *, lenient: bool = False
) -> tuple[Material | None, list[Problem], Refused | None]:
    """Reads what a policy names; where that is refused, what the worker before this one had is taken.

    Args:
        policy: The policy.
        former: What that was; None without one.
        lenient: As for `read_material`.

    Returns:
        The material and what could not be looked at, as of `read_material`, and what was refused.

    Raises:
        Refused: There is nothing else.
    """
    try:
        return *read_material(policy, lenient=lenient, before=former), None
    except Refused as error:
        if former is None:
            raise
        return former, [], error


class Keeping:
    """What of a worker is kept.

    Args:
        given: What the supervisor held for it, each as `kept.to_bytes` wrote it.
        first: Whether it is the first of its generation, which has everything.
        notifier: What tells the supervisor.

    Attributes:
        later: Calls something in a moment, in the thread of the reactor; may be called in any. Until it is set nothing
            is passed up.
    """

    def __init__(self, given: Iterable[bytes], first: bool, notifier: Notifier) -> None:
        self.later: Callable[[Callable[[], None]], Any] | None = None
        self._former = merged(map(from_bytes, given))
        self._first = first
        self._notifier = notifier
        self._holders: dict[str, _Holder] = {}
        self._passed: dict[str, Fingerprint] = {name: one.fingerprint for name, one in self._former.items()}
        self._open: list[int] = []

    def former(self, name: str, policy: Policy) -> Material | None:
        """What the worker before this one had; None without one.

        Args:
            name: Whose it is.
            policy: How that speaks TLS.
        """
        return self._former.get(_key(name, policy))

    def hold(self, name: str, holder: _Holder, policy: Policy) -> None:
        """Has the certificates of somebody kept, those that it takes later too.

        Args:
            name: Whose they are.
            holder: Who has them.
            policy: How that speaks TLS.
        """
        self._holders[_key(name, policy)] = holder
        holder.changed = self._changed

    def begin(self, later: Callable[[Callable[[], None]], Any]) -> None:
        """The worker serves: from here on what it has is passed up.

        Args:
            later: See the attribute.
        """
        self.later = later
        self._former.clear()
        if not self._first:
            # The first one has told of the same files.
            for name, holder in self._holders.items():
                if holder.material is not None:
                    self._passed.setdefault(name, holder.material.fingerprint)
        self._changed()

    def _changed(self) -> None:
        if self.later is not None:
            self.later(self._pass_up)

    def _pass_up(self) -> None:
        """Passes all of it up, if the supervisor does not have it."""
        materials = {name: one.material for name, one in self._holders.items() if one.material is not None}
        now = {name: one.fingerprint for name, one in materials.items()}
        if all(self._passed.get(name) == one for name, one in now.items()):
            return
        try:
            descriptor = write_sealed("certificates", to_bytes(materials))
        except OSError:
            return
        self._passed = now
        self._notifier.tell(fds=[descriptor], also={"X_APPD_MATERIAL": "1"})
        self._open.append(descriptor)
        # The message may have to wait, and a number that is closed is soon another file's.
        waiting = {fd for _message, fds in self._notifier.keep() for fd in fds}
        for one in [one for one in self._open if one not in waiting]:
            self._open.remove(one)
            os.close(one)


def _key(name: str, policy: Policy) -> str:
    """What tells one policy from another in every worker of a generation, which all have the same file."""
    return "\n".join((name, str(policy.place), *(f"{one.key} {one.path}" for one in policy.sources)))
