"""Settings + what was inherited → which sockets each server gets: decided before anything is made.

Every problem is found here that can be found without importing hosted code or binding anything: names that nobody
passed, wrong kinds, two servers of one name, an address twice, a circle in `after`, a `<socket>` that cannot be made.
"""

from __future__ import annotations

from appd.address import Address
from appd.config.settings import Settings
from appd.errors import ConfigurationError, Place, Problem
from appd.limits import unused_limits
from appd.listening.binding import BindOptions, NamedSocket, group_id, user_id
from appd.listening.endpoints import resolve
from appd.listening.listeners import Listener
from appd.registry import Registration, Registry
from appd.startup.bare import suppress
from appd.startup.patterns import pattern
from appd.startup.records import NamedTuple
from appd.systemd.activation import ClaimError, Inheritance, takes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from appd.interfaces import IServerType
    from appd.tls.keeping import Keeping
    from appd.tls.termination import Termination

__all__ = [
    "Plan",
    "PlannedServer",
    "claims_later",
    "every_address",
    "make_plan",
    "mentioned",
    "server_name",
    "unclaimed",
    "unserved",
]

_MENTIONED = pattern(r"systemd:(?:[^\s\"':]+:)*?name=([^\s\"':]+)")


class PlannedServer(NamedTuple):
    """One server: its name, its section, its type, its sockets."""

    name: str
    settings: Settings
    registration: Registration
    server_type: IServerType
    listeners: Sequence[Listener]
    tls: Termination | None = None


class Plan(NamedTuple):
    """The servers in the order of starting, what an administrator should be told, and what names stand for."""

    servers: Sequence[PlannedServer]
    warnings: Sequence[Problem]
    named: Mapping[str, NamedSocket]


def server_name(settings: Settings) -> str:
    """What a server is called: its section's name, else its type and its first address as written."""
    if settings.name:
        return settings.name
    if "address" not in settings.values:
        return settings.section_type
    key, _number, first = next(iter(every_address(settings)), ("", 0, None))
    if settings.section_type != "server":
        return f"{settings.section_type}:{settings.written[key][0] if first else 'localhost'}"
    if first is not None and first.kind in ("tcp", "udp"):
        host = first.host or "localhost"
        return f"{settings.type}:{f'[{host}]' if ':' in host else host}:{first.port}"
    return f"{settings.type}:{settings.written[key][0] if first else 'localhost'}"


def every_address(settings: Settings) -> list[tuple[str, int, Address]]:
    """The addresses of a server, plain, with TLS, for data: the attribute, which of its values, the address.

    Args:
        settings: The section of the server. One that does not extend `appd.listener` may know no TLS.
    """
    return [
        (attribute, number, address)
        for attribute in ("address", "tls_address", "passive_address")
        for number, address in enumerate(settings.values.get(attribute) or ())
    ]


def make_plan(
    settings: Settings,
    registry: Registry,
    inheritance: Inheritance | None,
    binds: Mapping[str, Sequence[Address]],
    keeping: Callable[[], Keeping] | None = None,
) -> Plan:
    """Gives each server its sockets.

    Args:
        settings: The settings of the file.
        registry: Where server types are found.
        inheritance: What systemd passed; None when that is not known (`appd check`).
        binds: Name → addresses of `--bind`.
        keeping: Called for what keeps certificates for the worker after this one; None where there will be none.

    Returns:
        The plan. The descriptors in it are claimed.

    Raises:
        ConfigurationError: Every problem at once.
    """
    problems: list[Problem] = []
    warnings = [Problem(message, place) for message, place in settings.values.get("obsolete", ())]
    if not settings.servers:
        problems.append(
            settings.problem("the file has no server: add a section like <http>; `appd types` lists what there is")
        )
    named = _named_sockets(settings, binds, inheritance, warnings)
    names = _unique_names(settings, problems)
    _addresses_once(settings, problems)
    for one in settings.sockets:
        problems += _wrong_options(one)
    planned: dict[str, PlannedServer] = {}
    idles = settings.idle_exit is not None
    for one in settings.servers:
        found = _server(one, names[id(one)], registry, inheritance, named, idles, keeping, problems, warnings)
        if found is not None:
            planned[found.name] = found
    later = any(claims_later(one) for one in planned.values())
    if inheritance is not None and not problems and not later:
        unclaimed(settings, inheritance, problems, warnings)
    if problems:
        raise ConfigurationError(*problems)
    return Plan(_ordered(list(planned.values())), warnings, named)


def _ordered(servers: Sequence[PlannedServer]) -> list[PlannedServer]:
    from appd.worker.order import in_order

    by_name = {one.name: one for one in servers}
    waits = [(one.name, one.settings.after, one.settings.problem("", "after")) for one in servers]
    return [by_name[name] for name in in_order(waits)]


