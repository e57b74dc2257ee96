"""The code that docs/howto/clients.md prints, by section."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from platform_process import Platform

PAGE = Path(__file__).parents[2] / "docs/howto/clients.md"
GATEWAY, GRPC = "127.0.0.1:8080", "127.0.0.1:8082"
"""Where the page says that they are."""
_SECTION = re.compile(r"^## (.+)\n((?:(?!## ).*\n)*)", re.MULTILINE)
_CODE = re.compile(r"^```(python|sh)\n(.*?)^```", re.DOTALL | re.MULTILINE)
CODE = {
    (name, language): code
    for name, section in _SECTION.findall(PAGE.read_text())
    for language, code in _CODE.findall(section)
}


def run(platform: Platform, section: str, language: str = "python") -> str:
    """What it prints, against this platform."""
    code = CODE[section, language].replace(GATEWAY, platform.url.removeprefix("http://"))
    code = code.replace(GRPC, platform.environment.get("PENSTOCK_GRPC_ADDR", GRPC))
    command = [sys.executable, "-c", code] if language == "python" else ["bash", "-euc", code]
    environment = {**platform.environment, "NO_PROXY": "*"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
