"""One text, one address value, and back.

An address says where a server is reached: a descriptor that systemd passed (`systemd:name=web`), or a socket that appd
makes itself (`127.0.0.1:8080`, `udp:…`, `/run/x.sock`). The long forms use Twisted's endpoint spelling, where a
backslash escapes `:`, `=` and itself. Nothing here opens a socket or resolves a host name.

`parse(str(address)) == address` for every address that `parse` returns.
"""

from __future__ import annotations

from appd.startup.bare import socket
from appd.startup.patterns import pattern
from appd.startup.records import NamedTuple

__all__ = ["ALLOWED_FORMS", "PREFIXES", "Address", "AddressError", "parse", "parse_bind"]

ALLOWED_FORMS = (
    "systemd:name=NAME, systemd:name=NAME:position=N, systemd:index=N, 8080, 127.0.0.1:8080, [::1]:8080, "
    "/run/x.sock, tcp:8080:interface=HOST, tcp6:8080, unix:PATH, udp:5140:interface=HOST, unix-dgram:PATH"
)

DOMAINS = ("INET", "INET6", "UNIX")

# Names that begin a Twisted endpoint description of two parts and would otherwise read as HOST:PORT.
_TWISTED_PREFIXES = frozenset({"ssl", "tls", "haproxy", "stdio", "launchd", "fd"})

_STREAM_KINDS = frozenset({"tcp", "unix"})
_DATAGRAM_KINDS = frozenset({"udp", "unix-dgram"})

# FileDescriptorName= allows printable ASCII without a colon, at most 255 characters: systemd.socket(5).
_FD_NAME = pattern(r"[\x21-\x39\x3b-\x7e]{1,255}\Z")
_HOST_PORT = pattern(r"(?:(?P<host>\[[^\[\]]*\]|[^\[\]:/\s]*):)?(?P<port>\d+)\Z")
_PART = pattern(r"(?s)(?:^|:)((?:[^:\\]|\\.)*)")
_OPTION = pattern(r"(?s)((?:[^=\\]|\\.)*)=(.*)\Z")
_ESCAPED = pattern(r"(?s)\\(.)")
_LONE_BACKSLASH = pattern(r"(?:^|[^\\])(?:\\\\)*\\\Z")
_COUNT = pattern(r"[0-9]{1,9}\Z")
_PREFIX = pattern(r"[A-Za-z][A-Za-z0-9+_-]*\Z")
_OF_ITS_OWN = pattern(r"[^:]*:-?\d*[A-Za-z]*\Z")
_SPECIAL = pattern(r"([\\:=])")
_MODE = pattern(r"[0-7]{1,4}\Z")
_IPV6 = pattern(r"(?a)[0-9A-Fa-f:.]+(%[\w.-]+)?\Z")
_HOST = pattern(r"[A-Za-z0-9._-]+\Z")
_DOTTED = pattern(r"[\d.]+\Z")
# The longest path that fits sun_path with its final NUL: unix(7).
_MAX_UNIX_PATH = 107


class AddressError(ValueError):
    """The text is no address. The message says why and shows the allowed forms."""


