"""Text of an `<auth>` section → plain values; see `appd.config.datatypes`."""

from __future__ import annotations

import os
import re

from appd.config.datatypes import placed

__all__ = ["checker", "key_files"]

_CHECKER = re.compile(r"[\w.-]+(?::.*)?\Z", re.S)


@placed
def key_files(text: str, file: str) -> str:
    """A path with %u for the user or %h for the home of a user of the host: AuthorizedKeysFile of sshd_config(5)."""
    unknown = re.search(r"%(?![uh%])", text)
    if unknown is not None:
        raise ValueError(f"{text!r}: %u is the user, %h the home of a user of the host, %% a percent sign")
    if not re.search(r"(?<!%)(?:%%)*%[uh]", text):
        raise ValueError(f"{text!r} is the same file for every user: put %u for the user into it")
    if text.startswith("%h/"):
        return text
    if "%h" in text:
        raise ValueError(f"{text!r}: %h is the home of the user, so it comes first")
    return os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(file)).replace("%", "%%"), text))


def checker(text: str) -> str:
    """The auth string of a checker plugin, as twistd --help-auth lists them."""
    if not _CHECKER.match(text):
        raise ValueError(
            f"{text!r} is not of the form TYPE or TYPE:ARGUMENTS; `twistd web --help-auth` lists the types"
        )
    return text
