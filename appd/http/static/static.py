"""Static files: a request → the response, but for sending it. Nothing here waits for a network.

What is known of a file is kept for a moment, so that a busy one costs three system calls; but each answer asks the
kernel again, and goes by what was kept only when the file is the very one, untouched: same device, inode, change time
and size. A name that has come to mean another file, inside the folder or not, is looked at from the start.

An entity tag is made of modification time and size, as nginx does it, but to the nanosecond. Not of the inode: the same
file on two hosts behind one address would have two tags. It is strong when the file has been left alone for two
seconds, and weak before, since two changes within a tick of the kernel's clock look the same (RFC 9110, 8.8.1; Apache
does so).
"""

from __future__ import annotations

import errno
import os
import time

from appd.http.core.date import format_date
from appd.http.core.response import Parts, Response
from appd.http.redirect import encoded, page_of
from appd.http.site import Static
from appd.http.static.conditional import Version, counts_range, verdict
from appd.http.static.encoding import SUFFIXES, choose
from appd.http.static.files import open_below, open_folder_below
from appd.http.static.mime import media_type
from appd.http.static.ranges import Part, Unsatisfiable, read_ranges
from appd.startup.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from appd.http.core.request import Request

__all__ = ["Folder"]

_ALLOW = "GET, HEAD, OPTIONS"
_PLAIN = ("Content-Type", "text/plain; charset=utf-8")
_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# RFC 8615: what the world looks for there is meant to be found, certificates' challenges among it.
_WELL_KNOWN = b".well-known"
# How long the way to a file and the copies beside it are remembered, and of how many, seconds. nginx's open_file_cache
# has no default and its manual shows 1000 files.
_REMEMBERED = 1.0
_MOST_REMEMBERED = 1000
# As long as a kernel's tick and a file system's may differ, generously; Apache and Git take a second.
_SETTLED = 2.0
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

Identity = tuple[int, int, int, int]


class _Copy(NamedTuple):
    """A file that can be sent: the one that was asked for, or a compressed copy beside it."""

    path: bytes
    identity: Identity
    size: int
    version: Version
    type: str
    coding: str
    is_coded: bool
    fields: tuple[tuple[str, str], ...]
    unchanged: tuple[tuple[str, str], ...]


class _Known(NamedTuple):
    """What a path means."""

    until: float
    copies: Mapping[str, _Copy]
    codings: tuple[str, ...]


