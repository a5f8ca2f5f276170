"""What a request is for: RFC 9112, 3.2 and 3.3."""

from __future__ import annotations

from appd.http.core.errors import Refused
from appd.startup.patterns import pattern
from appd.startup.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Target", "host_name", "known_host", "read_target"]

# RFC 3986, 3.2.2: reg-name or IP-literal, and a port that may be empty. No user: RFC 9110, 4.2.4.
_AUTHORITY = pattern(r"(?a)(\[[0-9a-f:.%v_~-]+\]|[a-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]{0,5})?\Z")
_ABSOLUTE = pattern(r"(?ia)https?://([^/?#]+)(/[^?]*)?(?:\?.*)?\Z")

# Authorities that were read, so that a host is taken apart once and not with every request. Any thread may write;
# whoever finds it full empties it.
_HOSTS: dict[str, str] = {}
_MOST_HOSTS = 1024
known_host = _HOSTS.get
"""The host of an authority that was read not long ago, or None."""


class Target(NamedTuple):
    """What a request is for.

    Attributes:
        authority: Host and port as the client wrote them; "" when it named none.
        host: The host, as `host_name` gives it.
        path: The path, still encoded; `*` for the server as a whole.
        query: What follows the first `?`, still encoded.
    """

    authority: str
    host: str
    path: str
    query: str


# RFC 1035, 2.3.4: no name is longer. What is remembered by host has a bound so.
_LONGEST = 255


def host_name(authority: str) -> str:
    """The host of an authority: lower case, without the port and a final dot.

    Raises:
        ValueError: It is none.
    """
    host = _HOSTS.get(authority)
    if host is None:
        match = _AUTHORITY.match(authority.lower())
        if match is None or len(match[1]) > _LONGEST:
            raise ValueError(f"{authority!r} is no host")
        host = match[1].removesuffix(".")
        if len(_HOSTS) >= _MOST_HOSTS:
            _HOSTS.clear()
        _HOSTS[authority] = host
    return host


def read_target(method: str, target: str, minor: int, hosts: Sequence[str]) -> Target:
    """Reads what a request is for.

    Args:
        method: The method.
        target: The request target: visible ASCII without `#`.
        minor: The minor version of HTTP.
        hosts: The values of the Host fields.

    Raises:
        Refused: It is for nothing that can be told.
    """
    if len(hosts) != 1:
        if hosts:
            raise Refused(400, "more than one Host field")
        if minor:
            raise Refused(400, "no Host field, which HTTP/1.1 wants")
    authority = hosts[0] if hosts else ""
    host = _host(authority, "the Host field")
    if method == "CONNECT":
        # RFC 9110, 9.3.6: for proxies; and the connection would be no longer HTTP.
        raise Refused(501, "CONNECT is for proxies")
    if target.startswith("/"):
        path, _, query = target.partition("?")
        return Target(authority, host, path, query)
    if target == "*":
        if method != "OPTIONS":
            raise Refused(400, "the target * with another method than OPTIONS")
        return Target(authority, host, target, "")
    match = _ABSOLUTE.match(target)
    if match is None:
        raise Refused(400, "the request target is of no known form")
    # The host of an absolute target counts, not the Host field (3.2.2), which must be valid all the same.
    authority = match[1]
    host = _host(authority, "the request target")
    if not host:
        # RFC 9110, 4.2.1
        raise Refused(400, "the request target names no host")
    query = target.partition("?")[2]
    # RFC 9112, 3.2.4: how a proxy asks the server as a whole.
    path = match[2] or ("*" if method == "OPTIONS" and not query else "/")
    return Target(authority, host, path, query)


def _host(authority: str, where: str) -> str:
    try:
        return host_name(authority)
    except ValueError:
        raise Refused(400, f"{where} names no host") from None
