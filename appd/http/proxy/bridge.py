"""A WebSocket between a client and an upstream: messages pass both ways as they come, and so do the closes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import aiohttp

from appd.http.proxy.fields import request_fields, response_fields, target_of
from appd.http.proxy.pool import is_unreached
from appd.http.proxy.retries import may_retry

if TYPE_CHECKING:
    from appd.http.proxy.balance import Member
    from appd.http.proxy.fields import Fields
    from appd.http.proxy.forwarding import Proxy, Receive, Scope, Send
    from appd.http.proxy.upstream import Upstream

__all__ = ["bridge"]

# RFC 6455, 7.4.1: codes that are never sent.
_UNSENT = {1005: 1000, 1006: 1011, 1015: 1011}
_GOING_AWAY, _TRY_AGAIN = 1001, 1013


async def bridge(proxy: Proxy, scope: Scope, receive: Receive, send: Send) -> None:
    """Serves one WebSocket of a client.

    Args:
        proxy: Whose it is.
        scope: Of ASGI.
        receive: Of ASGI.
        send: Of ASGI.
    """
    if (await receive())["type"] != "websocket.connect":
        return
    tried: list[Member] = []
    while (member := proxy.balance.choose(tried)) is not None:
        tried.append(member)
        proxy.balance.begin(member)
        try:
            failure = await _try(proxy, member, scope, receive, send)
        finally:
            proxy.balance.end(member)
        if failure is None:
            return
        what = proxy.reached_nobody(member, failure)
        if may_retry("GET", reached=not is_unreached(failure), body_begun=False) and len(tried) < len(
            proxy.balance.members
        ):
            proxy.tell(scope, f"{what}; another is tried")
            continue
        proxy.tell(scope, f"{what}; the WebSocket is refused")
        await _deny(scope, send, 504 if isinstance(failure, TimeoutError) else 502, [])
        return


async def _try(proxy: Proxy, member: Member, scope: Scope, receive: Receive, send: Send) -> Exception | None:
    """Opens the upstream's side.

    Returns:
        Why it could not be opened; None when the client was served, or has been told what the upstream said.
    """
    upstream = member.upstream
    fields = request_fields(scope, proxy.host_for(upstream))
    connecting = asyncio.ensure_future(_connect(proxy, upstream, scope, fields))
    # Before it is accepted a client can say nothing but that it leaves.
    leaving = asyncio.ensure_future(receive())
    try:
        await asyncio.wait({connecting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not connecting.done():
            connecting.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await connecting
            return None
        there = connecting.result()
    except aiohttp.WSServerHandshakeError as refusal:
        proxy.balance.succeeded(member)
        # A status that is none for a refusal came with a handshake that was wrong.
        await _deny(scope, send, refusal.status if refusal.status >= 300 else 502, [])
        return None
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        return error
    finally:
        leaving.cancel()
    proxy.balance.succeeded(member)
    try:
        headers = response_fields(there._response.raw_headers)
        await send({"type": "websocket.accept", "subprotocol": there.protocol, "headers": headers})
        await _pass_both_ways(there, receive, send)
    finally:
        await there.close()
    return None


async def _connect(proxy: Proxy, upstream: Upstream, scope: Scope, fields: Fields) -> Any:
    async with asyncio.timeout(proxy.options.connect_timeout + proxy.options.response_timeout):
        return await proxy.pool.connect(upstream, target_of(scope), fields, scope.get("subprotocols", ()))


async def _pass_both_ways(there: Any, receive: Receive, send: Send) -> None:
    ways = [asyncio.ensure_future(_to_upstream(there, receive)), asyncio.ensure_future(_to_client(there, send))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in ways:
            if not one.done():
                one.cancel()
            with suppress(asyncio.CancelledError, ConnectionError, aiohttp.ClientError):
                await one


async def _to_upstream(there: Any, receive: Receive) -> None:
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            code = message.get("code") or _GOING_AWAY
            await there.close(code=_UNSENT.get(code, code), message=(message.get("reason") or "").encode())
            return
        if message.get("bytes") is not None:
            await there.send_bytes(message["bytes"])
        else:
            await there.send_str(message["text"])


async def _to_client(there: Any, send: Send) -> None:
    while True:
        message = await there.receive()
        if message.type == aiohttp.WSMsgType.TEXT:
            await send({"type": "websocket.send", "text": message.data})
        elif message.type == aiohttp.WSMsgType.BINARY:
            await send({"type": "websocket.send", "bytes": message.data})
        else:
            code = message.data if message.type == aiohttp.WSMsgType.CLOSE else there.close_code
            code = code if isinstance(code, int) else 1006
            await send({"type": "websocket.close", "code": _UNSENT.get(code, code), "reason": message.extra or ""})
            return


async def _deny(scope: Scope, send: Send, status: int, fields: list[tuple[bytes, bytes]]) -> None:
    if "websocket.http.response" in (scope.get("extensions") or {}):
        await send({"type": "websocket.http.response.start", "status": status, "headers": fields})
        await send({"type": "websocket.http.response.body", "body": b"", "more_body": False})
    else:
        await send({"type": "websocket.close", "code": _TRY_AGAIN})