class Folder:
    """Answers requests with the files of a folder. Any thread may ask.

    Args:
        static: The folder.
        clock: Seconds that only ever grow.
        now: Seconds since the epoch.
    """

    def __init__(
        self,
        static: Static,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._static = static
        self._root = os.fsencode(static.root)
        self._index = os.fsencode(static.index_file)
        self._clock = clock
        self._now = now
        self._known: dict[tuple[bytes, ...], _Known] = {}
        cache = [] if static.max_age is None else [f"max-age={static.max_age}"]
        self._cache_control = ", ".join(cache + ["immutable"] * static.immutable)

    def respond(self, request: Request, rest: tuple[bytes, ...]) -> Response:
        """Answers a request.

        Args:
            request: The request; a body of it does not matter.
            rest: The segments of its path below the mount, decoded; a final empty one asks for a folder.

        Returns:
            The response. Whoever sends it closes the descriptor of its body, and ends the connection when the file
            turns out to be shorter than announced.

        Raises:
            OSError: The host has trouble with the file (EIO …).
        """
        if request.method not in ("GET", "HEAD"):
            status = 204 if request.method == "OPTIONS" else 405
            return _plain(status, ("Allow", _ALLOW))
        known = self._known.get(rest)
        if known is not None and self._clock() < known.until:
            copy = _chosen(known, request)
            status = verdict(request.method, request.named, copy.version)
            fd = _reopen(copy, known.copies[""], wanted=not status and request.method == "GET")
            if fd is not None:
                return _answer(request, copy, status, fd)
        try:
            return self._respond_anew(request, rest)
        except FileNotFoundError:
            return _plain(404)
        except PermissionError:
            return _plain(403)
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            return _plain(503, ("Retry-After", "1"))

    def _respond_anew(self, request: Request, rest: tuple[bytes, ...]) -> Response:
        asks_for_folder = bool(rest) and not rest[-1]
        folder = rest[:-1] if asks_for_folder else rest
        if not self._static.hidden and any(one.startswith(b".") and one != _WELL_KNOWN for one in folder):
            raise FileNotFoundError("hidden")
        if not asks_for_folder:
            try:
                return self._send(request, rest, rest)
            except IsADirectoryError:
                return self._to_folder(request, rest)
        try:
            return self._send(request, rest, (*folder, self._index))
        except (FileNotFoundError, IsADirectoryError):
            if not self._static.listing:
                raise FileNotFoundError("no index file, and no listing") from None
        return self._list(request, folder)

    def _to_folder(self, request: Request, folder: tuple[bytes, ...]) -> Response:
        """The way to a folder: its path with the final slash, if there is something to see."""
        if not self._static.listing:
            os.close(open_below(self._static.root, (*folder, self._index), links_out=self._static.links_out).fd)
        # A path of this host, never a host: had the path two slashes in front, it would have led nowhere.
        query = f"?{request.query}" if request.query else ""
        return _plain(301, ("Location", encoded(f"{request.path}/{query}")))

    def _send(self, request: Request, rest: tuple[bytes, ...], names: tuple[bytes, ...]) -> Response:
        file = open_below(self._static.root, names, links_out=self._static.links_out)
        fds = {"": file.fd}
        try:
            known = self._look(names, file.status, fds)
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[rest] = known
            copy = _chosen(known, request)
            status = verdict(request.method, request.named, copy.version)
            return _answer(request, copy, status, fds.pop(copy.coding))
        finally:
            for fd in fds.values():
                os.close(fd)

    def _look(self, names: tuple[bytes, ...], status: os.stat_result, fds: dict[str, int]) -> _Known:
        """Looks at a file, and for its copies; the descriptors of these are added to `fds`."""
        statuses = {"": status}
        path = b"/".join((self._root, *names))
        media = media_type(os.fsdecode(names[-1]))
        for coding, suffix in SUFFIXES.items() if self._static.precompressed and not media.coding else ():
            ending = suffix.encode()
            # Asked first: most files have none, and an exception is slow.
            if not os.access(path + ending, os.F_OK):
                continue
            try:
                found = open_below(
                    self._static.root, (*names[:-1], names[-1] + ending), links_out=self._static.links_out
                )
            except OSError:
                continue
            fds[coding] = found.fd
            # One that is older than the file was made from what the file was before.
            if int(found.status.st_mtime) >= int(status.st_mtime):
                statuses[coding] = found.status
        vary = len(statuses) > 1
        type_ = media.with_charset(self._static.charset)
        copies = {
            coding: self._copy(path + SUFFIXES.get(coding, "").encode(), one, type_, coding, media.coding, vary)
            for coding, one in statuses.items()
        }
        return _Known(self._clock() + _REMEMBERED, copies, tuple(coding for coding in copies if coding))

    def _copy(self, path: bytes, status: os.stat_result, type_: str, coding: str, own_coding: str, vary: bool) -> _Copy:
        version = _version(status, coding, self._now())
        says = {
            "ETag": version.etag,
            "Last-Modified": version.last_modified,
            "Cache-Control": self._cache_control,
            "Vary": "Accept-Encoding" if vary else "",
        }
        unchanged = tuple((name, value) for name, value in says.items() if value)
        content = (("Content-Type", type_), ("Accept-Ranges", "bytes"))
        sent_coding = coding or own_coding
        encoding = (("Content-Encoding", sent_coding),) if sent_coding else ()
        return _Copy(
            path,
            _identity(status),
            status.st_size,
            version,
            type_,
            coding,
            bool(sent_coding),
            (*content, *encoding, *unchanged),
            unchanged,
        )

    def _list(self, request: Request, folder: tuple[bytes, ...]) -> Response:
        # Late: few folders are listed.
        from appd.http.static.listing import page, read_folder

        fd = open_folder_below(self._static.root, folder, links_out=self._static.links_out)
        try:
            lines, more = read_folder(fd, self._static.hidden, lambda name: self._link_status((*folder, name)))
        finally:
            os.close(fd)
        path = "/".join(one.decode(errors="replace") for one in (*folder, b""))
        body = page(f"/{path}", lines, more=more, top=not folder)
        return Response(200, (("Content-Type", "text/html; charset=utf-8"),), body)

    def _link_status(self, names: tuple[bytes, ...]) -> os.stat_result | None:
        links_out = self._static.links_out
        try:
            try:
                fd = open_below(self._static.root, names, links_out=links_out).fd
            except IsADirectoryError:
                fd = open_folder_below(self._static.root, names, links_out=links_out)
        except OSError:
            return None
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)


