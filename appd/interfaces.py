"""What server types and their factories agree on with appd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

from appd.lending import Host, Section

if TYPE_CHECKING:
    from appd.address import Address

__all__ = ["Host", "IDatagramBatches", "IDrainable", "ISSHServerType", "ISSLServerType", "IServerType", "Section"]


class IServerType(Interface):
    """A named factory of servers, as zope.app.twisted had it; `appd.servers.ServerType` is the usual one."""

    kinds: frozenset[str] = Attribute("The kinds of socket it serves: of `stream` and `datagram`.")
    starts_tls: bool = Attribute(
        "Whether its protocol can begin TLS in the middle of a connection (STARTTLS), so that a `<tls>` has a use "
        "without a `tls-address`; without the attribute it cannot."
    )
    limits: frozenset[str] = Attribute("The keys of `<limits>` that it has a use for; without the attribute none.")

    outgoing: bool = Attribute(
        "Whether its servers open connections of their own, so that a unit without a network is not for them; without"
        " the attribute no. A service that is made may say otherwise by an attribute of the same name."
    )

    def create(
        name: str,
        db: Any,
        ip: str | None = None,
        port: int | None = None,
        backlog: int = 50,
        address: Address | str | None = None,
        section: Section | None = None,
    ) -> Any:
        """Makes a server that is not started. It may import hosted code; it opens no socket and starts nothing.

        Args:
            name: What the server is called.
            db: The application object, None without one.
            ip: The IP address to listen on; None is the type's default, "" is all.
            port: The port; None is the type's default, 0 lets the kernel choose.
            backlog: The queue of listen(2).
            address: Any address, as text or `appd.address.Address`, in place of ip and port.
            section: The `Section` of a configuration file; with one, ip, port, backlog and address do not count.

        Returns:
            A twisted.application.service.IService. `appd.service.ServerService` drains and is counted; any other is
            started and stopped.

        Raises:
            appd.errors.ConfigurationError: The settings are wrong; every problem at once.
        """


class ISSLServerType(IServerType):
    """A server type of servers that speak TLS, made without a file."""

    def create(  # type: ignore[override]  # zope.app.twisted's contract
        name: str,
        db: Any,
        privateKeyPath: str,
        certificatePath: str,
        tls: bool = False,
        ip: str | None = None,
        port: int | None = None,
        backlog: int = 50,
        address: Address | str | None = None,
    ) -> Any:
        """Makes a server that is not started.

        Args:
            name: What the server is called.
            db: The application object, None without one.
            privateKeyPath: A PEM file; may be the same as `certificatePath`.
            certificatePath: A PEM file with the certificate and its chain.
            tls: Once chose TLSv1 over SSLv3; without effect.
            ip: The IP address to listen on; None is the type's default, "" is all.
            port: The port; None is the type's default, 0 lets the kernel choose.
            backlog: The queue of listen(2).
            address: Any address, in place of ip and port.

        Raises:
            appd.errors.ConfigurationError: The files are not what they should be; every problem at once.
        """


class ISSHServerType(IServerType):
    """A server type of servers that have a host key, made without a file."""

    def create(  # type: ignore[override]  # zope.app.twisted's contract
        name: str,
        db: Any,
        hostkey: str,
        ip: str | None = None,
        port: int | None = None,
        backlog: int = 50,
        address: Address | str | None = None,
    ) -> Any:
        """Makes a server that is not started.

        Args:
            name: What the server is called.
            db: The application object, None without one.
            hostkey: The file of the private host key.
            ip: The IP address to listen on; None is the type's default, "" is all.
            port: The port; None is the type's default, 0 lets the kernel choose.
            backlog: The queue of listen(2).
            address: Any address, in place of ip and port.

        Raises:
            appd.errors.ConfigurationError: There is no such file.
        """


class IDatagramBatches(Interface):
    """A DatagramProtocol that takes several datagrams at a time, in place of `datagramReceived`. Optional."""

    def datagramsReceived(datagrams: list[tuple[bytes, Any]]) -> None:
        """Takes what has come since the reactor last looked.

        Args:
            datagrams: Each with the address that it came from, the oldest first.
        """


class IDrainable(Interface):
    """A protocol factory that knows how to finish what is in flight. Optional."""

    def drain() -> None:
        """Begins to end the open connections, each as soon as what it has begun is answered.

        Called once, after the last connection was accepted. The connections count as drained when they are lost; those
        left at the end of `drain-timeout` are aborted.
        """
