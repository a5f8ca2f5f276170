"""Certificates that change on disk are taken into use, checked first, without a restart.

Every file is asked every two seconds for its stamp (stat(2) of a thousand files takes 2 ms), in each worker. That sees
what inotify(7) would need a watch on each folder of each symbolic link for: certbot's links into its archive, the
`..data` link of Kubernetes, network file systems. A change is looked at when nothing has changed for one more turn,
since key and certificate are written one after the other. What is refused is tried again, as the reason may pass: when
it becomes valid, or after a minute and then ever less often.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.logger import Logger

from appd import messages
from appd.dates import day, minute
from appd.errors import ConfigurationError
from appd.systemd.units import own_unit
from appd.tls.credentials import outdated, unit_origins
from appd.tls.expiry import Warnings, listed, sentence
from appd.tls.material import Premature, read_material
from appd.tls.sources import Fingerprint, fingerprint
from appd.troubles import Trouble

if TYPE_CHECKING:
    from appd.tls.certificates import Pair
    from appd.tls.material import Material
    from appd.tls.termination import Termination

__all__ = ["Renewal"]

_log = Logger(namespace="appd.tls")

INTERVAL = 2.0
# How often it is looked whether a certificate is about to expire, in seconds.
_EXPIRY_INTERVAL = 3600.0
# After how many seconds what was refused is tried again, twice as many each time, up to an hour: to read hundreds of
# new certificates takes a part of a second, in which the reactor does nothing else.
_AGAIN, _LONGEST = 60.0, 3600.0


class Renewal(Service):
    """Watches the files of every server with TLS.

    Args:
        terminations: TLS of each server.
        reactor: The reactor, for its clock.
        told: Called with what there is to tell: a sentence for people, a line for the supervisor, what is wrong.
        speaks: Whether this process writes to the journal: one worker of several does.
        wall_clock: Seconds since the epoch.
    """

    name = "renewal of certificates"

    def __init__(
        self,
        terminations: Sequence[Termination],
        reactor: Any,
        told: Callable[[str, str, Sequence[Trouble]], None],
        speaks: bool = True,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._watched = [_Watched(one, wall_clock()) for one in terminations]
        self._reactor = reactor
        self._told = told
        self._speaks = speaks
        self._wall_clock = wall_clock
        self._warnings = Warnings()
        self._late: set[tuple[str, float]] = set()
        self._wrong: Sequence[Trouble] = ()
        self._expiry_due = 0.0
        self._next: Any = None
        self._origins: Mapping[str, str] = {}
        self._outdated: dict[str, str] = {}

    def startService(self) -> None:
        """Begins to watch."""
        super().startService()
        if any(source.credential for one in self._watched for source in one.termination.policy.sources):
            self._origins = unit_origins(own_unit())
            self._look_at_credentials()
        for one in self._watched:
            one.tell_refused()
        self._tell()
        self._turn()

    def stopService(self) -> None:
        """Stops to watch."""
        super().stopService()
        if self._next is not None and self._next.active():
            self._next.cancel()

    def _turn(self) -> None:
        # First of all: whatever is raised below ends no more than this turn.
        self._next = self._reactor.callLater(INTERVAL, self._turn)
        changed = self._look_at_credentials()
        for one in self._watched:
            changed = one.look(self._wall_clock(), self._speaks) or changed
        if changed or self._troubles() != self._wrong:
            changed = True
            self._tell()
        if self._speaks and (changed or self._reactor.seconds() >= self._expiry_due):
            self._expiry_due = self._reactor.seconds() + _EXPIRY_INTERVAL
            self._warn()

    def _look_at_credentials(self) -> bool:
        """Whether other credentials than before are older than their sources."""
        if not self._origins:
            return False
        found: dict[str, str] = {}
        for one in self._watched:
            found |= outdated(one.termination.policy.sources, self._origins)
        fresh, self._outdated = found.keys() - self._outdated.keys(), found
        for name in sorted(fresh) if self._speaks else ():
            _log.warn(
                "credential:{name}: {path} is newer than what systemd read of it when the service started: "
                "`systemctl restart` takes it into use",
                name=name,
                path=found[name],
                message_id=messages.CREDENTIAL_OUTDATED,
            )
        return bool(fresh)

    def _pairs(self) -> Mapping[str, Sequence[Pair]]:
        return {one.termination.server: one.material.pairs for one in self._watched}

    def _tell(self) -> None:
        pairs = self._pairs()
        said = sentence(one for those in pairs.values() for one in those)
        for name, path in self._outdated.items():
            said = f"{said}, credential:{name} is older than {path}: restart"
        waiting = {one.termination.server: one.waiting for one in self._watched}
        for one in (pair for those in waiting.values() for pair in those[:1]):
            said = f"{said}, a new one of {one.title} is not valid before {minute(one.begins)}"
        newer = {f"credential:{name}": path for name, path in self._outdated.items()}
        self._wrong = self._troubles()
        self._told(said, listed(pairs, newer, waiting), self._wrong)

    def _troubles(self) -> list[Trouble]:
        """What is wrong now: files that are refused, lists of revoked certificates that have expired."""
        now = self._wall_clock()
        return [
            *(one.refused for one in self._watched if one.refused is not None),
            *(
                Trouble(
                    one.termination.server,
                    f"the list of revoked certificates {where} has been out of date",
                    int(until),
                    "clients with a certificate are refused",
                )
                for one in self._watched
                for where, until in one.material.lists
                if until <= now
            ),
        ]

    def _warn(self) -> None:
        for watched in self._watched:
            material = watched.material
            for one, words in self._warnings.due([*material.pairs, *material.authorities], self._wall_clock()):
                _log.warn(
                    "{appd_server}: the certificate of {title} ({where}) {words}",
                    appd_server=watched.termination.server,
                    title=one.title,
                    where=one.where,
                    words=words,
                    message_id=messages.CERTIFICATE_DUE,
                )
        for watched in self._watched:
            for where, until in watched.material.lists:
                if until <= self._wall_clock() and (where, until) not in self._late:
                    self._late.add((where, until))
                    _log.error(
                        "{appd_server}: the list of revoked certificates {where} has expired on {day}: "
                        "clients with a certificate are refused until there is a new one",
                        appd_server=watched.termination.server,
                        where=where,
                        day=day(until),
                        message_id=messages.CERTIFICATE_DUE,
                    )


class _Watched:
    """The files of one server.

    Attributes:
        waiting: The certificates that are taken as soon as they are valid.
        refused: Why what lies on disk is not served.
    """

    def __init__(self, termination: Termination, now: float) -> None:
        self.termination = termination
        self.waiting: tuple[Pair, ...] = ()
        self.refused: Trouble | None = None
        self._seen: Fingerprint = self.material.fingerprint
        self._settled = True
        self._again = math.inf
        self._patience = _AGAIN
        self._reason = ""
        if termination.refused is not None:
            self._seen, self._reason = termination.refused.fingerprint, _reason(termination.refused, placed=True)
            self._put_off(termination.refused, now, int(now))
            if self._seen == self.material.fingerprint:
                self._again = math.inf  # it has expired since, and is what is served

    @property
    def material(self) -> Material:
        assert self.termination.material is not None, "what cannot be read does not start"
        return self.termination.material

    def look(self, now: float, speaks: bool) -> bool:
        """Looks once; returns whether other certificates are in use now, or wait, or are refused."""
        seen = fingerprint(self.termination.policy.sources)
        if seen != self._seen:
            self._seen, self._settled, self._reason, self._patience = seen, False, "", _AGAIN
            return False
        if self._settled and now < self._again:
            return False
        self._settled, self._again = True, math.inf
        before = self.waiting, self.refused
        self.waiting, self.refused = (), None
        since = before[1].since if before[1] is not None else int(now)
        renewed = seen != self.material.fingerprint and self._renew(now, since, speaks)
        return renewed or (self.waiting, self.refused) != before

    def tell_refused(self) -> None:
        """Says that the files are refused already, by each worker that takes the place of another."""
        if self.termination.refused is not None:
            _log.warn(
                "{appd_server}: the certificates that lie there are refused, and this worker serves those of the one "
                "before it: {reason}",
                appd_server=self.termination.server,
                reason=self._reason,
                message_id=messages.CERTIFICATE_REFUSED,
            )
            self.termination.refused = None

    def _put_off(self, error: Exception, now: float, since: int) -> None:
        """Notes what is refused, and when to try it again."""
        if isinstance(error, Premature):
            self.waiting, self._again = error.pairs, error.begins
            return
        self._again = now + self._patience
        self._patience = min(self._patience * 2, _LONGEST)
        what = "the certificates on disk have been refused"
        why = f"{_reason(error, placed=False)}; the former ones are served"
        self.refused = Trouble(self.termination.server, what, since, why)

    def _renew(self, now: float, since: int, speaks: bool) -> bool:
        before = {one.serial for one in self.material.pairs}
        try:
            material, _unseen = read_material(self.termination.policy, before=self.material, now=now)
            assert material is not None, "only a lenient reading is content with nothing"
            self.termination.renew(material)
        except (ConfigurationError, ValueError, OSError) as error:
            self._put_off(error, now, since)
            if speaks and isinstance(error, Premature):
                self._refused("are not valid yet and will be taken then; the old ones stay", error, _log.warn)
            elif speaks:
                self._refused("are refused and the old ones stay", error, _log.error)
            return False
        fresh = [one for one in material.pairs if one.serial not in before]
        if speaks:
            _log.info(
                "{appd_server}: renewed: {what}",
                appd_server=self.termination.server,
                what="; ".join(f"{sentence([one])} ({one.where})" for one in fresh[:10]) or "no certificate is another",
            )
        return True

    def _refused(self, what: str, error: Exception, log: Callable[..., None]) -> None:
        reason = _reason(error, placed=True)
        if reason == self._reason:
            return
        self._reason = reason
        log(
            "{appd_server}: the new certificates {what}: {reason}",
            appd_server=self.termination.server,
            what=what,
            reason=reason,
            message_id=messages.CERTIFICATE_REFUSED,
        )


def _reason(error: Exception, *, placed: bool) -> str:
    """The first of what is wrong and how many more there are, with the line of its key or without."""
    if isinstance(error, ConfigurationError) and not placed:
        reasons = [one.message for one in error.problems]
    else:
        reasons = str(error).splitlines() or [repr(error)]
    return f"{reasons[0]} (and {len(reasons) - 1} more)" if len(reasons) > 1 else reasons[0]
