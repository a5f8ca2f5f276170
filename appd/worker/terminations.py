"""The `<tls>` section of a server in a plan → what its listeners speak. Imported only where there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appd.errors import ConfigurationError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from appd.config.settings import Settings
    from appd.tls.keeping import Keeping
    from appd.tls.termination import Termination

__all__ = ["termination_of"]


def termination_of(
    settings: Settings,
    name: str,
    starts_tls: bool,
    lenient: bool,
    keeping: Callable[[], Keeping] | None,
    problems: list[Problem],
    warnings: list[Problem],
) -> Termination | None:
    """What a server with a `<tls>` section, or a `tls-address`, asks for; OpenSSL is imported only when it has a use.

    Args:
        settings: The section of the server.
        name: What it is called.
        starts_tls: Whether its protocol starts TLS by itself.
        lenient: Whether what this process may not look at is passed over: `appd check` is not the service.
        keeping: Called for what keeps certificates for the worker after this one; None where there will be none.
        problems: Takes what is wrong.
        warnings: Takes what an administrator should be told.

    Returns:
        It; None where something is wrong.
    """
    section, addresses = settings.values.get("tls"), settings.values.get("tls_address")
    if section is None:
        problems.append(settings.problem(f"server {name!r}: tls-address needs a <tls> section", "tls_address"))
        return None
    if not addresses and not starts_tls:
        from appd.tls.policy import nothing_uses_tls

        problems.append(section.problem(nothing_uses_tls(name)))
        return None
    from appd.tls.termination import make_termination

    try:
        made, unseen = make_termination(name, section, lenient=lenient, keeping=keeping() if keeping else None)
    except ConfigurationError as error:
        problems += [one._replace(message=f"server {name!r}: {one.message}") for one in error.problems]
        return None
    warnings += unseen
    return made
