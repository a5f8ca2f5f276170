"""The environment of a WSGI call: PEP 3333, and RFC 3875 which that follows.

Text is latin-1, a character a byte. Of appd's own there are `appd.peer_pid`, `appd.peer_uid` and `appd.peer_gid`: who
is at the other end of a UNIX socket, as the kernel tells (SO_PEERCRED, unix(7)).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from appd.http.core.request import Request

__all__ = ["add_fields", "base_environ"]

# Names of fields → keys; "" for what does not become one. Any thread may write; whoever finds it full empties it.
_KEYS: dict[str, str] = {
    "content-type": "CONTENT_TYPE",
    # Said of the body as the application gets it.
    "content-length": "",
    "transfer-encoding": "",
    # It would arrive as HTTP_PROXY, which programs look at (CVE-2016-5385).
    "proxy": "",
}
_MOST_KEYS = 1024


def base_environ(name: str, port: str, *, many_processes: bool) -> dict[str, Any]:
    """What is the same in every call over one socket.

    Args:
        name: The name of the server, where a request says none.
        port: Its port.
        many_processes: Whether other processes run the same application.
    """
    return {
        "SERVER_SOFTWARE": "appd",
        "SERVER_NAME": name,
        "SERVER_PORT": port,
        "GATEWAY_INTERFACE": "CGI/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
        "wsgi.multiprocess": many_processes,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }


def add_fields(environ: dict[str, Any], request: Request) -> None:
    """Adds the header fields of a request."""
    keys = _KEYS
    for name, value in request.named.items():
        key = keys.get(name)
        if key is None:
            key = _learn(name)
        if key:
            environ[key] = value


def _learn(name: str) -> str:
    # X_Y would arrive as X-Y does, and pass for what a proxy in front has checked.
    key = "" if "_" in name else f"HTTP_{name.upper().replace('-', '_')}"
    if len(_KEYS) >= _MOST_KEYS:
        for one in [one for one in list(_KEYS) if _KEYS[one].startswith("HTTP_")]:
            _KEYS.pop(one, None)
    _KEYS[name] = key
    return key
