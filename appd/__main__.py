"""`python -m appd`."""

from __future__ import annotations

from appd.cli import main

main()
