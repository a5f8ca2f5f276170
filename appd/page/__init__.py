"""The page that says appd works: a WSGI application (PEP 3333) that the example configuration serves."""

from __future__ import annotations

import html
import os
import string
import threading
from collections.abc import Callable, Iterable
from importlib.resources import files
from typing import Any

from appd import __version__

__all__ = ["application"]


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answers `/` with the page and everything else with 404.

    Args:
        environ: The environment of the request.
        start_response: What begins the response.
    """
    if environ.get("PATH_INFO", "") not in ("", "/"):
        return _respond(start_response, "404 Not Found", "text/plain; charset=utf-8", b"There is nothing here.\n")
    if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
        return _respond(
            start_response,
            "405 Method Not Allowed",
            "text/plain; charset=utf-8",
            b"GET or HEAD.\n",
            ("Allow", "GET, HEAD"),
        )
    template = string.Template(files(__name__).joinpath("index.html").read_text(encoding="utf-8"))
    page = template.substitute({key: html.escape(str(value)) for key, value in _facts(environ).items()})
    return _respond(start_response, "200 OK", "text/html; charset=utf-8", page.encode())


def _facts(environ: dict[str, Any]) -> dict[str, object]:
    under_systemd = "NOTIFY_SOCKET" in os.environ
    return {
        "version": __version__,
        "manager": "systemd" if under_systemd else "a terminal",
        "stop": "systemctl stop appd.socket appd.service" if under_systemd else "Ctrl-C",
        "socket": "bound by systemd, before the daemon started" if under_systemd else "bound by appd itself: --bind",
        "pid": os.getpid(),
        "thread": threading.current_thread().name,
        "client": environ.get("REMOTE_ADDR") or "a UNIX socket",
        "host": environ.get("HTTP_HOST", environ.get("SERVER_NAME", "")),
        "protocol": environ.get("SERVER_PROTOCOL", ""),
    }


def _respond(
    start_response: Callable[..., Any], status: str, content_type: str, body: bytes, *more: tuple[str, str]
) -> Iterable[bytes]:
    # Content-Security-Policy: the page needs its own style and nothing else.
    headers = [
        ("Content-Type", content_type),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    start_response(status, [*headers, *more])
    return [body]
