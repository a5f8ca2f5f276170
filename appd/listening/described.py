"""An endpoint description of Twisted's, as something that can listen.

What it binds through the reactor is bound as an address of appd's is: the supervisor keeps the socket, and the next
generation serves on it. What binds by itself (an onion service, say) is bound anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.endpoints import serverFromString

from appd.errors import HostError, Problem
from appd.listening.connections import Connections
from appd.listening.counted import CountingFactory
from appd.listening.listeners import located

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from appd.address import Address
    from appd.errors import Place
    from appd.listening.held import Held
    from appd.tls.termination import Termination

__all__ = ["DescribedListener"]


class DescribedListener:
    """A description that Twisted reads, like `haproxy:tcp:8080` or that of an endpoint plugin.

    Args:
        address: The address as the file has it.
        server: The name of the server, for messages.
        place: Where the address was written.

    Attributes:
        held: What keeps its sockets; None where nobody does.
    """

    kind = "stream"
    inherited = False
    tls: Termination | None = None
    held: Held | None = None

    def __init__(self, address: Address, *, server: str = "", place: Place | None = None) -> None:
        self.address = address
        self._server = server
        self._place = place
        self._port: Any = None

    def prepare(self) -> None:
        """Twisted binds when it listens."""

    def listen(self, reactor: Any, serves: Any, connections: Connections) -> Deferred[Any]:
        """See `Listener`.

        Connections are counted above what the description puts around them: behind a proxy the peer is known there.
        """
        if self.tls is not None:
            serves = self.tls.wrap(serves, reactor)
        if self.held is not None:
            from appd.listening.intercept import Taker, holding

            uncounted = Connections(lambda: None)
            reactor = holding(reactor, Taker(self.held, uncounted, reactor, lambda _port: None))
        try:
            listening: Deferred[Any] = serverFromString(reactor, self.address.text).listen(
                CountingFactory(serves, connections)
            )
        except Exception as error:  # a plugin's parser may raise anything
            reason = Problem(f"{self.address}: Twisted cannot listen there: {error}")
            number = getattr(getattr(error, "socketError", error), "errno", None)
            raise HostError(*located((reason,), self._server, self._place), number=number) from error

        def keep(port: Any) -> Any:
            self._port = port
            return port

        return listening.addCallback(keep)

    def release(self) -> None:
        """Closes what was bound; what Twisted has bound by itself went with the port."""
        if self.held is not None:
            self.held.release()

    @property
    def where(self) -> str:
        return str(self._port.getHost()) if self._port is not None else self.address.text

    @property
    def host_and_port(self) -> tuple[str, int | str]:
        return "localhost", self.address.text
