"""Sends one datagram and prints the first answer; nothing when none comes in time.

usage: datagram.py SECONDS PATH|HOST PORT TEXT [OWN-PATH [MODE]]
       PORT is 0 for the PATH of a UNIX socket, to which OWN-PATH is where it answers.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress


def _main(seconds: str, host: str, port: str, text: str, own_path: str = "", mode: str = "666") -> None:
    family = socket.AF_UNIX if port == "0" else socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        if own_path:
            sock.bind(own_path)
            os.chmod(own_path, int(mode, 8))
        sock.settimeout(float(seconds))
        sock.sendto(text.encode(), host if family == socket.AF_UNIX else (host, int(port)))
        with suppress(TimeoutError):
            print(sock.recv(65536).decode(), end="")
    if own_path:
        os.unlink(own_path)


_main(*sys.argv[1:])
