"""Django and Flask as people use them: applications that know nothing of appd, and clients that keep their cookies."""

from __future__ import annotations

import hashlib
import http.cookiejar
import json
import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.running import APPD, Running, wait_until

APPLICATIONS = Path(__file__).parents[1] / "applications"

CONFIGURATION = """
python-path {applications}/shop
threads 4
<environment>
  SHOP_DATA {data}
</environment>
<http web>
  address systemd:name=web
  <wsgi>
    application {applications}/shop/shop/wsgi.py:application
  </wsgi>
  <static>
    path /static
    root {data}/static
    max-age 1h
  </static>
  <wsgi>
    path /notes
    application {applications}/notes.py:create_app
    factory on
    threads 2
  </wsgi>
</http>
"""


class Site:
    """The process, and a browser without pictures."""

    def __init__(self, running: Running, port: int) -> None:
        self.running = running
        self.url = f"http://127.0.0.1:{port}"

    def browser(self) -> urllib.request.OpenerDirector:
        """One with cookies of its own."""
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        return urllib.request.build_opener(cookies, urllib.request.ProxyHandler({}))

    def get(self, path: str, browser: Any = None, data: bytes | None = None, method: str = "", **fields: str) -> Any:
        """The response and its body, whatever the status."""
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        request = urllib.request.Request(self.url + path, data, headers, method=method or None)
        try:
            with (browser or self.browser()).open(request, timeout=30) as response:
                return response, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error, error.read()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One appd with both, and a database."""
    folder = tmp_path_factory.mktemp("frameworks")
    data = folder / "data"
    data.mkdir()
    (folder / "appd.conf").write_text(CONFIGURATION.format(applications=APPLICATIONS, data=data))
    environ = {
        **os.environ,
        "SHOP_DATA": str(data),
        "DJANGO_SUPERUSER_PASSWORD": "pass-word",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    for command in (
        ["migrate", "--verbosity=0"],
        ["collectstatic", "--no-input", "--verbosity=0"],
        ["createsuperuser", "--no-input", "--username=boss", "--email=boss@shop.example", "--verbosity=0"],
    ):
        manage = [sys.executable, str(APPLICATIONS / "shop" / "manage.py"), *command]
        subprocess.run(manage, env=environ, check=True, timeout=120)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        running = Running(
            [APPD, "run", str(folder / "appd.conf")], folder, [("web", sock)], environ={"PYTHONDONTWRITEBYTECODE": "1"}
        )
        try:
            running.wait_ready(60)
            yield Site(running, sock.getsockname()[1])
            assert running.stop() == 0
        finally:
            running.close()


def token(page: bytes) -> str:
    found = re.search(rb'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert found is not None, page
    return found[1].decode()


def test_djangos_admin(site: Site) -> None:
    """Log in, add a user, find it in the list, log out: forms, cookies, redirects, a database."""
    browser = site.browser()
    page = site.get("/admin/", browser)[1]
    form = {"username": "boss", "password": "pass-word", "csrfmiddlewaretoken": token(page), "next": "/admin/"}
    response, page = site.get("/admin/login/?next=/admin/", browser, urllib.parse.urlencode(form).encode())
    assert response.status == 200 and b"Site administration" in page
    page = site.get("/admin/auth/group/add/", browser)[1]
    form = {"name": "Käufer & Söhne", "csrfmiddlewaretoken": token(page)}
    response, page = site.get(
        "/admin/auth/group/add/", browser, urllib.parse.urlencode(form).encode(), Referer=f"{site.url}/admin/"
    )
    assert response.url == f"{site.url}/admin/auth/group/" and "Käufer &amp; Söhne".encode() in page
    response, page = site.get(
        "/admin/logout/", browser, urllib.parse.urlencode({"csrfmiddlewaretoken": token(page)}).encode()
    )
    assert b"Logged out" in page
    assert site.get("/admin/auth/group/", browser)[0].url.startswith(f"{site.url}/admin/login/")


def test_what_a_page_of_the_admin_wants(site: Site) -> None:
    """Its style sheets, by <static>, as browsers ask for them."""
    page = site.get("/admin/login/")[1].decode()
    links = re.findall(r'<(?:link|script)[^>]* (?:href|src)="(/static/[^"]+)"', page)
    assert len(links) >= 3
    for link in links:
        response, content = site.get(link)
        assert content and response.headers["Cache-Control"] == "max-age=3600"
        assert response.headers["Content-Type"] in ("text/css; charset=utf-8", "text/javascript; charset=utf-8")
        assert site.get(link, If_None_Match=response.headers["ETag"])[0].status == 304


def test_djangos_sessions_and_conditions(site: Site) -> None:
    """A cookie that comes back; a response that Django compresses itself, and knows again."""
    browser = site.browser()
    assert site.get("/", browser)[1].startswith(b"<p>visit 1")
    assert site.get("/", browser)[1].startswith(b"<p>visit 2")
    response, page = site.get("/where/x", Accept_Encoding="gzip")
    tag = response.headers["ETag"]
    assert json.loads(page)["name"] == "x"
    response, page = site.get("/where/x", If_None_Match=tag)
    assert (response.status, page) == (304, b"")


def test_djangos_uploads(site: Site) -> None:
    """Fields, a file in memory and one that goes through a temporary one."""
    large = os.urandom(5_000_000)
    # Django looks for "--" and the boundary anywhere: a short one is in random content now and then.
    mark = b"--" + b"boundary" * 4
    parts = [("small", b"hello"), ("large", large)]
    body = (
        mark
        + b'\r\nContent-Disposition: form-data; name="title"\r\n\r\nT\r\n'
        + b"".join(
            b'%s\r\nContent-Disposition: form-data; name="%s"; filename="f.bin"\r\n\r\n%s\r\n'
            % (mark, name.encode(), content)
            for name, content in parts
        )
    )
    kind = f"multipart/form-data; boundary={mark[2:].decode()}"
    response, found = site.get("/upload/", data=body + mark + b"--\r\n", Content_Type=kind)
    assert response.status == 200
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in parts}
    assert json.loads(found) == {"files": digests, "fields": {"title": "T"}}


def test_djangos_responses(site: Site) -> None:
    """A stream, a file by wsgi.file_wrapper, HEAD of both."""
    assert site.get("/stream/")[1] == b"".join(b"line %d\n" % number for number in range(1000))
    source = (APPLICATIONS / "shop" / "shop" / "views.py").read_bytes()
    response, content = site.get("/file/")
    assert content == source
    assert response.headers["Content-Length"] == str(len(source))
    assert "views.py" in response.headers["Content-Disposition"]
    for path in ("/stream/", "/file/"):
        response, content = site.get(path, method="HEAD")
        assert (response.status, content) == (200, b"")


def test_where_django_finds_itself(site: Site) -> None:
    """Host, path and query; a host that it does not know is its own 400."""
    response, found = site.get("/where/a%20b/%C3%BC?q=%26&r", Host="shop.example")
    assert json.loads(found) == {
        "name": "a b/ü",
        "uri": "http://shop.example/where/a%20b/%C3%BC?q=%26&r",
        "query": {"q": "&", "r": ""},
        "secure": False,
        "method": "GET",
        "body": "",
    }
    response, found = site.get(
        "/where/x", data=b"0123456789", method="PUT", Content_Type="text/plain", X_CSRFToken="none"
    )
    assert response.status == 403
    assert site.get("/", Host="evil.example")[0].status == 400


def test_a_view_that_fails(site: Site) -> None:
    """Django's own page, and its own words in the log; the next request is served."""
    response, page = site.get("/fail/")
    assert response.status == 500 and b"Server Error (500)" in page
    wait_until(lambda: "a view that fails" in site.running.errors)
    assert site.get("/notes/fail")[0].status == 500
    wait_until(lambda: "a page that fails" in site.running.errors)
    assert site.get("/")[0].status == 200


