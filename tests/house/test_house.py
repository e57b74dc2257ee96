"""The house rules that a machine can check."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "penstock"
MAX_FUNCTION_LINES = 60
FORBIDDEN = re.compile(
    "|".join(
        (
            "pypi" + r"\.org",
            "files" + r"\.pythonhosted",
            "registry" + r"\.npmjs",
            "/wo" + "rk/(main|shared)",
            "deb" + r"ian\.org",
        )
    ),
    re.IGNORECASE,
)
TEXTS = (".py", ".md", ".yaml", ".yml", ".toml", ".sh", ".lock", ".in", "")


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    paths = [ROOT / line for line in listed.stdout.splitlines()]
    return [path for path in paths if path.suffix in TEXTS and path.is_file()]


def test_every_decision_opens_with_its_question() -> None:
    for path in sorted((SOURCE / "decide").glob("*.py")):
        if path.name != "__init__.py":
            first = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]
            assert first.endswith("?"), f"{path.name}: {first!r}"


@pytest.mark.parametrize(
    ("folder", "limit"), [("src", 400), ("tools", 400), ("benchmarks", 400), ("tests", 510)]
)
def test_a_file_has_one_thought(folder: str, limit: int) -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in (ROOT / folder).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > limit
    }
    assert not long


def test_a_function_is_at_most_one_screen() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{name} {lines}" for path in modules() for name, lines in functions(path)
    ]
    assert not long


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield node.name, lines


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in modules()
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


def test_names_say_what_something_is() -> None:
    vague = [str(p) for p in modules() if p.stem in ("utils", "helpers", "common", "misc", "manager_manager")]
    assert not vague


def test_files_of_tests_have_names_of_their_own() -> None:
    """pytest imports them by name, and tests import what lies beside them."""
    names = [p.name for p in (ROOT / "tests").rglob("*.py") if p.name not in ("conftest.py", "__init__.py")]
    assert {name for name in names if names.count(name) > 1} == set()


def test_no_text_names_a_package_registry_or_a_machine_of_ours() -> None:
    found = {str(p.relative_to(ROOT)): m.group() for p in tracked() if (m := FORBIDDEN.search(p.read_text()))}
    assert not found


def documents() -> list[Path]:
    return [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]


def test_what_documents_make_can_be_made() -> None:
    made = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    made |= {f"bench-{p.parent.name.replace('_', '-')}" for p in ROOT.glob("benchmarks/*/run.py")}
    for path in documents():
        named = set(re.findall(r"(?:^|`|&& )make ([a-z][a-z_-]*)", path.read_text(), re.MULTILINE))
        assert named <= made, path.relative_to(ROOT)


def test_links_between_documents_lead_somewhere() -> None:
    broken = []
    for path in documents():
        for target in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
            if "://" not in target and not (path.parent / target).exists():
                broken.append(f"{path.relative_to(ROOT)}: {target}")
    assert not broken


def test_generated_documents_are_current() -> None:
    done = subprocess.run(
        [sys.executable, "tools/reference.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
