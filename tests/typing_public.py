"""Only mypy runs this file: what a server type of another package looks like to a type checker."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory

from appd.config import Settings
from appd.servers import ServerType


def make(db: Any, settings: Settings) -> Factory:
    factory = Factory()
    factory.noisy = bool(settings.values)
    return factory


server_type: ServerType = ServerType(make, 7)
kinds: frozenset[str] = server_type.kinds
