"""Addresses + inherited sockets → listeners.

An address of kind `systemd` becomes one listener for each descriptor that it means. When nobody passed that name, a
socket of that name from `--bind` or a `<socket>` section is made instead. A socket that appd binds itself is from then
on treated as an inherited one.
"""

from __future__ import annotations

from appd.address import ALLOWED_FORMS, PREFIXES, Address
from appd.errors import Place
from appd.listening.binding import BindOptions, NamedSocket
from appd.listening.listeners import (
    BoundListener,
    InheritedListener,
    KeptListener,
    Listener,
    UnboundName,
)
from appd.systemd.activation import ClaimError, Inheritance
from appd.systemd.store import store_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["NamedSocket", "resolve"]


def resolve(
    address: Address,
    server: str,
    kinds: frozenset[str],
    inheritance: Inheritance | None,
    named: Mapping[str, NamedSocket],
    backlog: int | None = None,
    place: Place | None = None,
) -> Sequence[Listener]:
    """Finds or plans the sockets that an address means.

    Args:
        address: The address.
        server: The name of the server that wants it.
        kinds: What the server serves, of `stream` and `datagram`.
        inheritance: What systemd passed; None when that is not known (`appd check`).
        named: Name → socket to make when nothing of that name was inherited.
        backlog: The queue of listen(2), for sockets that appd makes.
        place: Where the address was written, for what the host refuses later.

    Raises:
        ClaimError: The address means nothing that the server can serve.
    """
    if address.kind == "twisted":
        _check_kind(address, "stream", kinds)
        _check_description(address)
        from appd.listening.described import DescribedListener

        return [DescribedListener(address, server=server, place=place)]
    if address.is_bound_by_appd:
        return [_plan(address, address, kinds, BindOptions(backlog=backlog), inheritance, server, place)]
    substitute = named.get(address.name) if address.name else None
    passed = inheritance is not None and (address.name in inheritance.by_name or substitute is None)
    if passed:
        assert inheritance is not None
        return [InheritedListener(address, one) for one in inheritance.claim(address, server, kinds)]
    if substitute is None:
        return [UnboundName(address)]
    options = substitute.options if substitute.options.backlog else substitute.options._replace(backlog=backlog)
    places = substitute.places or (place,) * len(substitute.addresses)
    return [
        _plan(address, one, kinds, options, inheritance, server, there)
        for one, there in _wanted(address, substitute, places)
    ]


def _plan(
    address: Address,
    bound: Address,
    kinds: frozenset[str],
    options: BindOptions,
    inheritance: Inheritance | None,
    server: str,
    place: Place | None,
) -> Listener:
    """A socket that the supervisor has kept, or one that is to be made."""
    _check_kind(address, "datagram" if bound.is_datagram else "stream", kinds)
    kept = inheritance.by_name.get(store_name(bound, server)) if inheritance is not None else None
    if kept:
        return KeptListener(address, kept[0], bound)
    return BoundListener(address, bound, options, server=server, place=place)


def _wanted(
    address: Address, substitute: NamedSocket, places: Iterable[Place | None]
) -> Sequence[tuple[Address, Place | None]]:
    """Those of a named socket's addresses that an address means."""
    those = list(zip(substitute.addresses, places, strict=True))
    if address.position is None:
        return those
    if address.position >= len(those):
        raise ClaimError(f"{address}: {substitute.origin} makes only {len(those)} of that name")
    return [those[address.position]]


def _check_kind(address: Address, kind: str, kinds: frozenset[str]) -> None:
    if kind not in kinds:
        raise ClaimError(f"{address} is a {kind} address, but the server takes {' or '.join(sorted(kinds))} sockets")


# Where systemd puts credentials: whoever is not that service does not see them, systemd.exec(5).
_CREDENTIALS = "/run/credentials/"
# What serverFromString knows without a plugin.
_NATIVE = frozenset({"ssl", "tcp", "unix"})


def _check_description(address: Address) -> None:
    """Has Twisted read a description; that makes an endpoint, and opens nothing.

    Raises:
        ClaimError: Nobody knows the prefix, or what follows it is wrong.
    """
    from twisted.internet import endpoints, interfaces, reactor
    from twisted.plugin import getPlugins

    prefix = address.text.partition(":")[0]
    plugins = {str(one.prefix).lower() for one in getPlugins(interfaces.IStreamServerEndpointStringParser)}
    if prefix not in _NATIVE and prefix.lower() not in plugins:
        import difflib

        known = plugins | _NATIVE
        near = difflib.get_close_matches(prefix.lower(), sorted(known | PREFIXES))
        hint = f": did you mean {' or '.join(f'{one}:' for one in near)}?" if near else ""
        raise ClaimError(
            f"{address}: no kind of address begins with {prefix!r}{hint} (allowed: {ALLOWED_FORMS}; "
            f"Twisted's: {', '.join(f'{one}:' for one in sorted(known - PREFIXES))})"
        )
    try:
        endpoints.serverFromString(reactor, address.text)
    except Exception as error:  # a plugin's parser may raise anything
        if isinstance(error, PermissionError) or str(getattr(error, "filename", "")).startswith(_CREDENTIALS):
            return  # `appd check` is not the service; where it is, listening says the same
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ClaimError(f"{address}: Twisted cannot read it: {reason}") from None
