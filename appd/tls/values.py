"""Text of a `<tls>` section → plain values; see `appd.config.datatypes`."""

from __future__ import annotations

import ipaddress
import os
import re

from appd.config.datatypes import one_of, path, placed

__all__ = ["CREDENTIAL", "client_name", "passphrase", "server_name", "source", "version"]

CREDENTIAL = "credential:"
# systemd.exec(5): a credential's name is a file name.
_CREDENTIAL_NAME = re.compile(r"credential:(?!\.{1,2}\Z)[^/\0\s]{1,255}\Z")
_VERSION = re.compile(r"(?:TLS\s?v?)?(\d(?:\.\d)?)\Z", re.I)

client_verify = one_of("none", "optional", "required")
unknown_name = one_of("default", "refuse")
readable_key = one_of("refuse", "allow")
remote_user = one_of("none", "cn", "subject", "dns", "uri", "email")


@placed
def source(text: str, file: str) -> str:
    """A path, relative to the file that holds the line, or `credential:NAME`."""
    if not text.startswith(CREDENTIAL):
        return str(path(text, file))
    if not _CREDENTIAL_NAME.match(text):
        raise ValueError(f"{text!r} is not of the form credential:NAME, the name that LoadCredential= gives")
    return text


@placed
def passphrase(text: str, file: str) -> str:
    """Where a passphrase lies. The value is never shown: a person may have written the passphrase itself."""
    if text.startswith(CREDENTIAL) and _CREDENTIAL_NAME.match(text):
        return text
    if text.startswith(("/", "./", "../")):
        return os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(file)), text))
    raise ValueError("it is the passphrase's file, a path with a / in front or ./, or credential:NAME; never the text")


def server_name(text: str) -> str:
    """The name of a server: a host name or an IP address."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        pass
    if "*" in text or not _is_dns_pattern(text):
        raise ValueError(f"{text!r} is neither a host name nor an IP address")
    return text.lower()


def version(text: str) -> str:
    """A version of TLS, from 1.2 on."""
    match = _VERSION.match(text)
    if match is None or match[1] not in ("1", "1.0", "1.1", "1.2", "1.3") or text.upper().startswith("SSL"):
        raise ValueError(f"{text!r} is neither 1.2 nor 1.3")
    if match[1] not in ("1.2", "1.3"):
        raise ValueError(f"TLS {match[1]} is not served, only 1.2 and 1.3 are: RFC 8996")
    return match[1]


def client_name(text: str) -> tuple[str, str]:
    """A name that a client's certificate must have: its kind and its pattern."""
    kind, colon, pattern = text.partition(":")
    kind = kind.lower()
    if not colon or kind not in ("dns", "uri", "email") or not pattern or any(one.isspace() for one in pattern):
        raise ValueError(f"{text!r} is not of the form dns:NAME, uri:URI or email:ADDRESS")
    if kind == "dns" and not _is_dns_pattern(pattern):
        raise ValueError(f"{text!r}: a * stands for the first label of a host name, like dns:*.example.org")
    if kind == "uri" and (":" not in pattern or "*" in pattern.removesuffix("/*")):
        raise ValueError(f"{text!r} is neither a URI nor the beginning of one with /* behind it")
    if kind == "email" and (pattern.count("@") != 1 or "*" in pattern.removeprefix("*@") or pattern.endswith("@")):
        raise ValueError(f"{text!r} is neither an address nor a domain, like email:*@example.org")
    return kind, pattern


def _is_dns_pattern(pattern: str) -> bool:
    labels = pattern.removesuffix(".").split(".")
    if labels[0] == "*":
        labels = labels[1:]
        if len(labels) < 2:
            return False
    return all(re.match(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\Z", one) for one in labels)
