"""The data folder: made private, owned by one, given back by death."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.app.home import Home, acquire, holder_of
from penstock.kit.errors import Unavailable


def test_the_folder_and_what_is_in_it_belong_to_the_user_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    for folder in (home.path, home.state, home.run):
        assert folder.stat().st_mode & 0o077 == 0
    home.prepare()


def test_one_owner_at_a_time_and_a_dead_one_is_none(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    code = "import sys,time; from pathlib import Path; from penstock.app.home import *; acquire(Home(Path(sys.argv[1]))); print(1, flush=True); time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", code, str(home.path)], stdout=subprocess.PIPE)
    assert other.stdout
    other.stdout.readline()
    assert holder_of(home) == other.pid
    with pytest.raises(Unavailable, match=f"in use by process {other.pid}"):
        acquire(home)
    other.kill()
    other.communicate()
    descriptor = acquire(home)
    assert holder_of(home) == os.getpid()
    os.close(descriptor)
