"""What a server connects to, for `appd check --connect`. Nothing of OpenSSL is imported here: most starts need none."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from appd.tls.outgoing import Outgoing

__all__ = ["Target"]


class Target(NamedTuple):
    """Something that a server connects to.

    Attributes:
        host: A host name or an IP address; "" for a UNIX socket.
        port: The port.
        path: The path of a UNIX socket; "" for TCP.
        tls: How it speaks TLS there; None when it is plain.
    """

    host: str
    port: int = 0
    path: str = ""
    tls: Outgoing | None = None

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
