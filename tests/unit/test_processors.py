"""What `workers auto` comes to."""

from __future__ import annotations

import os

import pytest

from appd.config.processors import count_processors


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host of 64 processors, of which a unit has some; called with cpu.max of the slice, of the unit, and its group."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)))

    def count(of_slice, of_unit, own="4:cpu:/old\n0::/system.slice/appd.service\n"):
        unit = tmp_path / "groups" / "system.slice" / "appd.service"
        unit.mkdir(parents=True)
        for folder, text in ((unit.parent, of_slice), (unit, of_unit)):
            if text is not None:
                (folder / "cpu.max").write_text(text)
        if own is not None:
            (tmp_path / "cgroup").write_text(own)
        return count_processors(str(tmp_path / "groups"), str(tmp_path / "cgroup"))

    return count


@pytest.mark.parametrize(
    ("of_slice", "of_unit", "count"),
    [
        ("max 100000\n", "max 100000\n", 64),
        ("max 100000\n", "400000 100000\n", 4),
        ("max 100000\n", "150000 100000\n", 2),
        ("max 100000\n", "20000 100000\n", 1),
        ("200000 100000\n", "800000 100000\n", 2),
        ("max 100000\n", "9900000 100000\n", 64),
        (None, None, 64),
        ("", "rubbish\n", 64),
        ("1 0\n", "max\n", 64),
    ],
)
def test_quota(host, of_slice, of_unit, count):
    """CPUQuota= of the unit and of its slice, a part of a processor being one; no file says nothing."""
    assert host(of_slice, of_unit) == count


@pytest.mark.parametrize("own", [None, "", "1:cpu:/\n", "0::/\n", "0::/../elsewhere\n"])
def test_other_groups(host, own):
    """cgroups of version 1, a namespace of cgroups, no /proc: the processors that the kernel names."""
    assert host("100000 100000\n", "100000 100000\n", own) == 64


def test_one_processor(host, monkeypatch):
    """AllowedCPUs= is less than the quota."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {5})
    assert host("max 100000\n", "400000 100000\n") == 1
