"""A ZConfig file → plain settings that know their lines, or every error in it at once."""

from __future__ import annotations

from appd.config.loader import load
from appd.config.settings import Settings

__all__ = ["Settings", "load"]
