"""Log lines say what they must, in the right shape, and never a secret."""

from __future__ import annotations

import io
import json
import logging
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.kit import logs

SECRET = "hf_abcdefghijklmnopqrstuvwx"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def untouched_root() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_program_reads_json_with_extra_fields_and_the_traceback() -> None:
    stream = io.StringIO()
    logs.configure("info", stream=stream)
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("penstock.x").exception("failed %s", "here", extra={"controller": "job"})
    line = json.loads(stream.getvalue())
    assert (line["level"], line["logger"], line["message"]) == ("error", "penstock.x", "failed here")
    assert line["controller"] == "job"
    assert line["error"].endswith("ValueError: broken")
    assert line["time"].endswith("Z")


def test_a_person_reads_one_plain_line_that_cannot_steer_the_terminal() -> None:
    stream = Terminal()
    logs.configure("info", stream=stream)
    logging.getLogger("penstock.host.placement").warning("no room for %s", "\x1b[2Jevil\nname")
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert text.rstrip().endswith("warning placement: no room for \\x1b[2Jevil\\nname")


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_secrets_are_in_no_line(stream: io.StringIO) -> None:
    logs.configure("debug", stream=stream)
    log = logging.getLogger("x")
    log.debug("token=%s", SECRET, extra={"headers": {"Authorization": f"Bearer {SECRET}"}})
    try:
        raise ValueError(f"cannot use {SECRET}")
    except ValueError:
        log.exception("it failed")
    assert stream.getvalue()
    assert SECRET not in stream.getvalue()


def test_lines_below_the_level_are_not_written_and_a_second_call_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    logs.configure("debug", stream=first)
    logs.configure("warning", stream=second)
    logging.getLogger("x").info("quiet")
    logging.getLogger("x").warning("loud")
    assert first.getvalue() == ""
    assert [json.loads(line)["message"] for line in second.getvalue().splitlines()] == ["loud"]


def test_the_file_is_private_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_FILE_BYTES", 2000)
    file = tmp_path / "log"
    logs.configure("info", stream=io.StringIO(), file=file)
    for number in range(200):
        logging.getLogger("x").info("line %d", number)
    kept = sorted(tmp_path.iterdir())
    assert len(kept) == logs.KEPT_FILES
    assert all(path.stat().st_size <= 2000 for path in kept)
    assert json.loads(file.read_text().splitlines()[-1])["message"] == "line 199"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_an_endless_message_is_cut() -> None:
    stream = io.StringIO()
    logs.configure("info", stream=stream)
    logging.getLogger("x").info("x" * 100_000)
    assert len(stream.getvalue()) < 20_000
