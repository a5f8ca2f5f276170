"""The libraries that come along in a distribution's package."""

from __future__ import annotations

from appd.startup.vendored import append_vendored


def test_the_folder_comes_last_and_once(tmp_path):
    """So that a copy of the distribution's goes before."""
    path = ["/usr/lib/python3/dist-packages"]
    append_vendored(path, str(tmp_path))
    append_vendored(path, str(tmp_path))
    assert path == ["/usr/lib/python3/dist-packages", str(tmp_path)]


def test_without_a_folder_nothing_changes(tmp_path):
    """As when pip has installed appd."""
    path = ["/a"]
    append_vendored(path, str(tmp_path / "vendor"))
    assert path == ["/a"]