class Address(NamedTuple):
    """Where a server is reached. Which fields matter depends on `kind`; the rest keep their defaults.

    Attributes:
        kind: `systemd`, `tcp`, `udp`, `unix`, `unix-dgram`, or `twisted` (a description that Twisted binds).
        host: For tcp and udp: an IP address or host name without brackets; "" listens on all, IPv6 and IPv4.
        port: For tcp and udp, 0 to 65535; 0 lets the kernel choose.
        path: For unix kinds: an absolute path, or `@name` in the abstract namespace.
        mode: For unix kinds: the permissions of the path; None keeps what the umask gives.
        backlog: For streams: the queue of listen(2); None is appd's default.
        name: For systemd: the FileDescriptorName=.
        position: For systemd: which of the sockets of that name; None is all of them.
        index: For systemd: the place in LISTEN_FDS, from 0.
        domain: For systemd: INET, INET6 or UNIX, checked against the socket; "" is not checked.
        text: For twisted: the description as written.
    """

    kind: str
    host: str = ""
    port: int = 0
    path: str = ""
    mode: int | None = None
    backlog: int | None = None
    name: str = ""
    position: int | None = None
    index: int | None = None  # type: ignore[assignment]  # shadows tuple.index, which nobody needs here
    domain: str = ""
    text: str = ""

    @property
    def is_stream(self) -> bool:
        """Whether it can only be a stream socket."""
        return self.kind in _STREAM_KINDS or self.kind == "twisted"

    @property
    def is_datagram(self) -> bool:
        """Whether it can only be a datagram socket."""
        return self.kind in _DATAGRAM_KINDS

    @property
    def is_bound_by_appd(self) -> bool:
        """Whether appd makes the socket itself."""
        return self.kind in _STREAM_KINDS or self.kind in _DATAGRAM_KINDS

    @property
    def identity(self) -> tuple[object, ...]:
        """What two addresses that mean the same place have in common, options aside."""
        if self.kind == "twisted":
            return (self.kind, self.text)
        return (self.kind, self.host, self.port, self.path, self.name, self.position, self.index)

    def __str__(self) -> str:
        printed: str = _PRINTERS[self.kind](self)
        return printed


def parse(text: str) -> Address:
    """Reads an address.

    Args:
        text: As written in the file or after `--bind NAME=`.

    Returns:
        The address; `str()` of it is the shortest text that reads back the same.

    Raises:
        AddressError: The text is none of the allowed forms.
    """
    try:
        return _parse(text)
    except _Wrong as reason:
        allowed = "" if isinstance(reason, _WrongPort) else f" (allowed: {ALLOWED_FORMS})"
        raise AddressError(f"{text!r} is not an address: {reason}{allowed}") from None


def parse_bind(text: str) -> tuple[str, Address]:
    """Reads what follows `--bind`: NAME=ADDRESS.

    Returns:
        The name and an address that appd can bind.

    Raises:
        ValueError: It is none.
    """
    name, equals, address = text.partition("=")
    if not equals or not name:
        raise ValueError(f"--bind {text}: write NAME=ADDRESS, like web=127.0.0.1:8080")
    try:
        parsed = parse(address)
    except AddressError as error:
        raise ValueError(f"--bind {text}: {error}") from None
    if not parsed.is_bound_by_appd:
        forms = "a port, HOST:PORT, a path, udp:… or unix-dgram:…"
        raise ValueError(f"--bind {text}: {address} is no address to bind: {forms}")
    return name, parsed


class _Wrong(Exception):
    """Why a text is no address."""


class _WrongPort(_Wrong):
    """One that says what is allowed: the list of forms would say no more."""


def _parse(text: str) -> Address:
    if not text:
        raise _Wrong("it is empty")
    if not text.isprintable() or " " in text:
        raise _Wrong("it contains a blank or a control character")
    if text[0] in "/@":
        return Address("unix", path=_path(text))
    prefix, colon, rest = text.partition(":")
    if colon and prefix in _READERS:
        return _READERS[prefix](prefix, rest)
    match = _HOST_PORT.match(text)
    if match is not None and prefix not in _TWISTED_PREFIXES:
        return Address("tcp", host=_host(match["host"] or ""), port=_port(match["port"]))
    if colon and _PREFIX.match(prefix):
        if _HOST_PORT.match(text) is None and _OF_ITS_OWN.match(text) and prefix not in _TWISTED_PREFIXES:
            raise _Wrong(f"{rest!r} is not a port number")
        return Address("twisted", text=text)
    if text.startswith("["):
        raise _Wrong("after [IPv6 address] a colon and a port number must follow")
    if text.count(":") > 1:
        raise _Wrong("an IPv6 address is written in brackets")
    raise _Wrong("it is neither a port, HOST:PORT, an absolute path nor a known prefix")


