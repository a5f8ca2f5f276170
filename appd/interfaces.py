"""What server types and their factories agree on with appd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appd.address import Address
    from appd.config.settings import Settings
    from appd.journal import Log
    from appd.listeners import Listener
    from appd.tls.termination import Termination

__all__ = ["Host", "IDrainable", "ISSHServerType", "ISSLServerType", "IServerType", "Section"]


class Host(NamedTuple):
    """What the process lends its servers.

    Attributes:
        reactor: The reactor.
        threads: A twisted.python.threadpool.ThreadPool for blocking calls. The process starts and stops it.
        settings: The settings of the file as a whole.
        log: The log of the process; None where there is none yet (`appd check`).
        shared: What servers of the process share among themselves, by dotted name of whoever put it there; and from
            appd `replace`, `inheritance`, `notifier` and `folder`, see `appd.assembly.build`.
    """

    reactor: Any
    threads: Any
    settings: Settings
    log: Log | None = None
    shared: dict[str, Any] = {}  # noqa: RUF012  # whoever makes a Host gives it its own


class Section(NamedTuple):
    """A section of the file that becomes a server.

    Attributes:
        settings: Its keys.
        listeners: Its addresses, resolved and not yet listening.
        host: What the process lends it.
        tls: What its `<tls>` asks for; None without one. A type that `starts_tls` calls `tls.starter(host.reactor)`.
    """

    settings: Settings
    listeners: Sequence[Listener]
    host: Host
    tls: Termination | None = None


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


class IDrainable(Interface):
    """A protocol factory that knows how to finish what is in flight. Optional."""

    def drain() -> None:
        """Begins to end the open connections, each as soon as what it has begun is answered.

        Called once, after the last connection was accepted. The connections count as drained when they are lost; those
        left at the end of `drain-timeout` are aborted.
        """
