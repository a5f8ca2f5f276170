"""Runs tests/process/contract.txt in a process of its own, with what it talks to.

usage: contract.py FILE FOLDER    FOLDER holds server.pem, key.pem and cert.pem
"""

from __future__ import annotations

import doctest
import io
import os
import socket
import ssl
import sys
from typing import Any

from twisted.internet import defer, reactor, threads
from twisted.logger import formatEvent, globalLogBeginner
from twisted.python.failure import Failure


def talk(server: Any, data: bytes, over_tls: bool) -> tuple[str, bytes]:
    """In a thread: connects to where the server listens, sends, reads to the end."""
    with socket.socket(fileno=os.dup(server.descriptors[0])) as where:
        family, address = where.family, where.getsockname()
    with socket.socket(family) as plain:
        plain.settimeout(10)
        host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        plain.connect(address if family == socket.AF_UNIX else (host, address[1]))
        client: Any = plain
        if over_tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            client = context.wrap_socket(plain)
        if data:  # a server that has ended by then would break the pipe, of a UNIX socket even for nothing
            client.sendall(data)
        version = client.version() if over_tls else ""
        return version, b"".join(iter(lambda: client.recv(65536), b""))


def wait(result: Any) -> Any:
    """Turns the reactor until a Deferred has fired."""
    found: list[Any] = []
    result.addBoth(found.append)
    while not found:
        reactor.iterate(0.01)  # type: ignore[attr-defined]  # the module stands for the reactor
    if isinstance(found[0], Failure):
        found[0].raiseException()
    return found[0]


def clear(stream: io.StringIO) -> None:
    """Forgets what it holds."""
    stream.seek(0)
    stream.truncate()


def main() -> int:
    log = io.StringIO()

    def note(event: Any) -> None:
        if "-- " in event.get("log_format", ""):
            log.write(formatEvent(event))

    globalLogBeginner.beginLoggingTo([note], redirectStandardIO=False)
    reactor.startRunning(installSignalHandlers=False)  # type: ignore[attr-defined]  # as above
    names = {
        "log": log,
        "folder": sys.argv[2],
        "clear": clear,
        "ask": lambda server, data=b"": wait(threads.deferToThread(talk, server, data, False))[1],
        "ask_over_tls": lambda server, data=b"": wait(threads.deferToThread(talk, server, data, True)),
        "stop": lambda *servers: wait(defer.gatherResults([one.stopService() for one in servers])) and None,
    }
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL
    failed, tried = doctest.testfile(sys.argv[1], module_relative=False, globs=names, optionflags=flags)
    print(f"{tried} tried, {failed} failed")
    reactor.threadpool.stop()  # type: ignore[attr-defined]  # as above
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