def _systemd(_prefix: str, rest: str) -> Address:
    _positional, options = _split(rest)
    if _positional:
        raise _Wrong(f"systemd: takes name=, index=, position= and domain=, not {_positional[0]!r}")
    _only(options, "systemd", "name", "index", "position", "domain")
    if ("name" in options) == ("index" in options):
        raise _Wrong("systemd: needs exactly one of name= and index=")
    if "position" in options and "name" not in options:
        raise _Wrong("position= goes with name=")
    name = options.get("name", "")
    if "name" in options and not _FD_NAME.match(name):
        raise _Wrong(f"{name!r} is no FileDescriptorName: 1 to 255 printable ASCII characters without a colon")
    domain = options.get("domain", "")
    if domain and domain not in DOMAINS:
        raise _Wrong(f"domain={domain} is not one of {', '.join(DOMAINS)}")
    return Address(
        "systemd",
        name=name,
        position=_count(options, "position"),
        index=_count(options, "index"),
        domain=domain,
    )


def _internet(prefix: str, rest: str) -> Address:
    kind = "udp" if prefix.startswith("udp") else "tcp"
    backlog = ("backlog",) if kind == "tcp" else ()
    match = _HOST_PORT.match(rest)
    if match is not None and match["host"] is not None:  # udp:127.0.0.1:5140, what people write
        return Address(kind, host=_host(match["host"]), port=_port(match["port"]))
    positional, options = _split(rest)
    if len(positional) > 1:
        raise _Wrong(f"{prefix}: takes one port, then options; {positional[1]!r} is neither")
    _only(options, prefix, "port", "interface", *backlog)
    if bool(positional) == ("port" in options):
        raise _Wrong(f"{prefix}: needs exactly one port")
    wildcard = "::" if prefix.endswith("6") else "0.0.0.0"
    return Address(
        kind,
        host=_host(options["interface"]) if options.get("interface") else wildcard,
        port=_port(positional[0] if positional else options["port"]),
        backlog=_count(options, "backlog", least=1),
    )


def _unix(prefix: str, rest: str) -> Address:
    allowed = ("address", "mode", "backlog", "lockfile") if prefix == "unix" else ("address", "mode")
    positional, options = _split(rest)
    if len(positional) > 1:
        raise _Wrong(f"{prefix}: takes one path, then options; {positional[1]!r} is neither")
    _only(options, prefix, *allowed)
    if bool(positional) == ("address" in options):
        raise _Wrong(f"{prefix}: needs exactly one path")
    # Twisted's lockfile= proves that a listener is alive. appd asks the socket itself: both values mean the same.
    if options.get("lockfile", "0") not in ("0", "1"):
        raise _Wrong("lockfile= is 0 or 1")
    return Address(
        prefix,
        path=_path(positional[0] if positional else options["address"]),
        mode=_mode(options["mode"]) if "mode" in options else None,
        backlog=_count(options, "backlog", least=1),
    )


_READERS = {
    "systemd": _systemd,
    "tcp": _internet,
    "tcp6": _internet,
    "udp": _internet,
    "udp6": _internet,
    "unix": _unix,
    "unix-dgram": _unix,
}
# The prefixes of the long forms, without their colon.
PREFIXES = frozenset(_READERS)


def _split(text: str) -> tuple[list[str], dict[str, str]]:
    """Splits Twisted's `a:b:c=d` with backslash escapes into positional parts and options."""
    positional: list[str] = []
    options: dict[str, str] = {}
    for part in _PART.findall(text):
        match = _OPTION.match(part)
        if match is None:
            if options:
                raise _Wrong(f"{part!r} comes after an option and is none")
            positional.append(_unescape(part))
        elif (key := _unescape(match[1])) in options:
            raise _Wrong(f"{key}= is there twice")
        else:
            options[key] = _unescape(match[2])
    if _LONE_BACKSLASH.search(text):
        raise _Wrong("it ends in a lone backslash")
    return positional if any(positional) or len(positional) > 1 else [], options


def _unescape(text: str) -> str:
    return _ESCAPED.sub(r"\1", text) if "\\" in text else text


def _escape(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)


def _only(options: dict[str, str], prefix: str, *allowed: str) -> None:
    for key in options:
        if key not in allowed:
            raise _Wrong(f"{prefix}: has no option {key}=, only {', '.join(f'{one}=' for one in allowed)}")


