"""Hashes of passwords: argon2 by argon2-cffi, bcrypt by bcrypt; both are extras and imported when first asked for.

argon2id is what RFC 9106 recommends and what new hashes are; bcrypt is what `htpasswd -B` and most applications write.
The hashes of crypt(3) ($1$, $5$, $6$) and of old htpasswd files are not taken: Python 3.13 has no crypt any more, and a
graphics card guesses them by the billion.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from appd.errors import ConfigurationError

__all__ = ["SCHEMES", "complaint", "make", "matches", "prepared", "require"]

SCHEMES = ("argon2", "bcrypt")
_PACKAGES = {"argon2": ("python3-argon2", "argon2-cffi"), "bcrypt": ("python3-bcrypt", "bcrypt")}
_ARGON2 = re.compile(r"\$argon2(?:id|i|d)\$v=\d+\$m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{16,}\Z", re.A)
# $2x$ marks the hashes of a broken implementation of 2011.
_BCRYPT = re.compile(r"\$2[aby]\$(?:0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}\Z", re.A)
# bcrypt looks at no more than that; bcrypt 5 refuses what is longer, where older ones and htpasswd cut it off.
_BCRYPT_BYTES = 72


def complaint(hashed: str) -> str:
    """What is wrong with the text of a hash; "" when it is one.

    Args:
        hashed: The text.
    """
    if _scheme(hashed):
        return ""
    if hashed.startswith("$argon2") or re.match(r"\$2[abxy]\$", hashed):
        return "the hash is cut off or damaged"
    return "the hash is neither of argon2 nor of bcrypt: `appd passwd` makes one"


def _scheme(hashed: str) -> str:
    return "argon2" if _ARGON2.match(hashed) else "bcrypt" if _BCRYPT.match(hashed) else ""


def require(hashed: str) -> None:
    """Makes sure that the library for a hash is there.

    Args:
        hashed: The hash, or a scheme.

    Raises:
        ConfigurationError: It is not installed.
    """
    _library(hashed if hashed in SCHEMES else _scheme(hashed))


def _library(scheme: str) -> Any:
    from importlib import import_module

    try:
        return import_module(scheme)
    except ImportError:
        debian, pypi = _PACKAGES[scheme]
        raise ConfigurationError(
            f"{scheme} hashes need a package that is not installed: {debian} of Debian, {pypi} of PyPI (appd[auth])"
        ) from None


def prepared(password: bytes) -> bytes:
    """The bytes of a password that are hashed: Unicode in its composed form, as RFC 8265 has it.

    Clients of one system send an accented letter as one character and those of another as two.

    Args:
        password: As the client sent it.
    """
    try:
        return unicodedata.normalize("NFC", password.decode("utf-8")).encode("utf-8")
    except UnicodeDecodeError:
        return password


def make(password: bytes, scheme: str = "argon2") -> str:
    """Makes a hash; takes a tenth of a second.

    Args:
        password: The password.
        scheme: `argon2` or `bcrypt`.

    Raises:
        ConfigurationError: The library is not installed.
        ValueError: The scheme cannot hold that password.
    """
    password = prepared(password)
    library = _library(scheme)
    if scheme == "argon2":
        # The library's defaults are those of RFC 9106 for little memory: 64 MB, three passes.
        return str(library.PasswordHasher().hash(password))
    if len(password) > _BCRYPT_BYTES:
        raise ValueError(f"bcrypt looks at the first {_BCRYPT_BYTES} bytes of a password, and this one is longer")
    if b"\0" in password:
        raise ValueError("bcrypt takes no password with a NUL in it")
    return str(library.hashpw(password, library.gensalt()).decode("ascii"))


def matches(hashed: str, password: bytes) -> bool:
    """Whether a hash is that of a password; takes a tenth of a second, so not in the reactor.

    Args:
        hashed: The hash.
        password: The password.

    Raises:
        ConfigurationError: The library is not installed.
    """
    password = prepared(password)
    scheme = _scheme(hashed)
    library = _library(scheme)
    if scheme == "argon2":
        try:
            return bool(library.PasswordHasher().verify(hashed, password))
        except library.exceptions.VerificationError:
            return False
        except library.exceptions.InvalidHash:
            return False
    # A NUL ends what old versions look at, and new ones refuse it; nobody has such a password, but the work is done.
    wrong = b"\0" in password
    return bool(library.checkpw(password.replace(b"\0", b"")[:_BCRYPT_BYTES], hashed.encode("ascii"))) and not wrong
