"""Text of an `<ssh>` section → plain values; see `appd.config.datatypes`."""

from __future__ import annotations

import os
import re

from appd.config.datatypes import placed

__all__ = ["user_folder"]


@placed
def user_folder(text: str, file: str) -> str:
    """A folder, with %u for the user and %% for a percent sign; relative to the file that holds the line."""
    if re.search(r"%(?:[^u%]|\Z)", text.replace("%%", "")):
        raise ValueError(f"{text!r}: %u is the user, %% a percent sign")
    return os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(file)).replace("%", "%%"), text))
