"""`<auth>` as HTTP asks it: `appd.http.basic.Verifier`, in whatever thread."""

from __future__ import annotations

from typing import Any

from appd.auth.auth import Auth
from appd.auth.failures import peer_key

__all__ = ["Gate"]

# How long a request waits for its turn to have a hash reckoned, in seconds; a thread of the application waits with it.
_PATIENCE = 1.0
# A checker of somebody else's may take its time, but not for ever.
_CHECKER = 30.0


class Gate:
    """What one server asks.

    Args:
        auth: Who may log in.
        server: The name of the server.
        reactor: Where checkers of Twisted's are asked.
    """

    def __init__(self, auth: Auth, server: str, reactor: Any) -> None:
        self._auth = auth
        self._server = server
        self._reactor = reactor

    def recall(self, credentials: bytes) -> str | None:
        """See `Verifier`. A change of the file of passwords counts at once."""
        return self._auth.remembered.find(credentials, self._auth.version)

    def wait(self, peer: str) -> float:
        """See `Verifier`."""
        return self._auth.failures.wait(peer_key(peer))

    def verify(self, user: str, password: bytes, credentials: bytes, peer: str) -> bool | None:
        """See `Verifier`."""
        auth = self._auth
        version = auth.version
        good = False
        if auth.passwords is not None:
            # Whoever came before another of the same peer has failed is not ahead of what that costs.
            found = auth.check_password(user, password, _PATIENCE, lambda: self.wait(peer) > 0)
            if found is None:
                return None
            good = found
        if good or (auth.checkers and self._ask_checkers(user, password)):
            auth.remembered.keep(credentials, version, user)
            return True
        auth.failed(user, peer, self._server)
        return False

    def _ask_checkers(self, user: str, password: bytes) -> bool:
        from twisted.cred.credentials import UsernamePassword
        from twisted.internet import defer, threads
        from twisted.internet.error import ReactorNotRunning

        from appd.auth.portal import ask

        credentials = UsernamePassword(user.encode("utf-8", "surrogateescape"), password)

        def asked() -> Any:
            return ask(self._auth, credentials, self._server).addTimeout(_CHECKER, self._reactor)

        try:
            return threads.blockingCallFromThread(self._reactor, asked) is not None
        except (defer.TimeoutError, ReactorNotRunning):
            return False
