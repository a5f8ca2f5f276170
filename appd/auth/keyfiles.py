"""SSH keys of users, in the format of sshd(8)'s authorized_keys, a file for each user.

Options before a key (`command=`, `from=`, `restrict` …) are not understood. A key with some is refused: to take it
without them would allow what they forbid.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from appd.access import unreadable
from appd.auth.passwords import user_name
from appd.auth.secretfile import read
from appd.errors import Place, Problem

__all__ = ["KeyFiles", "Keys", "parse", "weakness"]

# StrictModes of sshd_config(5): who may write there, may log in.
_OTHERS_WRITE = 0o022
# NIST SP 800-57 and sshd since 9.1 with RequiredRSASize 2048.
_LEAST_RSA = 2048


class Keys(NamedTuple):
    """The keys of a user, and what is wrong with the file."""

    keys: Sequence[Any]
    problems: tuple[Problem, ...]


def weakness(key: Any) -> str:
    """Why a key is not taken; "" when it is.

    Args:
        key: A twisted.conch.ssh.keys.Key.
    """
    kind = key.type()
    if kind == "DSA":
        return "DSA keys are not taken (RFC 9142): make one of ed25519"
    if kind == "RSA" and key.size() < _LEAST_RSA:
        return f"an RSA key of {key.size()} bits is not taken, {_LEAST_RSA} are the least"
    return ""


def parse(text: str, path: str) -> Keys:
    """Takes the text of a file apart.

    Args:
        text: The text.
        path: Where it is from, for the problems.
    """
    from twisted.conch.ssh.keys import Key

    keys: list[Any] = []
    problems: list[Problem] = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        try:
            if not re.match(r"(?:ssh|ecdsa|sk)-\S+\s+AAAA", line):
                raise ValueError("no public key; options before a key are not understood, and a key with some refused")
            try:
                key = Key.fromString(line.encode())
            except Exception as error:  # conch raises of many kinds for what is damaged
                raise ValueError(f"the key is damaged, or of a kind that is not known: {error}") from None
            if reason := weakness(key):
                raise ValueError(reason)
        except ValueError as error:
            problems.append(Problem(str(error), Place(path, number)))
        else:
            keys.append(key)
    return Keys(keys, tuple(problems))


def signed(credentials: Any, keys: Sequence[Any]) -> bool:
    """Whether who shows a key has one of these, and has signed with it.

    What twisted.conch.checkers does too; importing that imports crypt and spwd, which are deprecated and gone.

    Args:
        credentials: A twisted.cred.credentials.ISSHPrivateKey.
        keys: The keys of the user.

    Raises:
        ValidPublicKey: It is one of them, and nothing is signed yet: conch tells the client to go on.
    """
    from twisted.conch.error import ValidPublicKey
    from twisted.conch.ssh.common import getNS
    from twisted.conch.ssh.keys import Key

    try:
        key = Key.fromString(credentials.blob)
        if weakness(key) or not any(key == one for one in keys):
            return False
        if credentials.signature is None:
            raise ValidPublicKey()
        # SHA-1, whose collisions can be bought: RFC 8332.
        if getNS(credentials.signature)[0] == b"ssh-rsa":
            return False
        return bool(key.verify(credentials.signature, credentials.sigData))
    except ValidPublicKey:
        raise
    except Exception:  # a key or a signature that is damaged raises of many kinds
        return False


class KeyFiles:
    """The files of all users.

    Args:
        pattern: As `appd.auth.values.key_files` gives it.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern

    def path_of(self, user: str) -> str | None:
        """The file of a user; None when there can be none.

        Args:
            user: The name, as a client sent it.
        """
        try:
            # It becomes part of a path: no slash, nothing that begins with a dot.
            user = user_name(user)
        except ValueError:
            return None
        home = ""
        if self.pattern.startswith("%h/"):
            try:
                home = pwd.getpwnam(user).pw_dir
            except KeyError:
                return None
        tokens = {"%u": user, "%h": home, "%%": "%"}
        return re.sub("%[uh%]", lambda match: tokens[match[0]], self.pattern)

    def keys_of(self, user: str) -> Keys:
        """The keys of a user; reads the file each time, so that a change counts at once.

        Args:
            user: The name, as a client sent it.
        """
        path = self.path_of(user)
        if path is None or not os.path.lexists(path):
            return Keys((), ())
        try:
            return parse(read(path, _OTHERS_WRITE, f"others may write to it: chmod go-w {path}").text, path)
        except PermissionError:
            return Keys((), (Problem(unreadable(), Place(path, 0)),))
        except ValueError as error:
            return Keys((), (Problem(str(error), Place(path, 0)),))

    def check(self) -> list[Problem]:
        """What is wrong with the files that are there, as far as the pattern tells which.

        Raises:
            PermissionError: This process may not list them.
            ValueError: The folder is not there.
        """
        folder = os.path.dirname(self.pattern)
        if "%u" not in os.path.basename(self.pattern) or re.search("%[uh]", folder):
            return []
        folder = folder.replace("%%", "%")
        if not os.path.isdir(folder):
            raise ValueError(f"there is no folder {folder}")
        return [problem for user in self._users(folder) for problem in self.keys_of(user).problems]

    def _users(self, folder: str) -> Iterator[str]:
        before, _, after = os.path.basename(self.pattern).replace("%%", "%").partition("%u")
        for name in sorted(os.listdir(folder)):
            user = name.removeprefix(before).removesuffix(after)
            if name == f"{before}{user}{after}" and self.path_of(user) is not None:
                yield user
