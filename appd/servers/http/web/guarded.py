"""A mount behind a guard, on twisted.web."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import threads

from appd.http.basic import Guard, Refusal

__all__ = ["ServeGuarded"]


class ServeGuarded:
    """Asks who it is before a mount answers.

    Args:
        guard: What asks.
        serving: What answers.
        reactor: The reactor.
        pool: The threads that passwords are looked at in.
    """

    def __init__(
        self, guard: Guard, serving: Callable[[Any, tuple[bytes, ...]], None], reactor: Any, pool: Any
    ) -> None:
        self._guard = guard
        self._serving = serving
        self._reactor = reactor
        self._pool = pool

    def __call__(self, request: Any, rest: tuple[bytes, ...]) -> None:
        """Answers; arguments as for `appd.servers.http.web.wsgi.ServeApplication`."""
        shown: bytes | None = request.getHeader(b"authorization")
        authorization = shown.decode("latin-1") if shown is not None else None
        user = self._guard.known(authorization)
        if user is not None:
            self._let_in(request, rest, user)
            return
        peer = request.getClientAddress().host
        refusal = self._guard.refusal(authorization, peer)
        if refusal is not None or authorization is None:
            assert refusal is not None, "who shows nothing is refused"
            self._refuse(request, refusal)
            return
        gone: list[Any] = []
        request.notifyFinish().addErrback(gone.append)
        looked = threads.deferToThreadPool(self._reactor, self._pool, self._guard.verify, authorization, peer)
        looked.addCallback(self._go_on, request, rest, gone).addErrback(self._failed, request, gone)

    def _go_on(self, verdict: str | Refusal, request: Any, rest: tuple[bytes, ...], gone: list[Any]) -> None:
        if gone:
            return
        if isinstance(verdict, Refusal):
            self._refuse(request, verdict)
        else:
            self._let_in(request, rest, verdict)

    def _let_in(self, request: Any, rest: tuple[bytes, ...], user: str) -> None:
        request.remote_user = user
        self._serving(request, rest)

    def _refuse(self, request: Any, refusal: Refusal) -> None:
        for name, value in refusal.fields:
            request.setHeader(name.encode("latin-1"), value.encode("latin-1"))
        request.answer(refusal.status)

    def _failed(self, failure: Any, request: Any, gone: list[Any]) -> None:
        if not gone:
            request.tell_failure(failure.value)
