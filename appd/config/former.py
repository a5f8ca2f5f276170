"""What zope.conf had: keys and sections that are answered with what replaces them, and sections that are read as
others.

Nothing of it has an effect of its own. A file of that time loads as far as it says what there still is, and the answers
are warnings, since a server that misses something for it says so itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appd.config.settings import Settings

if TYPE_CHECKING:
    from appd.config.loader import Loader

__all__ = ["KEYS", "SECTIONS", "modern"]

KEYS = {
    "devmode": "what it switched was zope's own; `debug on` of an <http> server shows errors",
    "interrupt-check-interval": "Python has no such interval any more; sys.setswitchinterval() is for programs",
    "site-definition": "ZCML is not read; application-object names the callable that makes the application",
}
"""Key of the file → what replaces it."""

SECTIONS = {
    "accesslog": "access-log journal, of an <http> server or a mount, writes requests to the journal",
    "eventlog": "<log> says what is logged and how; it goes to the journal",
    "logger": "<levels> of <log> has a level for each namespace; it goes to the journal",
    "product-config": "<environment> sets variables that an application may read",
    "zodb": "application-object names a callable that opens the database and makes the application",
}
"""Section of the file → what replaces it."""


def modern(settings: Settings, loader: Loader) -> Settings:
    """Reads `<sslserver>` and `<sshserver>` as the `<server>` that they mean; any other section is itself.

    Args:
        settings: The section.
        loader: Makes the sections, and takes what is wrong with them at the lines of this one.
    """
    if settings.section_type not in ("sslserver", "sshserver"):
        return settings
    ssl = settings.section_type == "sslserver"
    keys = {"type": "type", "address": "tls-address" if ssl else "address", "backlog": "backlog"}
    sections: list[Settings] = []
    if ssl:
        inner = {"certificatepath": "certificate", "privatekeypath": "private-key"}
        if settings.written.get("certificatepath") == settings.written.get("privatekeypath"):
            del inner["privatekeypath"]
        sections.append(loader.section("appd.tls", settings, inner))
    else:
        of_type = "host_key" if str(settings.type).lower() == "sftp" else "hostkey"
        options = loader.section("appd.options", settings, {"hostkey": of_type})
        if of_type == "hostkey" and "hostkey" in settings.values:
            # A factory gets text, and does not know where the file was.
            options.values["values"]["hostkey"] = settings.hostkey
        sections.append(options)
    return loader.section("server", settings, keys, sections)