def _plain(status: int, *fields: tuple[str, str]) -> Response:
    """A small page that names the status."""
    if status == 204:
        return Response(status, fields, None)
    return Response(status, (_PLAIN, *fields), page_of(status))


def _identity(status: os.stat_result) -> Identity:
    # Whatever is done to a file, its change time tells: also a rename, a link, and an inode that is used again.
    return status.st_ino, status.st_ctime_ns, status.st_size, status.st_dev


def _version(status: os.stat_result, coding: str, now: float) -> Version:
    # Archives and stores that must be reproducible give every file the first second of the epoch: it tells nothing.
    # Caddy's precedent.
    if status.st_mtime < 2:
        return Version("", "", 0, False)
    settled = now - max(status.st_mtime, status.st_ctime) >= _SETTLED
    tag = f'"{status.st_mtime_ns:x}-{status.st_size:x}{"-" if coding else ""}{coding}"'
    # RFC 9110, 8.8.2.1: no date of modification lies in the future.
    modified = int(min(status.st_mtime, now))
    return Version(tag if settled else f"W/{tag}", format_date(modified), modified, settled)


def _chosen(known: _Known, request: Request) -> _Copy:
    if known.codings and (field := request.named.get("accept-encoding")) is not None:
        return known.copies[choose(field, known.codings)]
    return known.copies[""]


def _reopen(copy: _Copy, original: _Copy, *, wanted: bool) -> int | None:
    """Opens a file that is known, if it is that file still; without need it is only looked at.

    Returns:
        Its descriptor, or -1 where none is wanted; None when it must be looked for anew.
    """
    try:
        # Before it is opened: it may have become something that must not be.
        if _identity(os.stat(copy.path)) != copy.identity:
            return None
        # And a copy is one of what the file is now.
        if copy is not original and _identity(os.stat(original.path)) != original.identity:
            return None
        if not wanted:
            return -1
        fd = os.open(copy.path, _OPEN)
    except OSError:
        return None
    if _identity(os.fstat(fd)) == copy.identity:
        return fd
    os.close(fd)
    return None


def _answer(request: Request, copy: _Copy, status: int, fd: int) -> Response:
    """The response with a file; `fd` goes into it or is closed."""
    named = request.named
    reads = request.method == "GET"
    parts: tuple[Part, ...] = ()
    if not status and reads and "range" in named and counts_range(named, copy.version):
        try:
            parts = read_ranges(named["range"], copy.size)
        except Unsatisfiable:
            status = 416
    if status or not reads or not copy.size:
        if fd >= 0:
            os.close(fd)
        return _without_file(status, copy)
    if len(parts) == 1:
        return _single(copy, fd, parts[0])
    # The fields of a response speak of the body as a whole, and a coding is not that of the parts of several.
    if parts and not copy.is_coded:
        return _several(copy, fd, parts)
    return Response(200, copy.fields, Parts(fd, ((0, copy.size),)), copy.size)


def _without_file(status: int, copy: _Copy) -> Response:
    if status == 304:
        return Response(304, copy.unchanged, None)
    if status == 416:
        return _plain(416, ("Content-Range", f"bytes */{copy.size}"))
    if status:
        return _plain(status)
    return Response(200, copy.fields, None, copy.size)


def _single(copy: _Copy, fd: int, part: Part) -> Response:
    return Response(206, (*copy.fields, _content_range(copy, part)), Parts(fd, (part,)), part.length)


def _several(copy: _Copy, fd: int, parts: tuple[Part, ...]) -> Response:
    """Several parts in one body: RFC 9110, 14.6."""
    boundary = os.urandom(16).hex()
    pieces: list[bytes | tuple[int, int]] = []
    for part in parts:
        name, value = _content_range(copy, part)
        head = f"--{boundary}\r\nContent-Type: {copy.type}\r\n{name}: {value}\r\n\r\n"
        pieces += [(f"\r\n{head}" if pieces else head).encode(), part]
    pieces.append(f"\r\n--{boundary}--\r\n".encode())
    length = sum(len(one) if isinstance(one, bytes) else one[1] for one in pieces)
    others = tuple(one for one in copy.fields if one[0] != "Content-Type")
    fields = (("Content-Type", f"multipart/byteranges; boundary={boundary}"), *others)
    return Response(206, fields, Parts(fd, tuple(pieces)), length)


def _content_range(copy: _Copy, part: Part) -> tuple[str, str]:
    return "Content-Range", f"bytes {part.start}-{part.start + part.length - 1}/{copy.size}"