def _port(text: str) -> int:
    if not _COUNT.match(text):
        raise _Wrong(f"{text!r} is not a port number")
    if int(text) > 65535:
        raise _WrongPort(f"port {text} is out of the range 0 to 65535")
    return int(text)


def _count(options: dict[str, str], key: str, least: int = 0) -> int | None:
    if key not in options:
        return None
    if not _COUNT.match(options[key]) or int(options[key]) < least:
        raise _Wrong(f"{key}={options[key]} is not a number from {least} on")
    return int(options[key])


def _mode(text: str) -> int:
    if not _MODE.match(text):
        raise _Wrong(f"mode={text} is not an octal file mode like 660")
    return int(text, 8)


def _host(text: str) -> str:
    if text.startswith("["):
        text = text[1:-1]
        if not _IPV6.match(text) or not _is_ipv6(text.partition("%")[0]):
            raise _Wrong(f"[{text}] is not an IPv6 address")
        return text.lower()
    if text == "*":
        return ""
    if ":" in text:  # after interface=, where Twisted wants no brackets
        return _host(f"[{text}]")
    if text and not _HOST.match(text):
        raise _Wrong(f"{text!r} is not a host name or IP address")
    if _DOTTED.match(text) and not _is_ipv4(text):
        raise _Wrong(f"{text!r} is not an IPv4 address")
    name = text.removesuffix(".")
    # RFC 1035, 2.3.4: 255 octets on the wire are 253 characters here.
    if text and (len(name) > 253 or not all(0 < len(label) < 64 for label in name.split("."))):
        raise _Wrong(f"{text!r} is not a host name: 1 to 63 characters between dots, at most 253 together")
    return text.lower()


def _is_ipv6(text: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6, text)
    except OSError:
        return False
    return True


def _is_ipv4(text: str) -> bool:
    parts = text.split(".")
    return len(parts) == 4 and all(part and len(part) <= 3 and int(part) < 256 for part in parts)


def _path(text: str) -> str:
    if not text:
        raise _Wrong("the path is empty")
    if text[0] not in "/@":
        raise _Wrong(f"the path {text!r} is not absolute (and no @name of the abstract namespace)")
    if text[0] == "@" and len(text) == 1:
        raise _Wrong("the abstract name after @ is empty")
    if len(text.encode("utf-8", "surrogateescape")) > _MAX_UNIX_PATH:
        raise _Wrong(f"the path is longer than the {_MAX_UNIX_PATH} bytes that unix(7) allows")
    return text


def _print_internet(self: Address) -> str:
    prefix = "" if self.kind == "tcp" else "udp:"
    if self.host == "":
        if self.kind == "udp":
            return f"udp:*:{self.port}"
        if self.backlog is None:
            return str(self.port)
        return f"tcp:{self.port}:interface=*:backlog={self.backlog}"
    if self.backlog is not None:
        return f"tcp:{self.port}:interface={_escape(self.host)}:backlog={self.backlog}"
    host = f"[{self.host}]" if ":" in self.host else self.host
    if self.kind == "tcp" and self.host in _TWISTED_PREFIXES | _READERS.keys():
        return f"tcp:{self.port}:interface={self.host}"
    return f"{prefix}{host}:{self.port}"


def _print_unix(self: Address) -> str:
    if self.kind == "unix" and self.mode is None and self.backlog is None:
        return self.path
    mode = "" if self.mode is None else f":mode={self.mode:o}"
    backlog = "" if self.backlog is None else f":backlog={self.backlog}"
    return f"{self.kind}:{_escape(self.path)}{mode}{backlog}"


def _print_systemd(self: Address) -> str:
    domain = f"domain={self.domain}:" if self.domain else ""
    if self.index is not None:
        return f"systemd:{domain}index={self.index}"
    position = "" if self.position is None else f":position={self.position}"
    return f"systemd:{domain}name={_escape(self.name)}{position}"


_PRINTERS = {
    "tcp": _print_internet,
    "udp": _print_internet,
    "unix": _print_unix,
    "unix-dgram": _print_unix,
    "systemd": _print_systemd,
    "twisted": lambda self: self.text,
}
