"""`appd passwd`: the users of a passwd-style file, changed without a moment in which the file is half there."""

from __future__ import annotations

import fcntl
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from appd.auth import hashes
from appd.auth.passwords import user_name
from appd.errors import ConfigurationError, HostError, UsageError

__all__ = ["ask", "edit", "passwd", "with_user"]

_LONGEST = 4096


def ask(stdin: TextIO, user: str, prompt: Callable[[str], str] | None = None) -> bytes:
    """The new password: asked twice on a terminal, else the first line of what comes in.

    Args:
        stdin: Where it comes from.
        user: Whose it is.
        prompt: Asks on a terminal without showing what is typed; getpass.getpass without one.

    Raises:
        UsageError: There is none, or the two are not the same.
    """
    if stdin.isatty():
        from getpass import getpass

        prompt = prompt or getpass
        first = prompt(f"New password of {user}: ")
        if first != prompt("Again: "):
            raise UsageError("the two are not the same; nothing was changed")
    else:
        first = stdin.readline(_LONGEST + 2).removesuffix("\n").removesuffix("\r")
    if not first:
        raise UsageError("an empty password is none; nothing was changed")
    if len(first) > _LONGEST:
        raise UsageError(f"a password has at most {_LONGEST} characters; nothing was changed")
    return first.encode("utf-8", "surrogateescape")


def with_user(text: str, user: str, hashed: str | None) -> str:
    """The text of a file with another hash for a user; comments, order and further fields stay.

    Args:
        text: The text.
        user: The user.
        hashed: The hash; None takes the user away.

    Raises:
        KeyError: A user who is not there cannot be taken away.
    """
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    kept: list[str] = []
    found = False
    for line in lines:
        name, colon, rest = line.rstrip("\r\n").partition(":")
        if not colon or line.startswith("#") or not _same(name, user):
            kept.append(line)
            continue
        if hashed is not None and not found:
            more = rest.partition(":")
            kept.append(f"{user}:{hashed}{more[1]}{more[2]}\n")
        found = True
    if hashed is None and not found:
        raise KeyError(user)
    if hashed is not None and not found:
        kept.append(f"{user}:{hashed}\n")
    return "".join(kept)


def _same(name: str, user: str) -> bool:
    try:
        return user_name(name) == user
    except ValueError:
        return False


def edit(path: str, user: str, hashed: str | None) -> None:
    """Changes the file: another takes its place at once, with its mode and owner. A new one is its owner's alone.

    Args:
        path: The file; a link leads to the one that is changed.
        user: The user, as `appd.auth.passwords.user_name` gives it.
        hashed: The hash; None takes the user away.

    Raises:
        HostError: The host refuses; nothing was changed.
        ConfigurationError: The file is none, or has no such user.
    """
    path = os.path.realpath(path)
    try:
        with _locked(os.path.dirname(path)):
            _replace(path, user, hashed)
    except OSError as error:
        raise HostError(f"{path}: {error.strerror or error}", number=error.errno) from None


@contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Two who edit at a time do it one after the other. The folder is locked: the file itself is replaced."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _replace(path: str, user: str, hashed: str | None) -> None:
    status = None
    text = ""
    if os.path.lexists(path):
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigurationError(f"{path} is no regular file")
            try:
                text = file.read().decode("utf-8")
            except UnicodeDecodeError:
                raise ConfigurationError(f"{path} is no UTF-8 text") from None
    try:
        text = with_user(text, user, hashed)
    except KeyError:
        raise ConfigurationError(f"{path} has no user {user!r}") from None
    part = f"{path}.{os.getpid()}.new"
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with open(fd, "wb") as file:
            if status is not None:
                _as_before(fd, status, part)
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(fd)
        os.rename(part, path)
    except BaseException:
        os.unlink(part)
        raise
    _sync_folder(os.path.dirname(path))


def _as_before(fd: int, status: os.stat_result, part: str) -> None:
    now = os.fstat(fd)
    if (now.st_uid, now.st_gid) != (status.st_uid, status.st_gid):
        try:
            os.fchown(fd, status.st_uid, status.st_gid)
        except PermissionError:
            raise OSError(
                1, f"it belongs to uid {status.st_uid}, gid {status.st_gid}, and would not any more"
            ) from None
    os.fchmod(fd, stat.S_IMODE(status.st_mode))


def _sync_folder(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def passwd(path: str, user: str, scheme: str, delete: bool, stdin: TextIO | None = None) -> str:
    """The command.

    Args:
        path: The file.
        user: The user.
        scheme: `argon2` or `bcrypt`.
        delete: Whether the user is taken away.
        stdin: Where the password comes from.

    Returns:
        What was done, for people.

    Raises:
        AppdError: It was not done.
    """
    try:
        user = user_name(user)
    except ValueError as error:
        raise UsageError(f"{user!r}: {error}") from None
    if delete:
        edit(path, user, None)
        return f"{path}: user {user!r} is gone"
    hashes.require(scheme)
    try:
        hashed = hashes.make(ask(stdin or sys.stdin, user), scheme)
    except ValueError as error:
        raise UsageError(str(error)) from None
    edit(path, user, hashed)
    return f"{path}: user {user!r} has a new password"
