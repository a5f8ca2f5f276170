"""Why a file or a folder that the configuration names cannot be used, in words for whoever has to see to it.

Under a unit a service runs as a user of its own, and its sandbox shows it other folders than an administrator sees
(ProtectHome=, PrivateTmp= of systemd.exec(5)): "there is no such folder" would be the wrong answer to who looks at it.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["folder_refusal", "unreadable"]

# What the shipped units hide, and by which directive.
_HIDDEN = {
    "/home": "ProtectHome=",
    "/root": "ProtectHome=",
    "/run/user": "ProtectHome=",
    "/tmp": "PrivateTmp=",
    "/var/tmp": "PrivateTmp=",
}


def unreadable(environ: Mapping[str, str] = os.environ) -> str:
    """Who may not read a file; under a unit also what may be done about it.

    Args:
        environ: The environment; under a unit it has $INVOCATION_ID.
    """
    said = f"user {_name()} may not read it"
    if "INVOCATION_ID" in environ:
        return f"{said}: let its group do so (chgrp, chmod 640), or name it credential:NAME, which systemd reads"
    return said


def folder_refusal(path: str, environ: Mapping[str, str] = os.environ) -> str:
    """Why a folder cannot be read from; "" when it can.

    Args:
        path: The folder.
        environ: The environment; under a unit it has $INVOCATION_ID.
    """
    if os.path.isdir(path):
        readable = os.access(path, os.R_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)
        return "" if readable else f"user {_name()} may not read it"
    if os.path.exists(path):
        return "it is no folder"
    try:
        os.stat(path)
    except PermissionError:
        absent = f"user {_name()} may not reach it"
    except OSError:
        absent = "there is no such folder"
    directives = {one for top, one in _HIDDEN.items() if os.path.commonpath((top, os.path.abspath(path))) == top}
    if "INVOCATION_ID" in environ and directives:
        return f"{absent}, or {directives.pop()} of the unit hides it"
    return absent


def _name() -> str:
    """The user that this process is, by name where it has one."""
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
