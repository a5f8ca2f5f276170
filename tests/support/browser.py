"""A browser: Chromium without a screen, where it is installed."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

BROWSER = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None)
HEADLESS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server")

needs_browser = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium (apt install chromium-headless-shell)")


@contextmanager
def browsing(url: str, pem: Path, folder: Path) -> Iterator[None]:
    """Has the browser look at a page until the block ends, where --dump-dom would not wait for what the page goes on to do.

    Args:
        url: The page.
        pem: Holds the certificate that it trusts.
        folder: For its profile.
    """
    key = x509.load_pem_x509_certificate(pem.read_bytes()).public_key()
    spki = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    browser = subprocess.Popen(
        [
            str(BROWSER),
            *HEADLESS,
            "--remote-debugging-port=0",
            f"--ignore-certificate-errors-spki-list={base64.b64encode(spki).decode()}",
            f"--user-data-dir={folder}/profile",
            url,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        browser.kill()
        browser.wait(30)
