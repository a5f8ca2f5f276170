"""The ASGI application of a `<proxy>`: each request goes to an upstream, and its response to the client.

Bodies stream both ways and are never kept: an upstream that takes nothing holds up its client, and a client that takes
nothing its upstream. A client that leaves ends the request at the upstream.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from appd.http.core.errors import AlreadyTold, Misuse
from appd.http.proxy.balance import Balance, Member
from appd.http.proxy.fields import hops_of, request_fields, response_fields, target_of
from appd.http.proxy.options import Options
from appd.http.proxy.retries import may_retry
from appd.journal import WARNING

if TYPE_CHECKING:
    import aiohttp

    from appd.http.log.entrylog import EntryLog
    from appd.http.proxy.pool import Pool
    from appd.http.proxy.upstream import Upstream

__all__ = ["Proxy"]

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# A request that has come through so many proxies of ours goes in a circle.
_MOST_HOPS = 10
_PHRASES = {
    501: b"501 Not Implemented\n",
    502: b"502 Bad Gateway\n",
    504: b"504 Gateway Timeout\n",
    508: b"508 Loop Detected\n",
}


class Proxy:
    """What a `<proxy>` section serves.

    Args:
        name: What the server is called.
        upstreams: Where requests go.
        options: How.
        log: The log.
        outgoing: How it speaks TLS, an `appd.tls.outgoing.Outgoing`; None where no upstream does.

    Attributes:
        options: As given.
        balance: The upstreams, and what is known of each.

    Resource handling: owns its connections to upstreams between the start-up and the shutdown of its lifespan.
    """

    def __init__(
        self,
        name: str,
        upstreams: Sequence[Upstream],
        options: Options,
        log: EntryLog,
        outgoing: Any = None,
    ) -> None:
        self._name = name
        self.options = options
        self._log = log
        self._outgoing = outgoing
        self.balance = Balance(upstreams, options.most_failures, options.pause)
        self._pool: Pool | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            from appd.http.proxy.bridge import bridge

            await bridge(self, scope, receive, send)
        else:
            await self._answer(scope, receive, send)

    @property
    def pool(self) -> Pool:
        """The connections to upstreams."""
        if self._pool is None:
            # Late: aiohttp is an extra.
            from appd.http.proxy.pool import Pool

            self._pool = Pool(self.options, self._outgoing)
        return self._pool

    def host_for(self, upstream: Upstream) -> str | None:
        """The Host that an upstream gets; None for the client's."""
        return None if self.options.preserve_host else upstream.authority

    def reached_nobody(self, member: Member, error: BaseException) -> str:
        """Takes down that an upstream has failed, and says how for the log."""
        from appd.http.proxy.pool import is_garbled

        what = f"upstream {member.upstream}: {reason(error, self.options)}"
        if self.balance.failed(member, garbled=is_garbled(error)) and len(self.balance.members) > 1:
            what += f"; it is passed over for {self.options.pause:g} s"
        return what

    def tell(self, scope: Scope, what: str) -> None:
        """Logs what became of a request."""
        method, path = scope.get("method", "GET"), scope["path"]
        fields = {"APPD_SERVER": self._name, "HTTP_METHOD": method, "HTTP_PATH": path}
        self._log.write(f"server {self._name!r}: {what}: {method} {path}", WARNING, LOGGER="appd.proxy", **fields)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                if self._pool is not None:
                    await self._pool.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if hops_of(scope["headers"]) >= _MOST_HOPS:
            self.tell(scope, "a request goes in a circle, and is answered with 508")
            await _refuse(508, send)
            return
        if scope["method"] != scope["method"].upper():
            # RFC 9110, 9.1: methods have a case, and the client of ours would write another one.
            self.tell(scope, "a method in small letters is answered with 501")
            await _refuse(501, send)
            return
        exchange = _Exchange(self, scope, receive, send)
        forwarding = asyncio.ensure_future(exchange.run())
        leaving = asyncio.ensure_future(exchange.client_has_left())
        try:
            await asyncio.wait({forwarding, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            if not forwarding.done():
                forwarding.cancel()
            with suppress(asyncio.CancelledError):
                await forwarding


class _Exchange:
    """One request."""

    def __init__(self, proxy: Proxy, scope: Scope, receive: Receive, send: Send) -> None:
        self._proxy = proxy
        self._scope = scope
        self._receive = receive
        self._send = send
        self._body_begun = False
        self._body_done = asyncio.Event()
        self._deadline: asyncio.Timeout | None = None
        self._has_body = scope["appd.length"] != 0
        if not self._has_body:
            self._body_done.set()

    async def client_has_left(self) -> None:
        """Ends when the client does. While the body comes, whoever reads that hears of it."""
        await self._body_done.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def run(self) -> None:
        """Has it answered."""
        from appd.http.proxy.pool import is_unreached

        balance = self._proxy.balance
        tried: list[Member] = []
        while (member := balance.choose(tried)) is not None:
            tried.append(member)
            balance.begin(member)
            try:
                response, failure = await self._ask(member)
                if response is not None:
                    await self._pass_on(member, response)
                    return
            finally:
                balance.end(member)
            assert failure is not None
            what = self._proxy.reached_nobody(member, failure)
            again = may_retry(self._scope["method"], reached=not is_unreached(failure), body_begun=self._body_begun)
            if again and len(tried) < len(balance.members):
                self._proxy.tell(self._scope, f"{what}; another is tried")
                continue
            status = 504 if isinstance(failure, TimeoutError) else 502
            self._proxy.tell(self._scope, f"{what}; answered with {status}")
            await _refuse(status, self._send)
            return

    async def _ask(self, member: Member) -> tuple[aiohttp.ClientResponse | None, Exception | None]:
        import aiohttp

        scope, upstream = self._scope, member.upstream
        fields = request_fields(scope, self._proxy.host_for(upstream))
        body = self._body() if self._has_body else None
        options = self._proxy.options
        try:
            # The time of the answer is counted from the end of the request on; a part of the body may take as long.
            async with asyncio.timeout(options.connect_timeout + options.response_timeout) as limit:
                self._deadline = limit
                response = await self._proxy.pool.request(upstream, scope["method"], target_of(scope), fields, body)
        except _ClientGone:
            raise asyncio.CancelledError from None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            if isinstance(error.__cause__, _ClientGone) or isinstance(error.__context__, _ClientGone):
                raise asyncio.CancelledError from None
            return None, error
        finally:
            self._deadline = None
        wrong = _wrong_with(response)
        if wrong:
            response.close()
            return None, ValueError(wrong)
        self._proxy.balance.succeeded(member)
        return response, None

    async def _body(self) -> AsyncIterator[bytes]:
        self._body_begun = True
        self._give(None)
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._body_done.set()
                raise _ClientGone
            data = message.get("body", b"")
            if data:
                self._give(self._proxy.options.response_timeout)
                yield data
                # How long the client takes is the affair of `<limits>`.
                self._give(None)
            if not message.get("more_body", False):
                break
        self._body_done.set()
        self._give(self._proxy.options.response_timeout)

    def _give(self, seconds: float | None) -> None:
        """Says how long what is waited for may take from now on; None for ever."""
        if self._deadline is not None:
            self._deadline.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)

    async def _pass_on(self, member: Member, response: aiohttp.ClientResponse) -> None:
        """Sends a response to the client as it comes."""
        import aiohttp

        finished = False
        try:
            fields = response_fields(response.raw_headers)
            try:
                await self._send({"type": "http.response.start", "status": response.status, "headers": fields})
            except Misuse as error:
                why = f"upstream {member.upstream}: its response cannot be sent on: {error}"
                self._proxy.tell(self._scope, f"{why}; answered with 502")
                await _refuse(502, self._send)
                return
            try:
                await self._pass_first(response.content)
                await self._pass_body(response.content)
                finished = True
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                why = f"upstream {member.upstream}: {reason(error, self._proxy.options)}"
                self._proxy.tell(self._scope, f"{why}; its response is cut")
                raise AlreadyTold("the upstream has ended in the middle of its response") from None
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            # A connection that still carries something of the response, or of the request, is not used again.
            if finished and self._body_done.is_set():
                response.release()
            else:
                response.close()

    async def _pass_first(self, content: aiohttp.StreamReader) -> None:
        """What has come behind the head; where nothing has, the head goes alone: an event may be long in coming."""
        data = content.read_nowait()
        if data or not content.at_eof():
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def _pass_body(self, content: aiohttp.StreamReader) -> None:
        most = self._proxy.options.response_timeout
        while not content.at_eof():
            async with asyncio.timeout(most):
                data = await content.readany()
            if data:
                await self._send({"type": "http.response.body", "body": data, "more_body": True})


class _ClientGone(Exception):
    """The client has left in the middle of its request."""


def reason(error: BaseException, options: Options) -> str:
    """What has become of a request, in a few words.

    Args:
        error: What aiohttp raised.
        options: For how long was waited.
    """
    import aiohttp

    if isinstance(error, aiohttp.ServerTimeoutError):
        return f"it could not be reached within connect-timeout ({options.connect_timeout:g} s)"
    if isinstance(error, TimeoutError):
        return f"no answer within response-timeout ({options.response_timeout:g} s)"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not good: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "it ended in the middle of a response"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closed the connection without an answer"
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        # asyncio's own texts name the address once more.
        return os.strerror(number) if number else str(error.os_error)
    return str(error) or type(error).__name__


def _wrong_with(response: aiohttp.ClientResponse) -> str:
    """What makes a response one that cannot be passed on; "" for nothing."""
    if not 200 <= response.status <= 599:
        # 1xx are not for here, and the others are none (RFC 9110, 15).
        return f"its status is {response.status:03}"
    codings = [value.strip().lower() for name, value in response.raw_headers if name.lower() == b"transfer-encoding"]
    if codings not in ([], [b"chunked"]):
        # RFC 9112, 6.1: who does not know a coding cannot tell where the body ends.
        return f"its transfer coding is {b', '.join(codings).decode('latin-1')}"
    return ""


async def _refuse(status: int, send: Send) -> None:
    body = _PHRASES[status]
    fields = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body, "more_body": False})
