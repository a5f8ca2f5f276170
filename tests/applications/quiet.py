"""The plainest ASGI application that takes a body: for tests of what comes before any application."""

from __future__ import annotations

from typing import Any


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Reads a body to its end, and answers."""
    if scope["type"] != "http":
        raise ValueError("no lifespan")
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"understood"})
