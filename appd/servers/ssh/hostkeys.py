"""The keys by which clients know the host: from files, credentials, or made at the first start."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from appd.access import unreadable
from appd.auth.keyfiles import weakness
from appd.auth.secretfile import read
from appd.config.settings import Settings
from appd.errors import ConfigurationError, HostError, Problem
from appd.tls.values import CREDENTIAL

__all__ = ["HostKeys"]

_NAME = "ssh_host_ed25519_key"
_OTHERS = 0o007


class HostKeys:
    """The keys of a section.

    Args:
        settings: The section.
        environ: Where $STATE_DIRECTORY and $CREDENTIALS_DIRECTORY are looked up.
        lenient: Whether what this process may not read is no problem: it is not the one that serves.
    """

    def __init__(self, settings: Settings, environ: Mapping[str, str] = os.environ, lenient: bool = False) -> None:
        self._settings = settings
        self._environ = environ
        self._lenient = lenient

    def check(self) -> list[Problem]:
        """What is wrong with them; nothing is made."""
        if self._settings.host_key:
            return self._read()[1]
        if not self._state and not self._lenient:
            message = "host-key is missing, and there is no state directory to make one in (StateDirectory=)"
            return [self._settings.problem(message)]
        return []

    def __call__(self) -> list[Any]:
        """The keys, twisted.conch.ssh.keys.Key; the first start makes one.

        Raises:
            ConfigurationError: One cannot be read.
            HostError: None can be made.
        """
        if self._settings.host_key:
            keys, problems = self._read()
            if problems:
                raise ConfigurationError(*problems)
            return keys
        path = os.path.join(self._state, _NAME)
        try:
            if not os.path.exists(path):
                _make(path)
            return [self._load(path, is_credential=False)]
        except OSError as error:
            raise HostError(f"{path}: {error.strerror}", number=error.errno) from None
        except ValueError as error:
            raise ConfigurationError(f"{path}: {error}") from None

    @property
    def _state(self) -> str:
        return self._environ.get("STATE_DIRECTORY", "").partition(":")[0]

    def _read(self) -> tuple[list[Any], list[Problem]]:
        keys: dict[bytes, Any] = {}
        problems: list[Problem] = []
        for number, written in enumerate(self._settings.host_key):
            if written is None:  # it did not convert, which has been said
                continue
            path, is_credential = written, written.startswith(CREDENTIAL)
            if is_credential:
                folder = self._environ.get("CREDENTIALS_DIRECTORY", "")
                if not folder and self._lenient:
                    continue
                path = os.path.join(folder, written.removeprefix(CREDENTIAL))
            try:
                if is_credential and not folder:
                    raise ValueError("this process has no credentials (CREDENTIALS_DIRECTORY is not set)")
                key = self._load(path, is_credential)
                if key.sshType() in keys:
                    raise ValueError(f"a second key of type {key.sshType().decode()}")
                keys[key.sshType()] = key
            except PermissionError:
                if not self._lenient:
                    message = f"host-key {written}: {unreadable()}"
                    problems.append(self._settings.problem(message, "host_key", number))
            except ValueError as error:
                problems.append(self._settings.problem(f"host-key {written}: {error}", "host_key", number))
        return list(keys.values()), problems

    def _load(self, path: str, is_credential: bool) -> Any:
        from twisted.conch.ssh.keys import EncryptedKeyError, Key

        whose = f"every user of the host may read or write it: chmod o-rwx {path}"
        text = read(path, 0 if is_credential else _OTHERS, whose).text
        try:
            key = Key.fromString(text.encode())
        except EncryptedKeyError:
            raise ValueError("it is locked with a passphrase, and a service has nobody to ask") from None
        except Exception as error:  # conch and cryptography raise of many kinds for what is damaged
            raise ValueError(f"it is no private key that is understood: {error}") from None
        if key.isPublic():
            raise ValueError("it is a public key; the private one is in the file without .pub")
        if reason := weakness(key):
            raise ValueError(reason)
        return key


def _make(path: str) -> None:
    """Makes a key. Of several that try at a time one succeeds, and the others find its key: link(2)."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    text = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    part = f"{path}.{os.getpid()}.new"
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(fd)
        try:
            os.link(part, path)
        except FileExistsError:
            return
    finally:
        os.unlink(part)
