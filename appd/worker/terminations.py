"""The `<tls>` sections of a plan's servers → what their listeners speak."""

from __future__ import annotations

from appd.errors import ConfigurationError, Problem
from appd.systemd.activation import ClaimError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from appd.address import Address
    from appd.config.settings import Settings
    from appd.listening.listeners import Listener
    from appd.tls.keeping import Keeping
    from appd.tls.termination import Termination

__all__ = ["Terminations", "speak_tls"]


class Terminations:
    """Makes them.

    Args:
        lenient: Whether what this process may not look at is passed over: `appd check` is not the service.
        keeping: Called for what keeps certificates for the worker after this one; None where there will be none.
        problems: Takes what is wrong.
        warnings: Takes what an administrator should be told.
    """

    def __init__(
        self,
        lenient: bool,
        keeping: Callable[[], Keeping] | None,
        problems: list[Problem],
        warnings: list[Problem],
    ) -> None:
        self._lenient = lenient
        self._keeping = keeping
        self._problems = problems
        self._warnings = warnings

    def of(self, settings: Settings, name: str, *, starts_tls: bool) -> Termination | None:
        """What the `<tls>` section of a server asks for; OpenSSL is imported only when there is one.

        Args:
            settings: The section of the server.
            name: What it is called.
            starts_tls: Whether its protocol starts TLS by itself.
        """
        section, addresses = settings.values.get("tls"), settings.values.get("tls_address")
        if section is None:
            if addresses:
                line = f"server {name!r}: tls-address needs a <tls> section"
                self._problems.append(settings.problem(line, "tls_address"))
            return None
        if not addresses and not starts_tls:
            from appd.tls.policy import nothing_uses_tls

            self._problems.append(section.problem(nothing_uses_tls(name)))
            return None
        from appd.tls.termination import make_termination

        keeping = self._keeping() if self._keeping is not None else None
        try:
            made, unseen = make_termination(name, section, lenient=self._lenient, keeping=keeping)
        except ConfigurationError as error:
            self._problems += [one._replace(message=f"server {name!r}: {one.message}") for one in error.problems]
            return None
        self._warnings += unseen
        return made


def speak_tls(address: Address, listeners: Sequence[Listener], tls: Termination | None) -> None:
    """Has the listeners of a `tls-address` speak TLS.

    Args:
        address: The address.
        listeners: Its listeners.
        tls: How; None where that is wrong.

    Raises:
        ClaimError: They are no streams.
    """
    for one in listeners:
        if one.kind == "datagram":
            raise ClaimError(f"{address} is a datagram address, and TLS is for streams")
        one.tls = tls
