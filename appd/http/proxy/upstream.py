"""Where a proxy sends requests: one text ↔ one upstream."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["ALLOWED_FORMS", "Upstream", "read_upstream"]

ALLOWED_FORMS = "127.0.0.1:9000, [::1]:9000, name:9000, http://name:9000, https://name, /run/x.sock"

_URL = re.compile(r"(?i:(https?)://)?(\[[0-9a-fA-F:.]+\]|[^\[\]:/?#@\s]+)(?::([0-9]{1,5}))?/?\Z")
_PORTS = {"http": 80, "https": 443}


class Upstream(NamedTuple):
    """One server behind the proxy.

    Attributes:
        scheme: `http` or `https`.
        host: Its name or address, without brackets; "" for a UNIX socket.
        port: Its port; 0 for a UNIX socket.
        path: The UNIX socket; "" for TCP.
    """

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def authority(self) -> str:
        """Host and port as a URL has them; a UNIX socket is `localhost`, which no name server is asked for."""
        if self.path:
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        if self.path:
            return self.path
        if self.scheme == "https":
            return f"https://{self.authority}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def read_upstream(text: str) -> Upstream:
    """Reads an upstream.

    Args:
        text: As the file has it.

    Raises:
        ValueError: It is none; the message says what is allowed.
    """
    if text.startswith("/"):
        if "\0" in text or len(text.encode()) > 107:  # sun_path with its final NUL: unix(7)
            raise ValueError(f"{text!r} is no path of a UNIX socket: it is too long")
        return Upstream("http", path=text)
    match = _URL.match(text)
    if match is None:
        raise ValueError(f"{text!r} is no upstream: no path, query or user belongs there (allowed: {ALLOWED_FORMS})")
    scheme, host, port = (match[1] or "http").lower(), match[2], match[3]
    if port is None and match[1] is None:
        raise ValueError(f"{text!r} is no upstream: it has neither a port nor a scheme (allowed: {ALLOWED_FORMS})")
    number = int(port) if port is not None else _PORTS[scheme]
    if not 0 < number < 65536:
        raise ValueError(f"{text!r} is no upstream: ports are 1 to 65535")
    return Upstream(scheme, host.strip("[]"), number)
