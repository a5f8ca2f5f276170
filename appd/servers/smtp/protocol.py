"""SMTP and LMTP connections.

twisted.mail's server parses commands, logs in and validates addresses. What is ours:

* One command after the other: what a client sends ahead waits until the answer before is known, whoever takes his time
  for it. What it sends behind STARTTLS is dropped (CVE-2011-0411).
* The end of a message is CR LF . CR LF and nothing else. A message with a bare CR or LF is refused: what we take for
  its text another server may take for the end of it, and for commands (SMTP smuggling, CVE-2023-51764 and its kin).
* A line that is too long, or a message, is refused at its end, and its rest is never read as commands.
* An answer for each recipient in LMTP: RFC 2033, 4.2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from twisted.internet import defer
from twisted.internet.interfaces import ISSLTransport
from twisted.logger import Logger
from twisted.mail.interfaces import IMessageDelivery
from twisted.mail.smtp import COMMAND, DATA, SMTPServerError

from appd.auth.portal import host_of
from appd.limits import logged_in
from appd.servers.smtp.delivery import verdict_of
from appd.servers.smtp.lines import Lines, WaitingPortal
from appd.servers.smtp.wording import MAIL_PARAMETERS, look_at_parameters, with_status

__all__ = ["Connection"]

_log = Logger(namespace="appd.smtp")

# Answers of 500 and above before a client is sent away.
_ERRORS = 20
_LOGINS = 3
_HOPS = 100


class Connection(Lines):
    """One connection.

    Attributes:
        kind: What it speaks, by the names of RFC 3848: ESMTPSA …
        user: Who has logged in; None before.
    """

    noisy = False
    timeout: Any = None  # that of the connection counts

    def __init__(self, challengers: Any, starter: Any) -> None:
        super().__init__(dict(challengers), starter)
        self.user: str | None = None
        self._errors = self._failures = 0
        self._messages: list[Any] = []
        self._count = 0
        self._size = self._hops = 0
        self._in_head = True
        self._failed: SMTPServerError | None = None
        self._asked = False
        self._later: Any = None

    @property
    def policy(self) -> Any:
        """What the section says."""
        return self.factory.policy

    @property
    def is_secure(self) -> bool:
        """Whether nobody on the way can read it."""
        return bool(ISSLTransport.providedBy(self.transport)) or self.policy.login_without_tls

    @property
    def kind(self) -> str:
        name = "LMTP" if self.policy.is_lmtp else "ESMTP"
        return f"{name}{'S' if ISSLTransport.providedBy(self.transport) else ''}{'A' if self.user is not None else ''}"

    def connectionMade(self) -> None:
        self._peer = host_of(self.transport)
        self.host = self.policy.host
        self.portal = self.factory.portal_for(self.transport)
        self.factory.open.add(self)
        super().connectionMade()
        if not self.policy.needs_login:
            logged_in(self.transport)
        if self.factory.draining:
            self.drain()

    def greeting(self) -> bytes:
        """What the server says first."""
        return bytes(self.host) + (b" LMTP" if self.policy.is_lmtp else b" ESMTP")

    def lineLengthExceeded(self, line: bytes) -> None:
        """See LineOnlyReceiver: of a message it is said at the end."""
        if self.mode == DATA:
            self._fail(SMTPServerError(500, b"5.5.2 line too long"))
        else:
            self.mode = COMMAND
            self.sendCode(500, b"5.5.2 line too long")

    def lineReceived(self, line: bytes) -> None:
        """See SMTP; what makes no sense to twisted.mail is a syntax error."""
        try:
            super().lineReceived(line)
        except Exception as error:
            # twisted.mail expects base64, three parts of it, and words where there may be none.
            _log.debug("{appd_peer}: a command that makes no sense: {error!r}", appd_peer=self._peer, error=error)
            self.mode = COMMAND
            self.sendCode(501, b"5.5.4 syntax error")

    def sendCode(self, code: int, message: bytes | str = b"") -> None:
        """See SMTP; too many errors end the connection."""
        if isinstance(message, str):
            message = message.encode("ascii", "replace")
        super().sendCode(code, with_status(code, message))
        if code >= 500:
            self._errors += 1
            if self._errors == _ERRORS:
                super().sendCode(421, b"4.7.0 too many errors")
                self.transport.loseConnection()

    # Commands.

    def _greeted(self, rest: bytes, extended: bool) -> None:
        # twisted.mail asks the peer for its host, and one of a UNIX socket has none.
        self._helo = (rest, self._peer.encode() or b"local")
        self._from = None
        self._to = []
        lines = self.host + b" Hello " + self._helo[1]
        # RFC 2034, 4: these alone have no enhanced status codes.
        super().sendCode(250, lines + b"\n" + self.listExtensions() if extended else lines)

    def do_HELO(self, rest: bytes) -> None:
        """RFC 5321, 4.1.1.1."""
        if self.policy.is_lmtp:
            self.sendCode(500, b"5.5.1 this is LMTP: LHLO")
        else:
            self._greeted(rest, extended=False)

    def do_EHLO(self, rest: bytes) -> None:
        """RFC 5321, 4.1.1.1."""
        if self.policy.is_lmtp:
            self.sendCode(500, b"5.5.1 this is LMTP: LHLO")
        else:
            self._greeted(rest, extended=True)

    def do_LHLO(self, rest: bytes) -> None:
        """RFC 2033, 4.1."""
        if self.policy.is_lmtp:
            self._greeted(rest, extended=True)
        else:
            self.sendCode(500, b"5.5.1 this is SMTP: EHLO")

    def do_NOOP(self, rest: bytes) -> None:
        """RFC 5321, 4.1.1.9."""
        self.sendCode(250, b"2.0.0 nothing done")

    def do_VRFY(self, rest: bytes) -> None:
        """RFC 5321, 3.5.3: nobody is told who is here."""
        self.sendCode(252, b"2.5.2 send some mail and see")

    def extensions(self) -> dict[bytes, list[bytes] | None]:
        """See ESMTP."""
        found = super().extensions()
        mechanisms = found.pop(b"AUTH", None)
        if mechanisms and self.is_secure and not self.authenticated:
            found[b"AUTH"] = mechanisms
        if ISSLTransport.providedBy(self.transport):
            found.pop(b"STARTTLS", None)  # RFC 3207, 4.2; twisted.mail knows of TLS that it began itself
        return {
            b"PIPELINING": None,
            b"8BITMIME": None,
            b"SIZE": [b"%d" % self.policy.size_limit],
            b"ENHANCEDSTATUSCODES": None,
            **found,
        }

    def ext_STARTTLS(self, rest: bytes) -> None:
        """RFC 3207."""
        if ISSLTransport.providedBy(self.transport):
            self.sendCode(503, b"5.5.1 TLS is there")
        elif not self.canStartTLS:
            self.sendCode(454, b"4.7.0 TLS is not available")
        elif rest:
            self.sendCode(501, b"5.5.4 STARTTLS takes nothing")
        else:
            self.sendCode(220, b"2.0.0 go ahead")
            # RFC 3207, 4.2: all that was said before is forgotten.
            self._helo, self._from, self._to = (None, self._peer.encode()), None, []
            self.startedTLS = self._starting = True

    def ext_AUTH(self, rest: bytes) -> None:
        """RFC 4954."""
        if not self.challengers:
            self.sendCode(502, b"5.5.1 nobody logs in here")
        elif not self.is_secure:
            self.sendCode(538, b"5.7.11 first STARTTLS")
        elif self._from is not None or not rest.strip():
            self.sendCode(503 if rest.strip() else 501, b"5.5.1 AUTH MECHANISM, before MAIL")
        else:
            super().ext_AUTH(rest)

    def state_AUTH(self, response: Any) -> None:
        """See ESMTP; the next command waits for the verdict."""
        login = WaitingPortal(self.portal, self._wait_for)
        portal, self.portal = self.portal, login
        try:
            super().state_AUTH(response)
        finally:
            self.portal = portal

    def _cbAuthenticated(self, loginInfo: Any) -> Any:
        name = getattr(self.challenger, "username", b"") or b""
        self.user = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
        logged_in(self.transport)
        return super()._cbAuthenticated(loginInfo)

    def _ebAuthenticated(self, reason: Any) -> None:
        super()._ebAuthenticated(reason)
        self._failures += 1
        if self._failures >= _LOGINS and self.transport is not None:
            self.sendCode(421, b"4.7.0 too many failed logins")
            self.transport.loseConnection()

    # Addresses.

    def do_MAIL(self, rest: bytes) -> None:
        """RFC 5321, 4.1.1.2, and SIZE of RFC 1870."""
        if self.policy.needs_login and not self.authenticated:
            self.sendCode(530, b"5.7.0 log in first" if self.is_secure else b"5.7.0 first STARTTLS, then log in")
        elif self._takes(self.mail_re.match(rest), MAIL_PARAMETERS):
            super().do_MAIL(rest)

    def do_RCPT(self, rest: bytes) -> None:
        """RFC 5321, 4.1.1.3: no extension with parameters of it is announced."""
        if self._takes(self.rcpt_re.match(rest), {}):
            super().do_RCPT(rest)

    def _takes(self, command: re.Match[bytes] | None, known: Mapping[bytes, re.Pattern[bytes]]) -> bool:
        """Whether the parameters of a command are such that it may go on; the client is told if not."""
        try:
            look_at_parameters((command and command["opts"]) or b"", known, self.policy.size_limit)
        except SMTPServerError as error:
            self._refuse(error)
            return False
        return True

    def validateFrom(self, helo: Any, origin: Any) -> Any:
        """See SMTP."""
        if self.delivery is None and self.deliveryFactory is None:
            made = self.policy.make(None)
            if IMessageDelivery.providedBy(made):
                self.delivery = made
            else:
                self.deliveryFactory = made
        return self._answered(defer.maybeDeferred(super().validateFrom, helo, origin))

    def validateTo(self, user: Any) -> Any:
        """See SMTP: a recipient elsewhere is for who has logged in, and for a delivery that takes it."""
        policy = self.policy
        if len(self._to) >= policy.recipients:
            raise SMTPServerError(452, b"4.5.3 too many recipients")
        domain = user.dest.domain.decode("latin-1").lower()
        if user.dest.local.lower() == b"postmaster" and user.dest.domain == self.host and policy.domains:
            user.dest.domain = policy.domains[0].encode()
        elif domain not in policy.domains and not (policy.relays and self.authenticated):
            raise SMTPServerError(550, b"5.7.1 no mail for that domain is taken here")
        assert self.delivery is not None
        return self._answered(defer.maybeDeferred(self.delivery.validateTo, user))

    def _answered(self, done: defer.Deferred[Any]) -> defer.Deferred[Any]:
        answered: defer.Deferred[Any] = defer.Deferred()
        self._wait_for(done)
        done.addBoth(answered.callback)
        return answered

    def _refuse(self, failure: Any) -> None:
        self.sendCode(*verdict_of(failure, self.factory.server))

    _ebFromValidate = _ebToValidate = _refuse

    # Messages.

    def do_DATA(self, rest: bytes) -> None:
        """RFC 5321, 4.1.1.4."""
        if self._from is None or not self._to:
            self.sendCode(503, b"5.5.1 first MAIL and RCPT")
            return
        helo, origin, recipients = self._helo, self._from, self._to
        self._from, self._to, self._messages = None, [], []
        self._size = self._hops = 0
        self._in_head, self._failed = True, None
        try:
            for user, make in recipients:
                message = make()
                self._messages.append(message)
                assert self.delivery is not None
                for line in (self.delivery.receivedHeader(helo, origin, [user]) or b"").splitlines():
                    message.lineReceived(line)
        except Exception as error:
            self._drop()
            self.sendCode(*verdict_of(error, self.factory.server))
            return
        self.mode = DATA
        self.sendCode(354, b"go ahead")

    def dataLineReceived(self, line: bytes) -> None:
        """A line of a message, or its end."""
        if line[:1] == b".":
            if line == b".":
                self._complete()
                return
            line = line[1:]
        if self._failed is not None:
            return
        self._size += len(line) + 2
        self._hops += self._in_head and line[:9].lower() == b"received:"
        if self._size > self.policy.size_limit:
            self._fail(SMTPServerError(552, b"5.3.4 the message is too long"))
        elif b"\n" in line or b"\r" in line:
            self._fail(SMTPServerError(554, b"5.6.0 a bare CR or LF in the message"))
        elif self._hops > _HOPS:
            self._fail(SMTPServerError(554, b"5.4.6 the message goes round in a circle"))
        else:
            self._in_head = self._in_head and line != b""
            try:
                for one in self._messages:
                    one.lineReceived(line)
            except Exception as error:
                code, reason = verdict_of(error, self.factory.server)
                self._fail(SMTPServerError(code, reason))

    state_DATA = dataLineReceived

    def _fail(self, error: SMTPServerError) -> None:
        if self._failed is None:
            self._failed = error
            self._count = len(self._messages)
            self._drop()

    def _drop(self) -> None:
        messages, self._messages = self._messages, []
        for one in messages:
            try:
                one.connectionLost()
            except Exception:
                _log.failure("{appd_server}: a message that is given up", appd_server=self.factory.server)

    def _complete(self) -> None:
        self.mode = COMMAND
        failed = self._failed
        if failed is not None:
            for _ in range(self._count if self.policy.is_lmtp else 1):
                self.sendCode(failed.code, failed.resp)
            return
        messages, self._messages = self._messages, []
        delivered = defer.DeferredList([defer.maybeDeferred(one.eomReceived) for one in messages], consumeErrors=True)
        delivered.addCallback(self._delivered)
        self._wait_for(delivered)

    def _delivered(self, results: list[tuple[bool, Any]]) -> None:
        if self.transport is None:
            return
        verdicts = [
            (250, b"2.0.0 delivered") if ok else verdict_of(result, self.factory.server) for ok, result in results
        ]
        if not self.policy.is_lmtp:
            # One answer for all: a client that tries again sends to all again.
            verdicts = [max(verdicts)]
        for code, text in verdicts:
            self.sendCode(code, text)
        if all(code == 250 for code, _text in verdicts):
            self.factory.count(self)

    # The end.

    def drain(self) -> None:
        """Ends the connection when no message is on its way and nothing has come for a moment."""
        self._asked = False
        self._later = self.factory.reactor.callLater(self.factory.lull, self._end_if_idle)

    def _end_if_idle(self) -> None:
        if self._asked or self._pending or self.mode == DATA:
            self.drain()
        else:
            self.sendCode(421, self.host + b" is going down or reloading")
            self.transport.loseConnection()

    def connectionLost(self, reason: Any = None) -> None:
        """See SMTP."""
        self.factory.open.discard(self)
        if self._later is not None and self._later.active():
            self._later.cancel()
        self._drop()
        self.mode = COMMAND
        super().connectionLost(reason)
