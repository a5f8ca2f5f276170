"""What a `<tls>` section asks for, as one record: plain data, checked for what contradicts itself.

Nothing is read here but the section; the files are `material`'s.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from appd.config.settings import Settings
from appd.errors import ConfigurationError, Place, Problem
from appd.tls.values import CREDENTIAL

__all__ = ["CIPHERS", "Policy", "Source", "cipher_words", "nothing_uses_tls", "read_policy", "read_source"]

# Mozilla's guideline 5.7, "intermediate", for TLS 1.2: https://wiki.mozilla.org/Security/Server_Side_TLS. Without its
# DHE suites: they need parameters of their own, and whoever can use them can use ECDHE, Internet Explorer 11 on Windows
# 7 with an RSA certificate aside. TLS 1.3 has suites of its own, all of them good.
CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)


class Source(NamedTuple):
    """Something to read.

    Attributes:
        key: The key of the file that names it.
        path: Where it lies; "" for a credential outside of the service that has it.
        place: The line that names it.
        credential: The name of the credential; "" for a path.
    """

    key: str
    path: str
    place: Place
    credential: str = ""

    def __str__(self) -> str:
        return f"{CREDENTIAL}{self.credential}" if self.credential else self.path


class Policy(NamedTuple):
    """How one server speaks TLS.

    Attributes:
        place: Where its section starts.
        certificates: Files with key and chain, or folders of such; the first is the default.
        private_key: The key of the one certificate, when it lies apart.
        chain: What leads from the one certificate to its authority, when it lies apart.
        passphrase: Where the passphrase of the keys lies.
        world_readable_key: Whether a key that every user of the host can read is taken.
        minimum_version: `1.2` or `1.3`.
        ciphers: For TLS 1.2, in OpenSSL's words.
        ciphers_place: Where they were written.
        authorities: Who may have signed a client's certificate.
        client_verify: `none`, `optional` or `required`.
        client_names: Kind and pattern of the names of which a client's certificate must have one; empty for any.
        revocations: Lists of revoked certificates, of every authority.
        unknown_name: `default` or `refuse`: what becomes of a client that asks for no name that a certificate has.
        remote_user: What of a client's certificate is REMOTE_USER: `none`, `cn`, `subject`, `dns`, `uri` or `email`.
        alpn: The protocols to agree on, the best first: RFC 7301. The server type says which.
    """

    place: Place
    certificates: tuple[Source, ...]
    private_key: Source | None = None
    chain: Source | None = None
    passphrase: Source | None = None
    world_readable_key: bool = False
    minimum_version: str = "1.2"
    ciphers: str = CIPHERS
    ciphers_place: Place | None = None
    authorities: tuple[Source, ...] = ()
    client_verify: str = "none"
    client_names: tuple[tuple[str, str], ...] = ()
    revocations: tuple[Source, ...] = ()
    unknown_name: str = "default"
    remote_user: str = "none"
    alpn: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[Source, ...]:
        """Everything that is read."""
        single = tuple(one for one in (self.private_key, self.chain, self.passphrase) if one is not None)
        return (*self.certificates, *single, *self.authorities, *self.revocations)


def read_policy(settings: Settings, environ: Mapping[str, str] = os.environ) -> Policy:
    """Reads a `<tls>` section.

    Args:
        settings: The section.
        environ: Says where the credentials of this service lie, by CREDENTIALS_DIRECTORY: systemd.exec(5).

    Raises:
        ConfigurationError: Keys contradict each other; every problem at once.
    """

    def sources(key: str) -> tuple[Source, ...]:
        return read_source(settings, key, environ)

    def single(key: str) -> Source | None:
        return next(iter(sources(key)), None)

    authorities = sources("client-ca")
    policy = Policy(
        settings.place,
        sources("certificate"),
        single("private-key"),
        single("chain"),
        single("key-passphrase"),
        settings.world_readable_key == "allow",
        settings.minimum_version,
        settings.ciphers or CIPHERS,
        settings.where("ciphers"),
        authorities,
        settings.client_verify or ("required" if authorities else "none"),
        tuple(settings.client_names),
        sources("crl"),
        settings.unknown_name,
        settings.remote_user,
    )
    problems = _contradictions(policy, settings)
    if problems:
        raise ConfigurationError(*problems)
    return policy


def read_source(settings: Settings, key: str, environ: Mapping[str, str]) -> tuple[Source, ...]:
    """What a key of a section names: one thing, several, or nothing.

    Args:
        settings: The section.
        key: The key.
        environ: Says where the credentials lie.
    """
    attribute = key.replace("-", "_")
    value = settings.values[attribute]
    values = value if isinstance(value, list) else [value]
    return tuple(
        _source(key, one, settings.where(attribute, number), environ) for number, one in enumerate(values) if one
    )


def _source(key: str, value: str, place: Place, environ: Mapping[str, str]) -> Source:
    if not value.startswith(CREDENTIAL):
        return Source(key, value, place)
    name = value.removeprefix(CREDENTIAL)
    folder = environ.get("CREDENTIALS_DIRECTORY", "")
    return Source(key, os.path.join(folder, name) if folder else "", place, name)


def _contradictions(policy: Policy, settings: Settings) -> list[Problem]:
    wrong: list[tuple[str, str]] = []
    if len(policy.certificates) > 1:
        wrong += [
            (key, f"{key} goes with exactly one certificate, and there are {len(policy.certificates)}: "
             "put key and chain into the PEM file of each")
            for key, value in (("private-key", policy.private_key), ("chain", policy.chain))
            if value is not None
        ]  # fmt: skip
    if policy.client_verify == "none":
        needs = {
            "client-ca": policy.authorities,
            "client-names": policy.client_names,
            "crl": policy.revocations,
            "remote-user": policy.remote_user != "none",
        }
        wrong += [
            (key, f"{key} has no use: clients show no certificate without client-ca and client-verify")
            for key, given in needs.items()
            if given
        ]
    elif not policy.authorities:
        wrong.append(("client-verify", f"client-verify {policy.client_verify} needs client-ca: who signs for clients"))
    return [settings.problem(f"<tls>: {message}", key.replace("-", "_")) for key, message in wrong]


def nothing_uses_tls(server: str) -> str:
    """What is said of a `<tls>` of a server that has no `tls-address` and whose protocol does not start TLS itself."""
    return f"server {server!r}: nothing uses <tls>: write tls-address in place of address where it is meant"


def cipher_words(ciphers: str) -> list[str]:
    """The names in a list of ciphers, without those that it leaves out: openssl-ciphers(1).

    Args:
        ciphers: The list.
    """
    words = [one.lstrip("+") for one in ciphers.replace(",", ":").replace(" ", ":").split(":")]
    return [one for one in words if one and not one.startswith(("@", "!", "-"))]
