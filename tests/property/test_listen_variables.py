"""LISTEN_*: whatever the variables say, the outcome is an inheritance or one line that shows them."""

from __future__ import annotations

import os
import socket

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appd.address import Address
from appd.errors import ConfigurationError
from appd.systemd.activation import ClaimError, Inheritance, InheritedSocket, inherit, plain_listen_fds

numbers = st.sampled_from(
    ["", "0", "1", "2", "-1", "99999", "x", "1 ", " 1", "0x1", "1e0", "18446744073709551616", "１"]
)
texts = st.text(st.characters(min_codepoint=1, max_codepoint=0x2FF), max_size=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=300)
@given(count=st.none() | numbers | texts, names=st.none() | texts, pid=st.sampled_from(["own", "1", "", "x"]))
def test_any_variables(count, names, pid):
    """The real sd_listen_fds(3) on generated variables: never another exception, and the variables are gone after it."""
    reader, writer = os.pipe()  # what sd_listen_fds marks close-on-exec must be open: 3 and 4 are pytest's own files
    try:
        for key, value in (
            ("LISTEN_FDS", count),
            ("LISTEN_FDNAMES", names),
            ("LISTEN_PID", str(os.getpid()) if pid == "own" else pid),
        ):
            os.environ.pop(key, None)
            if value is not None and "\0" not in value:
                os.environ[key] = value
        described = {key: os.environ[key] for key in ("LISTEN_FDS", "LISTEN_FDNAMES") if key in os.environ}
        try:
            found = _inherit_marks_only()
        except ConfigurationError as error:
            (problem,) = error.problems
            assert "\n" not in problem.message
            assert all(f"{key}={value!r}" in problem.message for key, value in described.items())
        else:
            assert pid == "own" or not found
    finally:
        for key in ("LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"):
            os.environ.pop(key, None)
        os.close(reader)
        os.close(writer)


@given(
    count=st.none() | numbers | texts,
    names=st.none() | st.from_regex(r"[a-c:]{0,6}", fullmatch=True) | texts,
    pid=st.sampled_from(["own", "1", "", None]),
)
def test_usual_variables(count, names, pid):
    """What is read without libsystemd is what that reads; and it then removes the variables as that does."""
    given_ = {"LISTEN_FDS": count, "LISTEN_FDNAMES": names, "LISTEN_PID": str(os.getpid()) if pid == "own" else pid}
    environ = {key: value for key, value in given_.items() if value is not None}
    plain = plain_listen_fds(environ, os.getpid())
    if plain is None:
        assert environ == {key: value for key, value in given_.items() if value is not None}
    else:
        assert environ == {}
        assert plain == _of_libsystemd(given_)


def _of_libsystemd(variables: dict[str, str | None]) -> dict[int, str]:
    from systemd import daemon

    opened = []
    for key, value in variables.items():
        os.environ.pop(key, None)
        if value is not None:
            os.environ[key] = value
    # It marks descriptors as close-on-exec, so that they must be there.
    for fd in range(3, 3 + (int(variables["LISTEN_FDS"] or 0) if variables["LISTEN_PID"] else 0)):
        try:
            os.fstat(fd)
        except OSError:
            opened.append(os.dup2(os.open(os.devnull, os.O_RDONLY), fd))
    found: dict[int, str] = daemon.listen_fds_with_names(unset_environment=True)
    for fd in opened:
        os.close(fd)
    return found


def _inherit_marks_only() -> dict[int, str]:
    """`inherit` with the real parser of the variables, without touching pytest's own descriptors 3 and 4."""
    found: dict[int, str] = {}

    def listen_fds():
        from systemd import daemon

        found.update(daemon.listen_fds_with_names(unset_environment=True))
        return {}

    inherit(os.environ, listen_fds)
    return found


kinds = st.sampled_from(["stream", "datagram", "connection"])
fd_names = st.sampled_from(["a", "b", ""])
inherited = st.lists(st.tuples(fd_names, kinds), max_size=6).map(
    lambda those: [
        InheritedSocket(3 + number, number, name, socket.AF_INET, kind, "x")
        for number, (name, kind) in enumerate(those)
    ]
)
wanted = st.lists(
    st.builds(
        lambda name, position: Address("systemd", name=name, position=position),
        st.sampled_from(["a", "b"]),
        st.none() | st.integers(0, 3),
    )
    | st.builds(lambda index: Address("systemd", index=index), st.integers(0, 6)),
    max_size=6,
)


@given(inherited, wanted, st.sets(st.sampled_from(["stream", "datagram"]), min_size=1).map(frozenset))
def test_claims(sockets, addresses, served):
    """No descriptor has two owners, none of a wrong kind has one, and every one is claimed or unclaimed."""
    inheritance = Inheritance(sockets)
    owners: dict[int, str] = {}
    for number, address in enumerate(addresses):
        try:
            got = inheritance.claim(address, f"server{number}", served)
        except ClaimError as error:
            assert "\n" not in str(error)
            continue
        for one in got:
            assert one.fd not in owners
            assert ("stream" if one.kind == "connection" else one.kind) in served
            owners[one.fd] = f"server{number}"
    assert {one.fd: inheritance.owner(one) for one in sockets if inheritance.owner(one)} == owners
    assert {one.fd for one in inheritance.unclaimed()} == {one.fd for one in sockets} - owners.keys()
