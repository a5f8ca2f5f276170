"""A passwd-style file: a line `NAME:HASH` for each user, `#` begins a comment, more fields after a colon are kept.

`!` or `*` before the hash, or in its place, locks the user, as in shadow(5).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import unicodedata
from collections.abc import Mapping
from typing import NamedTuple

from appd.access import unreadable
from appd.auth import hashes
from appd.auth.secretfile import Stamp, read, stamp
from appd.errors import Place, Problem

__all__ = ["FORBIDDEN_CHARACTERS", "Parsed", "PasswordFile", "parse", "user_name"]

_LONGEST_NAME = 255
# What the lines of a file, of logs and of protocols have a meaning for.
FORBIDDEN_CHARACTERS = re.compile(r"[\x00-\x1f\x7f:/\\]")
_WORLD = 0o006
_WORLD_READABLE = "every user of the host may read or write the hashes in it: chmod o-rw"


class Parsed(NamedTuple):
    """A file, taken apart.

    Attributes:
        entries: User → hash; "" for one that is locked.
        problems: What is wrong with it, line by line.
    """

    entries: Mapping[str, str]
    problems: tuple[Problem, ...]


def user_name(name: str) -> str:
    """The name of a user in its composed form.

    Raises:
        ValueError: It cannot be one; the message says why.
    """
    name = unicodedata.normalize("NFC", name)
    if not name or len(name) > _LONGEST_NAME:
        raise ValueError(f"the name of a user has from 1 to {_LONGEST_NAME} characters")
    if FORBIDDEN_CHARACTERS.search(name) or name != name.strip() or name[0] in "#.-":
        raise ValueError("the name of a user has no colon, slash or control character, and begins with none of # . -")
    return name


def parse(text: str, path: str) -> Parsed:
    """Takes the text of a file apart.

    Args:
        text: The text.
        path: Where it is from, for the problems.
    """
    entries: dict[str, str] = {}
    problems: list[Problem] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip("\r")
        if not line.strip() or line.startswith("#"):
            continue
        place = Place(path, number)
        name, colon, rest = line.partition(":")
        try:
            if not colon:
                raise ValueError("a line is NAME:HASH")
            name = user_name(name)
            if name in entries:
                raise ValueError(f"user {name!r} is there twice; the first is at line {lines[name]}")
        except ValueError as error:
            problems.append(Problem(str(error), place))
            continue
        hashed = rest.partition(":")[0]
        locked = hashed[:1] in ("!", "*")
        if not locked and (wrong := hashes.complaint(hashed)):
            # The hash itself is never shown: it may be a password that somebody wrote in plain.
            problems.append(Problem(f"user {name!r}: {wrong}", place))
        entries[name], lines[name] = "" if locked else hashed, number
    return Parsed(entries, tuple(problems))


class PasswordFile:
    """The users of a file, read anew when it has changed.

    Args:
        path: The file.
        is_credential: Whether it is a credential of the service, whose mode is systemd's.

    Attributes:
        entries: User → hash, "" for one that is locked.
        stamp: What the file was when it was read.
    """

    def __init__(self, path: str, is_credential: bool = False) -> None:
        self.path = path
        self.entries: Mapping[str, str] = {}
        self.stamp: Stamp | None = None
        self._forbidden = 0 if is_credential else _WORLD
        self._seen: Stamp | None = None
        self._key = os.urandom(32)
        self._decoys: tuple[str, ...] = ()

    def load(self) -> list[Problem]:
        """Reads the file.

        Returns:
            What is wrong with its lines; they are passed over, and the others count.

        Raises:
            PermissionError: This process may not read it.
            ValueError: It is not there or will not do; the message says why, without the path.
        """
        found = read(self.path, self._forbidden, f"{_WORLD_READABLE} {self.path}")
        parsed = parse(found.text, self.path)
        wrong = {one.place.line for one in parsed.problems if one.place}
        good = {name: hashed for name, hashed in parsed.entries.items() if not hashed or not hashes.complaint(hashed)}
        self.entries, self.stamp = good, found.stamp
        self._decoys = tuple(sorted({hashed for hashed in good.values() if hashed}))
        assert len(wrong) == len(parsed.problems), "a line has one problem"
        return list(parsed.problems)

    def refresh(self) -> list[Problem]:
        """Reads the file anew if it has changed; what was read stays when that fails.

        Returns:
            What is wrong; said once for each change.
        """
        now = stamp(self.path)
        if now == self.stamp or now == self._seen:
            return []
        self._seen = now
        try:
            return self.load()
        except PermissionError:
            return [Problem(unreadable(), Place(self.path, 0))]
        except ValueError as error:
            return [Problem(str(error), Place(self.path, 0))]

    def check(self, user: str, password: bytes) -> bool:
        """Whether that is the password of that user. Takes as long for a user that is not there.

        Such a one is measured against the hash of somebody else, always the same for the same name, so that schemes
        and costs that differ within a file tell nothing either.

        Args:
            user: The name.
            password: The password.

        Raises:
            ConfigurationError: The library of a hash is not installed.
        """
        hashed = self.entries.get(user, "")
        if hashed:
            return hashes.matches(hashed, password)
        if self._decoys:
            digest = hmac.digest(self._key, user.encode("utf-8", "surrogatepass"), hashlib.sha256)
            hashes.matches(self._decoys[int.from_bytes(digest[:8], "big") % len(self._decoys)], password)
        return False
