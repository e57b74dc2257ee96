"""`penstock simulate TRACE --profile …` as a person calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROFILE = """\
apiVersion: penstock.dev/v1alpha1
kind: RoutingProfile
metadata: {name: mine}
spec:
  scorers: [{name: prefix, weight: 3}, {name: queue, weight: 2}]
"""


def penstock(*words: str | Path) -> subprocess.CompletedProcess[str]:
    code = "from penstock.cli.main import main; main()"
    command = [sys.executable, "-c", code, "simulate", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "own.jsonl"
    lines: list[dict[str, Any]] = [
        {
            "timestamp": 200.0 * place,
            "input_length": 640,
            "output_length": 8,
            "hash_ids": [place % 5 * 10 + block for block in range(10)],
            "block_tokens": 64.0,
            "model": "default/m",
            "endpoint": f"e{place % 2}",
            "cached": 64,
        }
        for place in range(60)
    ]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


def test_profiles_are_compared_in_a_table(trace: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(PROFILE)
    done = penstock(
        trace, "--profile", "built-in", "--profile", tmp_path / "mine.yaml", "--profile", "peer:random"
    )
    assert done.returncode == 0, done.stderr
    head, *rows = done.stdout.splitlines()
    assert head.split()[:3] == ["PROFILE", "REQUESTS", "FAILED"]
    assert [row.split()[:3] for row in rows] == [
        ["built-in", "60", "0"],
        ["mine", "60", "0"],
        ["peer:random", "60", "0"],
    ]
    assert "10.0 % of the prompts' tokens were cached" in done.stderr


def test_json_is_the_same_to_the_byte(trace: Path) -> None:
    words = (trace, "--profile", "built-in", "--replicas", "3", "--json")
    once, again = penstock(*words), penstock(*words)
    assert once.stdout == again.stdout
    (outcome,) = json.loads(once.stdout)
    assert outcome["figures"]["requests"] == 60
    assert outcome["computed_tokens"] > 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--profile", "peer:nobody"), "policy: found 'nobody'"),
        (("--profile", "none.yaml"), "none.yaml: no such file"),
        (("--profile", "built-in", "-p", "kpa"), "expected one trace and neither"),
        (("--profile", "built-in", "--model", "default/other"), "found no request of default/other"),
        (("--profile", "built-in", "--scale", "2"), "each request is played once"),
        (("--record", "new.jsonl"), "--record: found a trace"),
        ((), "found no policy"),
    ],
)
def test_what_cannot_be_done_is_said(trace: Path, words: tuple[str, ...], said: str) -> None:
    done = penstock(trace, *words)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr
