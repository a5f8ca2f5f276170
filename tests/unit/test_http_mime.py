"""Media types by names of files."""

from __future__ import annotations

import subprocess
import sys

import pytest

from appd.http.static.mime import MediaType, media_type


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("a.html", "text/html"),
        ("A.HTML", "text/html"),
        ("app.js", "text/javascript"),
        ("app.mjs", "text/javascript"),
        ("a.css", "text/css"),
        ("a.svg", "image/svg+xml"),
        ("a.png", "image/png"),
        ("a.csv", "text/csv"),
        ("a.webp", "image/webp"),
        ("a.woff2", "font/woff2"),
        ("a.json", "application/json"),
        ("a.pdf", "application/pdf"),
        ("a.tar.gz", "application/gzip"),
        ("a.tgz", "application/gzip"),
        ("a.html.br", "application/octet-stream"),
        ("a.tar.xz", "application/x-xz"),
        ("a.Z", "application/octet-stream"),
        ("data:text,x.css", "text/css"),
        ("strange.wxyz", "application/octet-stream"),
        ("README", "application/octet-stream"),
        ("html", "application/octet-stream"),
        ("a.", "application/octet-stream"),
        ("", "application/octet-stream"),
    ],
)
def test_types(name: str, type_: str) -> None:
    """What nobody knows is not guessed to be HTML, and what was compressed is what it is."""
    assert media_type(name) == MediaType(type_)


def test_svgz() -> None:
    """The one that is compressed by its nature."""
    assert media_type("a.svgz") == MediaType("image/svg+xml", "gzip")


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("text/html", "text/html; charset=utf-8"),
        ("text/javascript", "text/javascript; charset=utf-8"),
        ("application/xhtml+xml", "application/xhtml+xml; charset=utf-8"),
        ("application/json", "application/json"),
        ("image/svg+xml", "image/svg+xml"),
    ],
)
def test_charset(type_: str, value: str) -> None:
    """Of text only: JSON is UTF-8 anyway (RFC 8259), and XML says it itself."""
    assert MediaType(type_).with_charset("utf-8") == value
    assert MediaType(type_).with_charset("") == type_


def test_the_table_of_the_host_is_read_late() -> None:
    """Not at import, and not for what every page is made of."""
    code = (
        "import sys, appd.http.static.static, appd.http.static.mime as m; m.media_type('a.css'); assert 'mimetypes' not in sys.modules\n"
        "m.media_type('a.csv'); assert 'mimetypes' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
