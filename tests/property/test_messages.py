"""What comes over the control socket and NOTIFY_SOCKET: however it is cut and whatever it is, nothing else is raised."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
from array import array

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appd.address import Address
from appd.control import ControlError, Framing, decode_call, decode_reply, encode_call, encode_error, encode_reply
from appd.supervisor.mailbox import Mailbox, number_of, pack, unpack
from appd.systemd.notify import MARK, compose, parse
from appd.systemd.store import Store, store_name

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
calls = st.tuples(st.text(), st.dictionaries(st.text(), values, max_size=3))


@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300)))
def test_any_split_gives_the_same_messages(data, cuts):
    """However the bytes arrive, the messages are those of one write."""
    whole, places = Framing().feed(data), sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    framing = Framing()
    assert [one for a, b in itertools.pairwise(places) for one in framing.feed(data[a:b])] == whole


@given(data=st.binary(max_size=100), most=st.integers(1, 40), step=st.integers(1, 9))
def test_too_long_is_an_error_however_it_is_split(data, most, step):
    """Exactly when one message is longer than allowed, and at the latest with its end."""
    framing, long = Framing(most), any(len(one) > most for one in data.split(b"\0"))
    try:
        for place in range(0, len(data), step):
            framing.feed(data[place : place + step])
    except ControlError:
        assert long
    else:
        assert not long


@given(data=st.binary(max_size=200) | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_rubbish_is_a_control_error(data):
    """Nothing else is raised, for a call and for a reply."""
    for read in (decode_call, decode_reply):
        with contextlib.suppress(ControlError):
            read(data)


@pytest.mark.parametrize(
    "data", [b"[" * 60000, b"9" * 60000, b'{"method":"x","parameters":[1]}', b'{"error":1}', b"NaN"]
)
def test_known_rubbish_is_a_control_error(data):
    """Deep, long, of the wrong type."""
    with pytest.raises(ControlError):
        decode_call(data)
    with pytest.raises(ControlError):
        decode_reply(data)


@given(call=calls)
def test_calls_read_back(call):
    """What is encoded is one message and reads as what it was, but for lone surrogates, which are escaped."""
    (message,) = Framing().feed(encode_call(*call))
    found = decode_call(message)
    if not any("\ud800" <= one <= "\udfff" for one in repr(call)) and "\\ud" not in repr(call):
        assert (found.method, found.parameters) == call
    for encoded in (encode_reply(call[1]), encode_error(call[0], call[1])):
        (message,) = Framing().feed(encoded)
        decode_reply(message)


@given(data=st.binary(max_size=300))
def test_any_notification_parses(data):
    """A dictionary of texts that UTF-8 can say; numbers among them are numbers or the default."""
    words = parse(data)
    for key, value in words.items():
        assert (key + value).encode().decode() == key + value
        assert "=" not in key and "\n" not in key + value
        assert number_of(words, key, -1) in range(-1, 10**15)


@given(texts=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.text("0123456789abcdef")))
def test_packed_texts_survive_a_notification(texts):
    """Names with `=`, `|`, blanks and line ends arrive as they were."""
    assert unpack(parse(compose(also={"X": pack(texts)}).encode())["X"]) == texts


@given(word=st.text())
def test_any_word_unpacks(word):
    """To names and texts, or to nothing."""
    assert all(isinstance(one, str) for pair in unpack(word).items() for one in pair)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(
    messages=st.lists(
        st.tuples(st.binary(max_size=100), st.integers(0, 70), st.booleans())
        | st.tuples(st.just(b"FDSTORE=1\nFDNAME=appd-x\n"), st.integers(0, 3), st.just(True)),
        max_size=6,
    )
)
def test_any_letters_arrive(tmp_path, messages):
    """Each is read once with the sender's PID; unmarked ones have no words; no descriptor is left open."""
    os.makedirs(folder := str(tmp_path / "m"), exist_ok=True)
    before = len(os.listdir("/proc/self/fd"))
    mailbox, store = Mailbox(folder), Store()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, socket.socket() as passed:
        for data, fds, marked in messages:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [passed.fileno()] * fds))] if fds else []
            sender.sendmsg([data + f"\n{MARK}".encode() * marked], rights, 0, mailbox.path)
            for letter in mailbox.read():
                assert letter.pid == os.getpid() and bool(letter.words) == (marked or parse(data).get("X_APPD") == "1")
                assert len(letter.fds) <= 64
                store.take(letter.words, letter.fds)
                for fd in letter.fds:
                    os.close(fd)
    store.close({})
    mailbox.close()
    assert len(os.listdir("/proc/self/fd")) == before


@given(path=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_names_in_the_store(path):
    """Whatever the path, systemd takes the name (sd_pid_notify_with_fds(3): printable ASCII, no colon), and so does the store."""
    name, one = store_name(Address("unix", path=f"/{path}"), "s"), socket.socket()
    assert name.isascii() and name.isprintable() and ":" not in name
    fds, store = [one.detach()], Store()
    assert store.take({"FDSTORE": "1", "FDNAME": name}, fds) == name
    store.close({})
