"""Text of the keys of `<http>` → plain values; see `appd.config.datatypes`."""

from __future__ import annotations

import re

from appd.config.datatypes import colon_hint, dotted, one_of, path, placed
from appd.http.core.fields import OF_THE_CONNECTION, is_token, is_value
from appd.http.core.target import host_name
from appd.http.proxy.upstream import read_upstream
from appd.http.routing import segments_of

__all__ = [
    "access_log",
    "application",
    "charset",
    "file_name",
    "header",
    "host",
    "lifespan",
    "location",
    "mount_path",
    "network",
    "redirect_status",
    "upstream",
]

access_log = one_of("off", "journal", "combined")
lifespan = one_of("auto", "on", "off")

# RFC 9110, 15.4: those that say where to, and to all clients.
redirect_status = one_of("301", "302", "303", "307", "308")

_URL = re.compile(r"(?:https?://(?P<authority>[^/?#]*))?(?P<path>/[^?#]*)?(?P<rest>[?#].*)?\Z", re.I)
# RFC 2978, 2.3
_CHARSET = re.compile(r"[A-Za-z0-9!#$%&'+^_`{}~-]+\Z")

# What appd says itself about each response.
_OURS = OF_THE_CONNECTION | {"content-length", "date"}


def mount_path(text: str) -> str:
    """The path of a mount, with or without percent-encoding; a slash at its end means nothing."""
    if not text.startswith("/"):
        raise ValueError(f"{text!r} does not start with /")
    if any(one in text for one in "?#"):
        raise ValueError(f"{text!r} holds ? or #: a path ends before them, or has %3F or %23")
    shortened = text.rstrip("/")
    segments = segments_of(shortened)
    if segments is None:
        raise ValueError(f"{text!r} holds . or .. as a part, or a NUL")
    if shortened and any(not one or b"/" in one for one in segments):
        raise ValueError(f"{text!r} holds an empty part or an encoded slash")
    return shortened or "/"


def host(text: str) -> str:
    """A host, as `Host:` names it: lower case, without a port."""
    if "*" in text:
        raise ValueError(f"{text!r}: a host is one name, without *")
    try:
        return host_name(text if text.isascii() else text.encode("idna").decode())
    except ValueError:  # UnicodeError is one
        raise ValueError(f"{text!r} is not a host name or an IP address") from None


def header(text: str) -> tuple[str, str]:
    """A header field, `NAME VALUE`."""
    name, *rest = text.split(None, 1)
    if not rest:
        raise ValueError(f"{text!r} is not of the form NAME VALUE")
    value = rest[0].strip()
    if not is_token(name):
        raise ValueError(f"{name!r} is no name of a header: letters, digits and !#$%&'*+-.^_`|~ (RFC 9110)")
    if not is_value(value) or not value.isascii():
        raise ValueError(f"{name}: {value!r} is no value of a header: printable ASCII, spaces and tabs (RFC 9110)")
    if name.lower() in _OURS:
        raise ValueError(f"{name} is not yours to set: appd says it of each response")
    return name, value


def file_name(text: str) -> str:
    """The name of a file in a folder."""
    if "/" in text or "\0" in text or text in ("", ".", ".."):
        raise ValueError(f"{text!r} is not the name of a file")
    return text


@placed
def application(text: str, file: str) -> str:
    """A name of hosted code: `package.module:name`, or `/srv/shop/wsgi.py:name`, relative to the file with the line."""
    place, colon, name = text.rpartition(":")
    if "/" not in place and not place.endswith(".py"):
        try:
            return dotted(text)
        except ValueError:
            forms = "package.module:name or /path/file.py:name"
            raise ValueError(f"{text!r} is not of the form {forms}{colon_hint(text)}") from None
    if not colon or not all(one.isidentifier() for one in name.split(".")):
        raise ValueError(f"{text!r} is not of the form /path/file.py:name")
    return f"{path(place, file)}:{name}"


def charset(text: str) -> str:
    """The name of a charset, or `off`: "" then."""
    if text.lower() == "off":
        return ""
    if not _CHARSET.match(text):
        raise ValueError(f"{text!r} is neither off nor the name of a charset like utf-8")
    return text.lower()


def location(text: str) -> str:
    """Where a redirect leads: a URL of http or https, or a path."""
    if not text.isascii() or not text.isprintable() or any(one in text for one in ' "<>\\^`{|}'):
        raise ValueError(f"{text!r} holds what no URL does (RFC 3986): percent-encode it")
    match = _URL.match(text)
    if match is None or text.startswith("//") or not (match["authority"] or match["path"]):
        raise ValueError(f"{text!r} is neither a URL like https://www.example.com/shop nor a path like /shop")
    if match["authority"] is not None:
        try:
            named = host_name(match["authority"])
        except ValueError:
            named = ""
        if not named:
            raise ValueError(f"{text!r}: {match['authority']!r} is no host")
    return text


def upstream(text: str) -> str:
    """Where a proxy sends requests."""
    read_upstream(text)
    return text


def network(text: str) -> str:
    """An IP network or address, as `ipaddress` writes it, or `unix` for the peers of UNIX sockets."""
    if text.lower() == "unix":
        return "unix"
    # Late: it takes milliseconds to import.
    from ipaddress import ip_interface

    try:
        interface = ip_interface(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither an IP network like 10.0.0.0/8, an address, nor unix") from None
    if interface.ip != interface.network.network_address:
        raise ValueError(f"{text!r} has bits behind its prefix: write {interface.network} or {interface.ip}")
    return str(interface.network)
