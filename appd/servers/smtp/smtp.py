"""`<smtp>`: a section → a server."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

from appd import hosting
from appd.config.settings import Settings
from appd.errors import ConfigurationError, Problem
from appd.lending import Section
from appd.limits import StreamLimits
from appd.servers.sectioned import SectionedServerType, read_limits
from appd.service import ServerService

__all__ = ["Policy", "server_type"]

# RFC 5321, 4.5.3.2.7 gives a server five minutes of patience with a client.
USUAL = StreamLimits(idle_timeout=300, login_timeout=60)


class Policy(NamedTuple):
    """What a section says.

    Attributes:
        make: User → an IMessageDelivery or an IMessageDeliveryFactory.
        domains: Whose mail is taken from everybody.
        relays: Whether mail for others is taken from who has logged in.
        needs_login: Whether nothing is taken from anybody else.
        login_without_tls: Whether passwords may come in plain.
        is_lmtp: Whether LMTP is spoken.
        size_limit: The longest message, in bytes.
        recipients: The most recipients of a message.
        host: What the server calls itself.
    """

    make: Callable[[str | None], Any]
    domains: tuple[str, ...]
    relays: bool
    needs_login: bool
    login_without_tls: bool
    is_lmtp: bool
    size_limit: int
    recipients: int
    host: str


class _SmtpServerType(SectionedServerType):
    limits = USUAL.keys
    outgoing = False  # a delivery of somebody's own may send on; appd does not
    starts_tls = True
    processes = "all"
    section_says = "says whose mail it takes"

    def make(self, name: str, section: Section) -> Any:
        """See SectionedServerType."""
        from appd.auth.sections import portals_or_problems

        settings, host = section.settings, section.host
        problems = _contradictions(settings, section.tls is not None)
        limits = read_limits(section, USUAL)
        make_portal, unknown = portals_or_problems(settings, host, name)
        if problems or unknown:
            raise ConfigurationError(*problems, *unknown)
        from appd.servers.smtp.factory import SmtpFactory

        host_name = settings.host_name or socket.gethostname() or "localhost"
        policy = Policy(
            _maker(settings, host, host_name),
            tuple(settings.domains),
            bool(settings.delivery),
            bool(settings.auth) and settings.login == "required",
            settings.login_without_tls,
            settings.protocol == "lmtp",
            settings.size_limit,
            settings.recipients,
            host_name,
        )
        starter = section.tls.starter(host.reactor) if section.tls is not None else None
        return ServerService(
            name,
            "smtp",
            section.listeners,
            host.reactor,
            SmtpFactory(name, policy, host.reactor, make_portal, starter),
            description=f"{settings.protocol} to {settings.delivery or settings.maildir}",
            processes=settings.processes or self.processes,
            limits=limits,
            paced=True,
        )


def _contradictions(settings: Settings, has_tls: bool) -> list[Problem]:
    problems: list[Problem] = []
    if bool(settings.maildir) == bool(settings.delivery):
        both = "one of maildir and delivery says where mail goes"
        problems.append(
            settings.problem(f"{both}, and both are there" if settings.maildir else f"{both}: none is there")
        )
    if not settings.domains and not (settings.delivery and settings.auth):
        message = "domains is missing: without it no mail is taken, but from users who have logged in, by a delivery"
        problems.append(settings.problem(message))
    if settings.protocol == "lmtp" and settings.auth:
        problems.append(settings.problem("lmtp has no logins: who may deliver says the socket", "auth"))
    for attribute in ("login", "login_without_tls"):
        if attribute in settings.places and not settings.auth:
            key = attribute.replace("_", "-")
            problems.append(settings.problem(f"{key} needs auth, which says who may log in", attribute))
    if settings.auth and not has_tls and not settings.login_without_tls:
        message = "auth needs <tls>: passwords come over TLS only (or login-without-tls on)"
        problems.append(settings.problem(message, "auth"))
    folder = os.path.dirname((settings.maildir or "").partition("%")[0])
    if settings.maildir and folder and not os.path.isdir(folder):
        problems.append(settings.problem(f"maildir {settings.maildir}: there is no folder {folder}", "maildir"))
    return problems


def _maker(settings: Settings, host: Any, host_name: str) -> Callable[[str | None], Any]:
    from twisted.mail.interfaces import IMessageDelivery, IMessageDeliveryFactory

    if settings.maildir:
        from appd.servers.smtp.delivery import IntoMaildirs
        from appd.servers.smtp.letters import Maildirs

        maildirs = Maildirs(settings.maildir, host.reactor, host.threads)
        return lambda _user: IntoMaildirs(maildirs, host_name)
    found = hosting.load(settings.delivery, settings, "delivery")
    if IMessageDelivery.providedBy(found) or IMessageDeliveryFactory.providedBy(found):
        return lambda _user: found
    if not callable(found):
        message = f"delivery {settings.delivery} is {found!r}: neither callable nor an IMessageDelivery"
        raise ConfigurationError(settings.problem(message, "delivery"))
    made: Callable[[str | None], Any] = found
    return made


server_type = _SmtpServerType()