def _unique_names(settings: Settings, problems: list[Problem]) -> dict[int, str]:
    names: dict[int, str] = {}
    seen: dict[str, Place] = {}
    for one in settings.servers:
        name = server_name(one)
        earlier = seen.setdefault(name.lower(), one.place)
        if earlier is not one.place:
            problems.append(
                one.problem(f"a second server is called {name!r}; the first is at {earlier}: name the section")
            )
        names[id(one)] = name
    return names


def _addresses_once(settings: Settings, problems: list[Problem]) -> None:
    """An address that stands twice would be bound or claimed twice."""
    written = [(one.where(key, n), at, False) for one in settings.servers for key, n, at in every_address(one)]
    written += [
        (one.where("listen", n), at, one.reuse_port) for one in settings.sockets for n, at in enumerate(one.listen)
    ]
    # For each place its parts that are taken; None is all of it.
    seen: dict[tuple[object, ...], dict[int | None, Place]] = {}
    for place, address, shared in sorted(written, key=lambda one: one[0]):
        if address is None or (address.kind in ("tcp", "udp") and address.port == 0):
            continue
        taken = seen.setdefault(_contested(address), {})
        # With SO_REUSEPORT each socket has a part of its own.
        part = -len(taken) - 1 if shared and not address.path else address.position
        clash = taken.get(part) or taken.get(None)
        if clash is None and part is None:
            clash = next(iter(taken.values()), None)
        if clash is not None:
            problems.append(Problem(f"address {address} is there twice; the first is at {clash}", place))
        taken.setdefault(part, place)


def _contested(address: Address) -> tuple[object, ...]:
    """What addresses that exclude each other have in common."""
    if address.kind == "systemd" and address.name:
        return ("name", address.name)
    # A path holds one socket of whatever kind; abstract names are apart for streams and datagrams.
    return ("path", address.path) if address.path.startswith("/") else address.identity


def _wrong_options(settings: Settings) -> list[Problem]:
    """What a `<socket>` says in vain, and owners that there are not."""
    listen: Sequence[Address] = settings.listen
    wrong: list[tuple[str, str]] = []
    if not any(one.path.startswith("/") for one in listen):
        wrong += [
            (key, f"{key} is for UNIX paths, and no listen address is one")
            for key in ("mode", "user", "group")
            if getattr(settings, key) is not None
        ]
    if settings.bind_ipv6_only is not None and not any(_may_be_ipv6(one) for one in listen):
        wrong.append(("bind_ipv6_only", "bind-ipv6-only is for IPv6 addresses, and no listen address is one"))
    for key, number_of in (("user", user_id), ("group", group_id)):
        try:
            if getattr(settings, key) is not None:
                number_of(getattr(settings, key))
        except ValueError as error:
            wrong.append((key, str(error)))
    return [settings.problem(f"<socket {settings.name}>: {message}", key) for key, message in wrong]


def _may_be_ipv6(address: Address) -> bool:
    """Whether it is one, all interfaces, or a host name, which may have one."""
    is_ipv4 = address.host.replace(".", "").isdecimal()
    return address.kind in ("tcp", "udp") and not is_ipv4


def _server(
    settings: Settings,
    name: str,
    registry: Registry,
    inheritance: Inheritance | None,
    named: Mapping[str, NamedSocket],
    idles: bool,
    keeping: Callable[[], Keeping] | None,
    problems: list[Problem],
    warnings: list[Problem],
) -> PlannedServer | None:
    registration = registry.find(settings.section_type)
    assert registration is not None, "the loader made this section with its server type"
    try:
        server_type = registration.load()
    except ConfigurationError as error:
        problems += [one._replace(place=one.place or settings.place) for one in error.problems]
        return None
    problems += unused_limits(settings, name, f"<{settings.section_type}>", getattr(server_type, "limits", frozenset()))
    kinds: frozenset[str] = getattr(server_type, "kinds", frozenset({"stream"}))
    listeners: list[Listener] = []
    tls: Termination | None = None
    if settings.values.get("tls") is not None or settings.values.get("tls_address"):
        from appd.worker.terminations import termination_of

        starts_tls = getattr(server_type, "starts_tls", False)
        tls = termination_of(settings, name, starts_tls, inheritance is None, keeping, problems, warnings)
    for attribute, number, address in every_address(settings):
        try:
            place = settings.where(attribute, number)
            if attribute == "tls_address" and address.kind == "twisted" and address.text.startswith(("ssl:", "tls:")):
                raise ClaimError(f"{address.text.partition(':')[0]}: speaks TLS already: make it an address")
            found = resolve(address, name, kinds, inheritance, named, settings.backlog, place)
            if attribute == "tls_address":
                _over_tls(address, found, tls)
        except ClaimError as error:
            problems.append(settings.problem(f"server {name!r}: {error}", attribute, number))
            continue
        listeners += found
        if idles and (refusal := _not_kept(address, found, inheritance)):
            problems.append(settings.problem(f"server {name!r}: {refusal}", attribute, number))
        if settings.backlog and any(one.inherited for one in found):
            warnings.append(
                settings.problem(
                    f"server {name!r}: backlog {settings.backlog} does not count for {address}: "
                    "Backlog= of the .socket unit does",
                    "backlog",
                )
            )
    # What listens nowhere has no such key; of those that have, a type may say that it goes without.
    if not every_address(settings) and "address" in settings.values and getattr(server_type, "needs_address", True):
        problems.append(
            settings.problem(
                f"server {name!r} has no address: add one like `address systemd:name=web` or `address 8080`"
            )
        )
    return PlannedServer(name, settings, registration, server_type, listeners, tls)


