"""An ASGI application behind a guard: Basic authentication (RFC 7617) for whatever is served on the loop."""

from __future__ import annotations

import asyncio
from typing import Any

from appd.http.basic import Guard, Refusal
from appd.http.core.response import status_line

__all__ = ["GuardedApplication"]

_PLAIN = (b"content-type", b"text/plain; charset=utf-8")


class GuardedApplication:
    """Asks before the application is asked.

    The application finds the user in the scope, as `appd.user`, and no Authorization: it has no use for the password.

    Args:
        guarded: The application.
        guard: What asks.

    Attributes:
        guarded: As given.
    """

    def __init__(self, guarded: Any, guard: Guard) -> None:
        self.guarded = guarded
        self._guard = guard

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI 3."""
        if scope["type"] in ("http", "websocket"):
            found = await self._ask(scope)
            if isinstance(found, Refusal):
                await _refuse(found, scope, receive, send)
                return
            headers = [one for one in scope["headers"] if one[0] != b"authorization"]
            scope = {**scope, "headers": headers, "appd.user": found}
        await self.guarded(scope, receive, send)

    async def _ask(self, scope: Any) -> str | Refusal:
        """The user, or the answer."""
        said = [value for name, value in scope["headers"] if name == b"authorization"]
        authorization = said[0].decode("latin-1") if len(said) == 1 else None
        user = self._guard.known(authorization)
        if user is not None:
            return user
        peer = scope["client"][0] if scope["client"] else ""
        refusal = self._guard.refusal(authorization, peer)
        if refusal is not None:
            return refusal
        assert authorization is not None, "else it was refused"
        # A look at a password takes a tenth of a second, which the loop has not.
        return await asyncio.get_running_loop().run_in_executor(None, self._guard.verify, authorization, peer)


async def _refuse(refusal: Refusal, scope: Any, receive: Any, send: Any) -> None:
    kind = "http.response"
    if scope["type"] == "websocket":
        await receive()
        if "websocket.http.response" not in scope["extensions"]:
            await send({"type": "websocket.close", "code": 1008})
            return
        kind = "websocket.http.response"
    body = status_line(refusal.status)[1].removeprefix("HTTP/1.1 ").replace("\r", "").encode()
    fields = [(name.lower().encode(), value.encode("latin-1")) for name, value in refusal.fields]
    fields += [_PLAIN, (b"content-length", str(len(body)).encode())]
    await send({"type": f"{kind}.start", "status": refusal.status, "headers": fields})
    await send({"type": f"{kind}.body", "body": body, "more_body": False})
