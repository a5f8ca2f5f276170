"""Sockets for services that bind by themselves: those that were inherited, and those that outlive a generation.

A service of Twisted's calls `reactor.listenTCP` or reads an endpoint description like `systemd:domain=INET:name=web`.
For appd's own servers a plan has decided by then which socket is whose; these ask when they are made or started. What
they bind goes to the supervisor like the sockets of the plan, and the next generation finds it there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from appd.address import Address
from appd.listening.binding import BindOptions, NamedSocket
from appd.listening.endpoints import resolve
from appd.listening.listeners import BoundListener, KeptListener, Listener
from appd.systemd.store import store_name

if TYPE_CHECKING:
    from appd.errors import Place
    from appd.systemd.activation import Inheritance
    from appd.systemd.notify import Notifier

__all__ = ["Held"]


class Held:
    """The sockets of one such service.

    Args:
        server: The name of the server.
        inheritance: What systemd passed and the supervisor has kept; None when that is not known (`appd check`).
        named: Name → socket to make when nothing of that name was inherited.
        notifier: What tells the supervisor; None without one.
        place: Where the service was asked for.

    Attributes:
        listeners: Those that it has so far.

    Resource handling: `release` closes what was bound.
    """

    def __init__(
        self,
        server: str,
        inheritance: Inheritance | None,
        named: Mapping[str, NamedSocket],
        notifier: Notifier | None,
        place: Place,
    ) -> None:
        self._server = server
        self._inheritance = inheritance
        self._named = named
        self._notifier = notifier
        self._place = place
        self.listeners: list[Listener] = []

    def inherited(self, address: Address) -> Sequence[Listener]:
        """The sockets that a description means.

        Args:
            address: An address of kind `systemd`.

        Raises:
            ClaimError: It means nothing that can be served as a stream.
        """
        kinds = frozenset({"stream"})
        found = resolve(address, self._server, kinds, self._inheritance, self._named, None, self._place)
        self.listeners += found
        return found

    def bound(self, address: Address, backlog: int | None = None) -> Listener:
        """The socket that a service asks to be bound: one that was kept, or a new one, which is kept from now on.

        Args:
            address: Where.
            backlog: The queue of listen(2).

        Raises:
            HostError: The host refuses.
        """
        name = store_name(address, self._server)
        kept = self._inheritance.by_name.get(name) if self._inheritance is not None else None
        made: KeptListener | BoundListener
        if kept:
            made = KeptListener(address, kept[0], address)
        else:
            made = BoundListener(address, address, BindOptions(backlog=backlog), server=self._server, place=self._place)
        self.listeners.append(made)
        self.keep(made)
        return made

    def keep(self, listener: Listener) -> None:
        """Makes a socket and has the supervisor keep it; once more if it did, since nobody asks for it in the file."""
        listener.prepare()
        if self._notifier is None:
            return
        if isinstance(listener, BoundListener):
            listener.stored = listener.store_name
        stored = getattr(listener, "stored", "")
        if stored:
            words: dict[str, Any] = {"FDSTORE": "1", "FDNAME": stored, "X_APPD_KEEPS": stored}
            self._notifier.tell(fds=[listener.fileno()], also=words)  # type: ignore[attr-defined]  # those of sockets

    def release(self) -> None:
        """Closes what was bound.

        Raises:
            OSError: The path of a UNIX socket is left behind.
        """
        for one in self.listeners:
            one.release()