def _over_tls(address: Address, listeners: Sequence[Listener], tls: Termination | None) -> None:
    """Has the listeners of a `tls-address` speak TLS.

    Raises:
        ClaimError: They are no streams.
    """
    for one in listeners:
        if one.kind == "datagram":
            raise ClaimError(f"{address} is a datagram address, and TLS is for streams")
        one.tls = tls


def _not_kept(address: Address, found: Sequence[Listener], inheritance: Inheritance | None) -> str:
    """Why an address is none that wakes a service which has ended for lack of something to do; "" when it is one."""
    if all(one.inherited for one in found) or (inheritance is None and address.kind == "systemd"):
        return ""
    return (
        f"idle-exit is for sockets that systemd keeps, and {address} is bound by appd: "
        "have a .socket unit listen there and write systemd:name=…, or remove idle-exit"
    )


def _named_sockets(
    settings: Settings,
    binds: Mapping[str, Sequence[Address]],
    inheritance: Inheritance | None,
    warnings: list[Problem],
) -> dict[str, NamedSocket]:
    named = {
        one.name: NamedSocket(
            tuple(one.listen),
            BindOptions(one.backlog, one.mode, one.user, one.group, one.bind_ipv6_only, one.reuse_port),
            f"<socket {one.name}> at {one.place}",
            tuple(one.where("listen", number) for number in range(len(one.listen))),
        )
        for one in settings.sockets
    }
    wanted = {
        address.name for one in settings.servers for _key, _n, address in every_address(one) if address is not None
    }
    wanted |= {name for one in settings.servers for name in mentioned(one)}
    for name, addresses in binds.items():
        named[name] = NamedSocket(tuple(addresses), named[name].options if name in named else BindOptions(), "--bind")
        if inheritance is not None and name in inheritance.by_name:
            warnings.append(
                Problem(f"--bind {name}={addresses[0]} does not count: systemd passed a socket of that name")
            )
        elif name not in wanted:
            warnings.append(Problem(f"--bind {name}={addresses[0]}: no server has the address systemd:name={name}"))
    for one in settings.sockets:
        if one.name not in wanted:
            warnings.append(one.problem(f"<socket {one.name}>: no server has the address systemd:name={one.name}"))
    return named


def claims_later(planned: PlannedServer) -> bool:
    """Whether a server may claim sockets when it is made, after the plan."""
    return bool(getattr(planned.server_type, "claims_later", False))


def mentioned(settings: Settings) -> set[str]:
    """The names of sockets that a server may claim when it is made, as far as its arguments or its file say them."""
    texts = list(settings.values.get("arguments") or ())
    if settings.section_type == "tac" and settings.file:
        with suppress(OSError, UnicodeDecodeError), open(settings.file) as file:
            texts.append(file.read())
    return {name for text in texts for name in _MENTIONED.findall(text)}


def unclaimed(settings: Settings, inheritance: Inheritance, problems: list[Problem], warnings: list[Problem]) -> None:
    """Adds a problem or a warning for each descriptor that no server has claimed."""
    for one in inheritance.unclaimed():
        why = f" ({one.refusal})" if one.refusal else ""
        mend = "add its address to a server, or remove it from the .socket unit"
        message = f"{one} was inherited and no server claims it{why}: {mend}"
        if settings.strict_sockets:
            problems.append(settings.problem(f"{message}; strict-sockets is on", "strict_sockets"))
        else:
            warnings.append(Problem(message))


def unserved(planned: PlannedServer, service: Any, idles: bool) -> list[Problem]:
    """What only the finished server shows: sockets of a kind that it does not serve, and whether it can rest.

    Args:
        planned: The server, of which `<server>` finds out this late what it takes.
        service: What its type made.
        idles: Whether the file has idle-exit.
    """
    from appd.service import ServerService

    name, settings = planned.name, planned.settings
    if not isinstance(service, ServerService) or not service.rests:
        which = service.type_name if isinstance(service, ServerService) else type(service).__name__
        what = f"idle-exit is for servers that appd counts the connections of, and {which} is none"
        return [settings.problem(f"server {name!r}: {what}", "")] if idles else []
    return [
        settings.problem(
            f"server {name!r}: {one.address} is a {one.kind} socket, but {service.type_name} takes "
            f"{takes(service.kinds)}: see the .socket unit",
            "address",
        )
        for one in service.listeners
        if one.kind and ("stream" if one.kind == "connection" else one.kind) not in service.kinds
    ]
