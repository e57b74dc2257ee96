"""Other people's proxies, each of a stated version in an environment of its own, never in ours."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.gateway.measure import CACHE

INSTALL_S = 900


class Missing(Exception):
    """This system cannot be measured here; says why."""


def installed(requirement: str, program: str) -> Path:
    """The program of a package such as `name==1.2`, from its environment under the cache; installed when it is not there."""
    folder = CACHE / "peers" / requirement.partition("[")[0].partition("=")[0]
    done, path = folder / "installed", folder / "bin" / program
    if done.exists() and done.read_text() == requirement and path.exists():
        return path
    print(f"installing {requirement} into {folder}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    pip = folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"
    try:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=INSTALL_S)
        subprocess.run([*pip, requirement], check=True, timeout=INSTALL_S, capture_output=True, text=True)
    except subprocess.TimeoutExpired:
        raise Missing(f"{requirement} could not be installed within {INSTALL_S} s") from None
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or "").strip().splitlines() or ["pip gave no reason"]
        raise Missing(f"{requirement} could not be installed: {lines[-1][:200]}") from None
    done.write_text(requirement)
    return path


def found(program: str, package: str) -> Path:
    """A program of this machine. Raises Missing where there is none."""
    path = shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin:/usr/local/sbin")
    if path is None:
        raise Missing(f"there is no {program} here: install the package {package}")
    return Path(path)
