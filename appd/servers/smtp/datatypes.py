"""Text of an `<smtp>` section → plain values; see `appd.config.datatypes`."""

from __future__ import annotations

import os
import re

from appd.config.datatypes import one_of, placed, positive, positive_size, switch

__all__ = ["domain", "login", "maildir", "positive", "positive_size", "protocol", "switch"]

protocol = one_of("smtp", "lmtp")
login = one_of("required", "optional")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\Z")


def domain(text: str) -> str:
    """A domain, in lower case; one of Unicode as its ASCII form."""
    try:
        name = text.encode("ascii").decode() if text.isascii() else text.encode("idna").decode()
    except UnicodeError:
        name = ""
    labels = name.split(".")
    if not name or len(name) > 253 or not all(_LABEL.match(one) for one in labels):
        raise ValueError(f"{text!r} is no domain")
    return name.lower()


@placed
def maildir(text: str, file: str) -> str:
    """A path with %u, %d and %%; relative to the file that holds the line."""
    if re.search(r"%(?:[^ud%]|\Z)", text.replace("%%", "")):
        raise ValueError(f"{text!r}: %u is the user, %d the domain, %% a percent sign")
    return os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(file)).replace("%", "%%"), text))