def test_flasks_sessions_and_forms(site: Site) -> None:
    """Below a path of its own, which it finds in its links."""
    browser = site.browser()
    for note in ("eins", "zwei & drei"):
        response, found = site.get("/notes/", browser, urllib.parse.urlencode({"note": note}).encode())
        assert response.url == f"{site.url}/notes/"
    assert json.loads(found) == {"notes": ["eins", "zwei & drei"], "here": "/notes/", "there": f"{site.url}/notes/"}
    assert json.loads(site.get("/notes/")[1])["notes"] == []


def test_flasks_uploads(site: Site) -> None:
    """A body that it reads in blocks, with a length and chunked."""
    body = os.urandom(3_000_000)
    expected = hashlib.sha256(body).hexdigest().encode()
    assert site.get("/notes/sum", data=body, method="PUT")[1] == expected
    command = [
        "curl",
        "-sSf",
        "--max-time",
        "30",
        "-T",
        "-",
        "-H",
        "Transfer-Encoding: chunked",
        f"{site.url}/notes/sum",
    ]
    assert subprocess.run(command, input=body, capture_output=True, timeout=60, check=True).stdout == expected


def test_flasks_responses(site: Site) -> None:
    """A stream with its request, a file with ranges, JSON, an odd status."""
    assert site.get("/notes/stream")[1].endswith(b"/stream 999\n")
    content = bytes(range(256)) * 1000
    response, found = site.get("/notes/file")
    assert (found, response.headers["ETag"]) == (content, '"notes"')
    response, found = site.get("/notes/file", Range="bytes=300-399")
    assert (response.status, found) == (206, content[300:400])
    assert site.get("/notes/file", If_None_Match='"notes"')[0].status == 304
    assert json.loads(site.get("/notes/json?q=%C3%A9%20%2B")[1]) == {"ünïcode": "é +"}
    response, _ = site.get("/notes/teapot")
    assert (response.status, response.reason) == (418, "I'M A TEAPOT")
    assert site.get("/notes/nothing")[0].status == 404
    assert site.get("/notes")[0].url == f"{site.url}/notes/"
