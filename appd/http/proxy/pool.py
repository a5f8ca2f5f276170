"""The connections to upstreams: one aiohttp session for TCP, and one for each UNIX socket.

A connection that is kept says nothing until it is asked something. What an upstream sends meanwhile would be taken for
the answer to the next request, which is another client's: such a connection is closed, and one that has ended as well.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import aiohttp
from yarl import URL

from appd.http.proxy.fields import Fields
from appd.http.proxy.options import Options
from appd.http.proxy.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Pool", "is_garbled", "is_unreached"]

# As aiohttp adds them by itself, and nobody asked for them.
_NOT_OURS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
# What an upstream may send at once; appd's own limits of responses are those of its applications: none.
_LINE = 65536


class Pool:
    """Connections to upstreams.

    Args:
        options: How they are treated.
        outgoing: How it speaks TLS, an `appd.tls.outgoing.Outgoing`; None where no upstream does.

    Resource handling: made within the loop; owns its connections until `close`.
    """

    def __init__(self, options: Options, outgoing: Any) -> None:
        self._options = options
        self._outgoing = outgoing
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    def request(self, upstream: Upstream, method: str, target: str, fields: Fields, body: Any) -> Any:
        """Sends a request.

        Args:
            upstream: To whom.
            method: The method.
            target: Path and query as the upstream is to see them.
            fields: Its fields.
            body: The body, an asynchronous iterable of bytes; None without one.

        Returns:
            What aiohttp's `request` returns: awaited it is the response, whose connection its `close` gives up.

        Raises:
            aiohttp.ClientError, TimeoutError: When awaited.
        """
        return self._session(upstream).request(
            method, self._url(upstream, target), headers=fields, data=body, allow_redirects=False, **self._tls(upstream)
        )

    def connect(self, upstream: Upstream, target: str, fields: Fields, protocols: Iterable[str]) -> Any:
        """Opens a WebSocket; see `request`. Messages of any size pass: the limit is that of the client's side."""
        return self._session(upstream).ws_connect(
            self._url(upstream, target),
            headers=fields,
            protocols=tuple(protocols),
            max_msg_size=0,
            autoclose=False,
            **self._tls(upstream),
        )

    def _tls(self, upstream: Upstream) -> dict[str, Any]:
        if upstream.scheme != "https":
            return {}
        # Asked for each time: files may have been renewed. Where they were not it is the same, and connections too.
        return {
            "ssl": self._outgoing.context("http/1.1"),
            "server_hostname": self._outgoing.name(upstream.host),
        }

    async def close(self) -> None:
        """Closes every connection."""
        for one in self._sessions.values():
            await one.close()

    @staticmethod
    def _url(upstream: Upstream, target: str) -> URL:
        # Nothing of the target is decoded and encoded anew: it means what the client wrote.
        return URL(f"{upstream.scheme}://{upstream.authority}{target}", encoded=True)

    def _session(self, upstream: Upstream) -> aiohttp.ClientSession:
        session = self._sessions.get(upstream.path)
        if session is None:
            session = self._sessions[upstream.path] = aiohttp.ClientSession(
                connector=self._connector(upstream.path),
                # Nothing is added to what the client sends, and nothing kept between clients.
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=_NOT_OURS,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._options.connect_timeout),
                max_line_size=_LINE,
                max_field_size=_LINE,
            )
        return session

    def _connector(self, path: str) -> aiohttp.BaseConnector:
        options: dict[str, Any] = {"limit": 0, "limit_per_host": self._options.connections}
        if self._options.keep_alive:
            options["keepalive_timeout"] = self._options.keep_alive
        else:
            options["force_close"] = True
        if path:
            return _UnixConnector(path=path, **options)
        return _TCPConnector(**options)


def is_unreached(error: BaseException) -> bool:
    """Whether an upstream cannot have got anything of a request, by what `Pool` raised."""
    return isinstance(error, aiohttp.ClientConnectorError | aiohttp.ServerTimeoutError)


def is_garbled(error: BaseException) -> bool:
    """Whether an upstream has answered, and what it said is no response, by what `Pool` raised or is wrong with it."""
    return isinstance(error, aiohttp.ClientResponseError | ValueError)


class _Quiet(aiohttp.BaseConnector):
    """Gives no connection away on which something has come that nobody asked for."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._used: WeakSet[Any] = WeakSet()

    async def connect(self, *arguments: Any, **options: Any) -> Any:
        while True:
            connection = await super().connect(*arguments, **options)
            protocol: Any = connection.protocol
            if protocol not in self._used:
                self._used.add(protocol)
                return connection
            if not protocol.should_close and not _has_come(protocol.transport):
                return connection
            connection.close()


class _TCPConnector(_Quiet, aiohttp.TCPConnector):
    """See `_Quiet`."""


class _UnixConnector(_Quiet, aiohttp.UnixConnector):
    """See `_Quiet`."""


def _has_come(transport: Any) -> bool:
    """Whether the loop has something to read yet, or the end. Over TLS that may be of TLS, as a ticket is."""
    if transport is None or transport.get_extra_info("ssl_object") is not None:
        return False
    asked = select.poll()
    asked.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(asked.poll(0))
