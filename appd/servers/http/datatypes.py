"""Text of the keys of `<http>` → plain values; see `appd.config.datatypes`."""

from __future__ import annotations

from appd.config.datatypes import one_of
from appd.http.fields import OF_THE_CONNECTION, is_token, is_value
from appd.http.routing import host_name, segments_of

__all__ = ["access_log", "file_name", "header", "host", "mount_path"]

access_log = one_of("off", "journal", "combined")

# What appd says itself about each response.
_OURS = OF_THE_CONNECTION | {"content-length", "date"}


def mount_path(text: str) -> str:
    """The path of a mount, with or without percent-encoding; a slash at its end means nothing."""
    if not text.startswith("/"):
        raise ValueError(f"{text!r} does not start with /")
    if any(one in text for one in "?#"):
        raise ValueError(f"{text!r} holds ? or #: a path ends before them, or has %3F or %23")
    shortened = text.rstrip("/")
    segments = segments_of(shortened.encode())
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
