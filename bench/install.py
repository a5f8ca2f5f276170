"""From a package to the first answer, on a Debian 13 that has never seen appd.

usage: python bench/install.py [--rounds N]

Each round boots a disposable host (as tests/packages does; it needs root, and a package from `make deb`), installs the
package with apt-get, enables the socket, and asks. Printed are medians in seconds: the installation, which starts
nothing; from there to the first answer of a service that its first connection starts, with no bytecode but the
package's and no cache; and the next first answer after a stop, with the cache.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from figures import median, surroundings, table

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))

from system.disposable_host import boot  # noqa: E402  # it is found there

_URL = "http://localhost:8080/"
# So long after it serves the validated file is kept, in seconds.
_KEPT = 6.0


def measure(root: Path, package: Path) -> tuple[float, float, float]:
    """One host. Returns the seconds of the installation, and to the first answer without and with a cache."""
    host = boot(root=root, bare=package.parent)
    try:
        began = time.monotonic()
        host.run("apt-get", "install", "--yes", f"{package}", timeout=120)
        installed = time.monotonic()
        host.run("sh", "-euc", f"systemctl enable --now appd.socket; curl -sSf -o /dev/null {_URL}", timeout=60)
        answered = time.monotonic()
        time.sleep(_KEPT)
        host.run("systemctl", "stop", "appd.service", timeout=60)
        again = time.monotonic()
        host.run("curl", "-sSf", "-o", "/dev/null", _URL, timeout=60)
        return installed - began, answered - installed, time.monotonic() - again
    finally:
        host.close()


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    packages = sorted((ROOT / "dist").glob("appd_*_all.deb"))
    if os.geteuid() != 0 or len(packages) != 1:
        parser.exit(0, "bench/install.py is left out: it needs root, and one package in dist/ (`make deb`)\n")
    made = subprocess.run([ROOT / "packaging/root", "trixie"], capture_output=True, text=True, check=True)
    print(f"{surroundings()}; {options.rounds} rounds, {packages[0].name}")
    taken = [measure(Path(made.stdout.strip()), packages[0]) for _ in range(options.rounds)]
    columns = zip(*taken, strict=True)
    names = ("installed", "enabled and answered", "answered again, woken with a cache")
    print(table(["", "s"], [[name, f"{median(one):.2f}"] for name, one in zip(names, columns, strict=True)]))


if __name__ == "__main__":
    main()
