"""`<auth>` as a portal of twisted.cred, one for each connection, since only a connection knows its peer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.cred.credentials import ISSHPrivateKey, IUsernamePassword, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet import defer, threads
from twisted.logger import Logger

from appd.auth.auth import AT_ONCE, Auth
from appd.auth.failures import peer_key
from appd.auth.keyfiles import signed

__all__ = ["PeerPortal", "ask", "host_of", "takes"]

_log = Logger(namespace="appd.auth")
# Logins that are being looked at or wait for it, in a process; more are refused.
_MOST = 500


def host_of(transport_or_address: Any) -> str:
    """The IP address of a peer; "" for one without.

    Args:
        transport_or_address: A transport, or an IAddress.
    """
    get_peer = getattr(transport_or_address, "getPeer", None)
    address = get_peer() if get_peer is not None else transport_or_address
    # conch has an address of its own around the one of the transport
    address = getattr(address, "address", address)
    return str(getattr(address, "host", "") or "")


def takes(auth: Auth, interface: Any) -> bool:
    """Whether credentials of a kind can be verified.

    Args:
        auth: Who may log in.
        interface: An interface of twisted.cred.credentials.
    """
    return interface in _interfaces(auth)


def _interfaces(auth: Auth) -> list[Any]:
    found = [one for checker in auth.checkers for one in checker.credentialInterfaces]
    if auth.passwords is not None:
        found.append(IUsernamePassword)
    if auth.keys is not None:
        found.append(ISSHPrivateKey)
    return list(dict.fromkeys(found))


class _Late(Exception):
    """The turn of an attempt comes when its peer has to wait by now."""


class PeerPortal(Portal):
    """What a protocol of Twisted asks; each failure costs the peer some time.

    Args:
        realm: Makes the avatars: twisted.cred.portal.IRealm. Users are bytes, UTF-8.
        auth: Who may log in.
        peer: The address of the other side; "" without one.
        server: The name of the server.
        reactor: The reactor.
        pool: The threads that hashes are reckoned in.
    """

    def __init__(self, realm: Any, auth: Auth, peer: str, server: str, reactor: Any, pool: Any) -> None:
        super().__init__(realm)
        self._auth = auth
        self._peer = peer
        self._server = server
        self._reactor = reactor
        self._pool = pool

    def listCredentialsInterfaces(self) -> Any:
        """The kinds of credentials that can be verified."""
        return _interfaces(self._auth)

    @defer.inlineCallbacks
    def login(self, credentials: Any, mind: Any, *interfaces: Any) -> Any:
        """See `twisted.cred.portal.Portal.login`; fails with UnauthorizedLogin, whatever the reason.

        Args:
            credentials: What the client shows.
            mind: As the protocol has it.
            interfaces: What the avatar shall be.
        """
        auth, key = self._auth, peer_key(self._peer)
        is_password, is_key = IUsernamePassword.providedBy(credentials), ISSHPrivateKey.providedBy(credentials)
        user = _text(getattr(credentials, "username", b""))
        avatar_id = None
        # The offer of a key without a signature guesses nothing.
        guesses = not is_key or credentials.signature is not None
        wait = auth.failures.enter(key) if guesses else 0.0
        if wait == 0.0:
            try:
                avatar_id = yield self._verified(credentials, user, is_password, key if guesses else None)
            except _Late:
                # It came before another of this peer had failed, and its turn after that.
                wait = auth.failures.enter(key)
        if wait:
            yield _sleep(self._reactor, wait)
            avatar_id = yield self._verified(credentials, user, is_password, None)
        if avatar_id is None:
            if guesses:
                cost = auth.failed(user, self._peer, self._server, "key" if is_key else "password")
                yield _sleep(self._reactor, cost)
            raise UnauthorizedLogin()
        avatar = yield self.realm.requestAvatar(avatar_id, mind, *interfaces)
        return avatar

    @defer.inlineCallbacks
    def _verified(self, credentials: Any, user: str, is_password: bool, key: str | None) -> Any:
        auth = self._auth
        if is_password and auth.passwords is not None:
            password = _bytes(credentials.password)
            good = yield self._in_thread(lambda: auth.check_password(user, password), key)
            if good:
                return user.encode("utf-8")
        elif auth.keys is not None and ISSHPrivateKey.providedBy(credentials):
            found = yield self._key_verified(credentials, user, key)
            if found is not None:
                return found
        found = yield ask(auth, credentials, self._server)
        return found

    @defer.inlineCallbacks
    def _key_verified(self, credentials: Any, user: str, key: str | None) -> Any:
        keys = yield self._in_thread(lambda: self._auth.keys_of(user), key)
        return credentials.username if signed(credentials, keys or ()) else None

    @defer.inlineCallbacks
    def _in_thread(self, call: Callable[[], Any], key: str | None) -> Any:
        if self._auth.waiting >= _MOST:
            return None
        self._auth.waiting += 1
        try:
            # A queue in front of the pool: who waits for a hash holds no thread that files or applications need.
            if self._auth.queue is None:
                self._auth.queue = defer.DeferredSemaphore(AT_ONCE)
            found = yield self._auth.queue.run(self._begin, call, key)
        finally:
            self._auth.waiting -= 1
        return found

    def _begin(self, call: Callable[[], Any], key: str | None) -> Any:
        if key is not None and self._auth.failures.wait(key):
            raise _Late()
        return threads.deferToThreadPool(self._reactor, self._pool, call)


@defer.inlineCallbacks
def ask(auth: Auth, credentials: Any, server: str) -> Any:
    """Asks the checkers of an `<auth>`, one after the other.

    Args:
        auth: It.
        credentials: What the client shows.
        server: The name of the server, for the log.

    Returns:
        A Deferred of what the first that knows them calls the user; of None when none does. It fails as conch's
        checkers fail to say "go on".
    """
    shown = [credentials]
    if IUsernamePassword.providedBy(credentials):
        # Some checkers of Twisted's compare bytes, and others, `memory` among them, text.
        user, password = _text(credentials.username), _bytes(credentials.password)
        text: Any = user, password.decode("utf-8", "surrogateescape")
        shown = [
            UsernamePassword(user.encode("utf-8", "surrogateescape"), password),
            UsernamePassword(*text),
        ]
    for checker in auth.checkers:
        for one in shown:
            if not any(interface.providedBy(one) for interface in checker.credentialInterfaces):
                continue
            try:
                found = yield defer.maybeDeferred(checker.requestAvatarId, one)
            except UnauthorizedLogin:
                continue
            except Exception as error:
                if _is_conch(error):
                    raise
                _log.failure("{appd_server}: a checker of auth {auth} failed", appd_server=server, auth=auth.name)
                continue
            if found is not None and found != ():
                return found.encode("utf-8") if isinstance(found, str) else found
    return None


def _is_conch(error: Exception) -> bool:
    """ValidPublicKey and NotEnoughAuthentication are how conch's checkers say "go on"."""
    return type(error).__module__.startswith("twisted.conch.")


def _text(name: Any) -> str:
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else str(name)


def _bytes(password: Any) -> bytes:
    return password if isinstance(password, bytes) else str(password).encode("utf-8")


def _sleep(reactor: Any, seconds: float) -> defer.Deferred[None]:
    waiting: defer.Deferred[None] = defer.Deferred()
    reactor.callLater(seconds, waiting.callback, None)
    return waiting
