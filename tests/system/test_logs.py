"""What an operator finds in the journal, and that nobody ever waits for it."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from system.disposable_host import Host, wait_until

_SHOP = """
<log>
  <levels>
    shop.basket info
  </levels>
</log>
<http shop>
  address systemd:name=http
  access-log journal
  <wsgi>
    application shop:application
  </wsgi>
</http>
"""
_URL = "http://127.0.0.1:8080"
_DROPPED = re.compile(r"(\d+) log entr(y was|ies were) dropped")


@pytest.fixture
def shop(host: Host) -> Host:
    """A host that serves the shop."""
    host.configure(_SHOP)
    host.systemctl("start", "appd.service")
    return host


def _one(entries: list[dict[str, Any]], text: str) -> dict[str, Any]:
    """The entry that has a text; there has to be exactly one."""
    found = [one for one in entries if text in str(one["MESSAGE"])]
    assert len(found) == 1, f"{len(found)} entries with {text!r} among {[one['MESSAGE'] for one in entries]}"
    return found[0]


def test_start_and_stop_are_native_entries(shop: Host) -> None:
    """The life of the service: identifier, priority, logger, server and message ids, found by unit and by field."""
    shop.systemctl("stop", "appd.service")
    entries = shop.journal("-u", "appd.service", "SYSLOG_IDENTIFIER=appd")
    assert {one["_TRANSPORT"] for one in entries} == {"journal"}
    assert {one["PRIORITY"] for one in entries} == {"6"}
    started = _one(entries, "Server started.")
    assert started["APPD_SERVER"] == "shop"
    assert started["APPD_TYPE"] == "http"
    assert started["APPD_SOCKET"] == "systemd:name=http"
    assert started["LOGGER"].startswith("appd.service")
    assert started["MESSAGE"].startswith("-- shop Server started.\n\tHostname: ")
    ready, stopping = _one(entries, "ready: "), _one(entries, "stopping")
    for one in (ready, stopping):
        assert one["LOGGER"].startswith("appd.lifecycle")
        assert re.fullmatch("[0-9a-f]{32}", one["MESSAGE_ID"])
        assert shop.journal(f"MESSAGE_ID={one['MESSAGE_ID']}") == [one]
    assert shop.journal("APPD_SERVER=shop") == [started]


def test_access_log_has_fields(shop: Host) -> None:
    """One entry a request: method, path, status, bytes, duration, server and peer."""
    assert shop.get(f"{_URL}/slow?seconds=0.2").status == 200
    assert shop.get(f"{_URL}/", "--head").status == 200
    [slow, head] = wait_until(lambda: (found := shop.journal("HTTP_STATUS=200")) and len(found) == 2 and found)
    assert slow["HTTP_METHOD"] == "GET"
    assert slow["HTTP_PATH"].startswith("/slow")
    assert slow["HTTP_BYTES"] == "11"
    assert 200_000 <= int(slow["DURATION_USEC"]) < 20_000_000
    assert slow["APPD_SERVER"] == "shop"
    assert "127.0.0.1" in slow["APPD_PEER"]
    assert slow["PRIORITY"] == "6"
    assert slow["SYSLOG_IDENTIFIER"] == "appd"
    assert head["HTTP_METHOD"] == "HEAD"
    assert head["HTTP_PATH"] == "/"


def test_exception_is_one_entry(shop: Host) -> None:
    """An application that raises: the client gets 500, the journal one error with traceback, type and place."""
    assert shop.get(f"{_URL}/fail").status == 500
    [entry] = wait_until(lambda: shop.journal("EXCEPTION_TYPE=ValueError"))
    assert entry["PRIORITY"] == "3"
    assert "Traceback (most recent call last):" in entry["MESSAGE"]
    assert entry["MESSAGE"].rstrip().endswith("ValueError: out of stock")
    assert entry["APPD_SERVER"] == "shop"
    assert entry["CODE_FILE"].endswith("/shop.py")
    assert entry["CODE_FUNC"] == "_fail"
    errors = shop.journal("-u", "appd.service", "-p", "err")
    assert errors == [entry]
    assert [one["HTTP_PATH"] for one in shop.journal("HTTP_STATUS=500")] == ["/fail"]


def test_exception_in_a_thread_of_the_application_is_one_entry(shop: Host) -> None:
    """Nobody catches it: an error with its traceback in one piece, and the service lives on."""
    assert shop.get(f"{_URL}/thread").body == "begun"
    [entry] = wait_until(lambda: shop.journal("EXCEPTION_TYPE=LookupError"))
    assert entry["PRIORITY"] == "3"
    assert "Traceback (most recent call last):" in entry["MESSAGE"]
    assert entry["MESSAGE"].rstrip().endswith("LookupError: nothing on the shelf")
    assert shop.get(f"{_URL}/").body == "hello"


def test_what_applications_say_arrives_with_its_level(shop: Host) -> None:
    """print, logging, twisted.logger and warnings of an application, each one entry with priority and logger."""
    assert shop.get(f"{_URL}/talk").body == "talked"
    wait_until(lambda: shop.journal("EXCEPTION_TYPE=KeyError"))
    entries = shop.journal("-u", "appd.service", "SYSLOG_IDENTIFIER=appd")
    said = {
        text: (one["PRIORITY"], one["LOGGER"])
        for text in (
            "printed to stdout",
            "printed to stderr",
            "put a teapot in",
            "a low shelf",
            "an empty shelf",
            "no change for 5",
            "hot water",
            "no such item",
        )
        for one in [_one(entries, text)]
    }
    warner = said["hot water"][1]  # py.warnings or twisted's own, as either is asked first
    assert said == {
        "printed to stdout": ("6", "stdout"),
        "printed to stderr": ("4", "stderr"),
        "put a teapot in": ("6", "shop.basket"),
        "a low shelf": ("4", "shop.basket"),
        "an empty shelf": ("3", "shop.basket"),
        "no change for 5": ("4", "shop.till"),
        "hot water": ("4", warner),
        "no such item": ("3", "shop.basket"),
    }
    assert not [one for one in entries if "not wanted" in str(one["MESSAGE"])]
    assert _one(entries, "an empty shelf")["SHELF"] == "7"
    assert "KeyError: 'teapot'" in _one(entries, "no such item")["MESSAGE"]


def test_long_and_binary_entries_arrive_whole(shop: Host) -> None:
    """An entry that fits into no datagram, and one that is not UTF-8."""
    assert shop.get(f"{_URL}/lengthy").body == "logged"
    [lengthy, binary] = wait_until(
        lambda: (found := shop.journal("LOGGER=shop.basket", "PRIORITY=4")) and len(found) == 2 and found
    )
    assert lengthy["MESSAGE"] == f"begin {'x' * 200_000} end"
    assert binary["MESSAGE"] == b"file caf\xe9.txt"


def _chatter(host: Host, count: int, parts: int) -> None:
    """Has entries logged in so many requests, each of which has to be answered at once."""
    share = count // parts
    for number in range(parts):
        begun = time.monotonic()
        reply = host.get(f"{_URL}/chatter?count={share}&start={number * share}", timeout=30)
        assert reply.body == f"logged {share}"
        assert time.monotonic() - begun < 15


@pytest.mark.parametrize(
    ("count", "overflows"),
    [pytest.param(2_000, False, id="fits-the-queue"), pytest.param(15_000, True, id="overflows-it")],
)
def test_nobody_waits_for_a_stopped_journal(host: Host, count: int, overflows: bool) -> None:
    """While journald is stopped every request is answered; then the entries come, and one says how many did not."""
    host.configure(_SHOP.replace("access-log journal", "access-log off"))
    host.systemctl("start", "appd.service")
    host.systemctl("kill", "--signal=STOP", "systemd-journald.service")
    _chatter(host, count, parts=10)
    host.systemctl("kill", "--signal=CONT", "systemd-journald.service")

    def logged() -> int:
        return len(host.journal("LOGGER=shop.basket"))

    def dropped() -> list[dict[str, Any]]:
        return [one for one in host.journal("-u", "appd.service") if _DROPPED.match(str(one["MESSAGE"]))]

    if not overflows:
        wait_until(lambda: logged() == count, timeout=90, interval=0.2)
        assert dropped() == []
        return
    notices = wait_until(dropped, timeout=90, interval=0.2)
    assert len(notices) == 1
    assert notices[0]["PRIORITY"] == "4"
    lost = int(notices[0]["APPD_DROPPED"])
    assert notices[0]["MESSAGE"].startswith(f"{lost} ")
    assert lost > 1_000
    wait_until(lambda: logged() == count - lost, timeout=90, interval=0.2)
    first_lost = int(host.journal("LOGGER=shop.basket")[-1]["MESSAGE"].removeprefix("entry ")) + 1
    assert first_lost == count - lost, "what is dropped is the newest, and nothing in between"


def test_stops_in_time_while_the_journal_is_stopped(shop: Host) -> None:
    """`systemctl stop` does not hang because the last entries cannot be written."""
    shop.systemctl("kill", "--signal=STOP", "systemd-journald.service")
    _chatter(shop, 1_000, parts=1)
    begun = time.monotonic()
    shop.systemctl("stop", "appd.service")
    assert time.monotonic() - begun < 30
    assert shop.show("appd.service", "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
    shop.systemctl("kill", "--signal=CONT", "systemd-journald.service")


def test_journal_that_restarts_loses_nothing(shop: Host) -> None:
    """`systemctl restart systemd-journald`: what is logged afterwards arrives again."""
    _chatter(shop, 10, parts=1)
    shop.systemctl("restart", "systemd-journald.service")
    _chatter(shop, 10, parts=1)
    wait_until(lambda: len(shop.journal("LOGGER=shop.basket")) == 20)
