"""Libraries that a distribution does not have come along in its package, for appd alone.

Packages for Debian and Fedora put them into the folder `vendor` of this package. It comes last on the module search
path, so that a copy of the distribution's own, which gets its security updates, goes before; the package's dependencies
see to it that such a copy is new enough. Installed by pip there is no such folder.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import MutableSequence

__all__ = ["append_vendored"]

_FOLDER = os.path.join(os.path.dirname(os.path.dirname(__file__)), "vendor")


def append_vendored(path: MutableSequence[str] | None = None, folder: str = _FOLDER) -> None:
    """Puts the folder last on the module search path, once, if there is one.

    Args:
        path: The module search path; sys.path without it.
        folder: The folder.
    """
    path = sys.path if path is None else path
    if folder not in path and os.path.isdir(folder):
        path.append(folder)
