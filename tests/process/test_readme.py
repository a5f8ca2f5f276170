"""The five minutes of the README, word for word but for the port."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

from support.running import APPD, Running, wait_until

TEXT = (Path(__file__).parents[2] / "README.md").read_text()


def test_five_minutes(tmp_path: Path) -> None:
    """Files made, checked, served, reloaded, and a mistake that changes nothing."""
    [section] = re.findall(r"^## Five minutes\n(.*?)(?=^## )", TEXT, re.M | re.S)
    begin, serve, ask, mistake = re.findall(r"^```sh\n(.*?)^```", section, re.M | re.S)
    folder, runtime = tmp_path / "shop", tmp_path / "run"
    runtime.mkdir(mode=0o700)
    (runtime / "appd").mkdir(mode=0o700)
    environ = {**os.environ, "PATH": f"{Path(APPD).parent}:{os.environ['PATH']}", "XDG_RUNTIME_DIR": str(runtime)}

    def said(commands: str, cwd: Path = folder, code: int = 0) -> str:
        """What the commands print, or else complain of, run as in a terminal."""
        done = subprocess.run(
            ["bash", "-c", commands], cwd=cwd, env=environ, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == code, done.stderr
        return done.stdout or done.stderr

    shown = said(begin, tmp_path)
    assert "shop.conf: good, 1 server: shop" in shown
    assert re.search(r"^-  +http .* shop +/ wsgi shop:application, /live asgi shop:live, /media static$", shown, re.M)

    assert "--bind http=127.0.0.1:8080" in serve
    command = shlex.split(serve.replace("8080", "0").replace("shop.conf", str(folder / "shop.conf")), comments=True)
    running = Running([APPD, *command[1:]], tmp_path, environ={"XDG_RUNTIME_DIR": str(runtime)})
    try:
        running.wait_ready()
        [listening] = json.loads(said("appd status --json"))["listening"]
        port = re.search(r"127\.0\.0\.1:(\d+)", listening["addresses"][0])[1]

        def answers(line: str) -> str:
            return said(line.replace("8080", port))

        first, edit, reload, again, status = ask.splitlines()
        assert answers(first) == "hello\nhello, asynchronously\na file\n"
        said(edit)
        assert "generation 2 serves" in answers(reload)
        wait_until(lambda: answers(again) == "good day\n")
        assert re.search(r"^shop +http +127\.0\.0\.1:", answers(status), re.M)

        edit, reload, again = mistake.splitlines()
        said(edit)
        shown = said(reload, code=78)
        assert "<wsgi> has no key 'aplication': did you mean application?" in shown
        assert answers(again) == "good day\n"
    finally:
        running.close()
