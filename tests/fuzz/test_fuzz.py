"""The kept corpus through every target, and a short run of the fuzzer itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz_targets import TARGETS

CORPUS = Path(__file__).parents[1] / "gateway" / "corpus"
PROGRAM = Path(__file__).with_name("wire_fuzz.py")
SECONDS = 12 if os.environ.get("CI") else 4


@pytest.mark.parametrize("target", TARGETS)
def test_all_that_is_kept_still_holds(target: str) -> None:
    kept = sorted((CORPUS / target).glob("*"))
    assert kept
    for path in kept:
        TARGETS[target](path.read_bytes())


@pytest.mark.timeout(SECONDS + 120)
def test_a_short_run_breaks_nothing(tmp_path: Path) -> None:
    if not os.environ.get("CI"):
        pytest.importorskip("atheris")
    done = subprocess.run(
        [sys.executable, PROGRAM, "--seconds", str(SECONDS), "--folder", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.count(" executions, ") == len(TARGETS)
