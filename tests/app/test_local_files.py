"""Local models are linked without a process; whatever is more than that is left to the program."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from penstock.app.fetch import main
from penstock.app.local_files import at_once

PROGRAM = (sys.executable, "-m", "penstock.app.fetch")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "more").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_a_local_model_is_linked_as_the_program_links_it(model: Path, tmp_path: Path) -> None:
    linked, fetched = tmp_path / "linked", tmp_path / "fetched"
    said = at_once((*PROGRAM, model.as_uri(), str(linked)))
    assert said == (f"{model.as_uri()}: is on this machine; linked",)
    assert main([model.as_uri(), str(fetched)], {}) == 0
    entries = [{p.name: str(p.readlink()) for p in folder.iterdir()} for folder in (linked, fetched)]
    assert entries[0] == entries[1] == {name: str(model / name) for name in ("config.json", "more")}


def test_doing_it_again_finds_what_has_changed(model: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    for name in ("a", "b"):
        (model / name).write_text("")
        assert at_once((*PROGRAM, model.as_uri(), str(linked))) is not None
    assert {path.name for path in linked.iterdir()} == {"config.json", "more", "a", "b"}


def test_every_other_command_needs_its_process(model: Path, tmp_path: Path) -> None:
    folder = str(tmp_path / "there")
    for argv in (
        ("/bin/sh", "-c", "true"),
        PROGRAM,
        (*PROGRAM, model.as_uri()),
        (*PROGRAM, "s3://bucket/model", folder),
        (*PROGRAM, model.as_uri(), folder, "hf://org/model", folder),
    ):
        assert at_once(argv) is None
    assert not Path(folder).exists()


def test_what_cannot_be_linked_is_left_to_the_program_which_says_why(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    missing = (model.parent / "modle").as_uri()
    assert at_once((*PROGRAM, missing, str(tmp_path / "there"))) is None
    assert at_once((*PROGRAM, model.as_uri(), str(model / "config.json"))) is None
    assert main([missing, str(tmp_path / "there")], {}) == 3
    assert "there is model" in capfd.readouterr().err
