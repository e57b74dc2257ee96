"""A folder with one GGUF file and nothing else is a model."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_process import TINY, EngineProcess
from gguf_files import tiny_metadata, tiny_tensors, write_gguf

from penstock.engine.convert.cache import loadable
from penstock.engine.text import Text
from penstock.kit.errors import InvalidInput

FRANCE = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("gguf")
    write_gguf(made / "tiny.gguf", tiny_metadata(), tiny_tensors())
    return made


@pytest.fixture(scope="module")
def engine(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    beside = tmp_path_factory.mktemp("engine-gguf")
    started = EngineProcess(folder, beside / "log", beside / "cache")
    yield started.wait_ready()
    assert started.end() == 0, started.text
    started.close()


def ask(engine: EngineProcess, **body: Any) -> Any:
    path = "/v1/completions" if "prompt" in body else "/v1/chat/completions"
    return engine.client.post(path, json={"model": "tiny", "temperature": 0} | body).json()


def test_it_answers_as_the_folder_that_it_was_made_from(engine: EngineProcess) -> None:
    (choice,) = ask(engine, messages=FRANCE)["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (
        "The capital of France is Paris.",
        "stop",
    )


def test_its_answers_can_follow_a_schema(engine: EngineProcess) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": {"enum": ["Lima", "Quito"]}}}
    (choice,) = ask(engine, messages=FRANCE, response_format=form, max_tokens=20)["choices"]
    assert json.loads(choice["message"]["content"]) in {"Lima", "Quito"}
    assert choice["finish_reason"] == "stop"


def test_its_context_is_known(engine: EngineProcess) -> None:
    error = ask(engine, prompt="a b " * 2000)["error"]
    assert error["code"] == "context_length_exceeded"
    assert "maximum context length is 2048 tokens" in error["message"]


def test_files_beside_it_say_more_than_it_does(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "tiny.gguf", tmp_path)
    assert Text(tmp_path).eos == (2,)
    assert Text(tmp_path).render(FRANCE, None) == Text(TINY).render(FRANCE, None)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "mine"}))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 6]}))
    assert Text(tmp_path).eos == (2, 6)
    assert Text(tmp_path).render(FRANCE, None) == "mine"


def test_a_tokenizer_beside_it_is_taken_for_a_rule_that_is_not_known(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", tiny_metadata() | {"tokenizer.ggml.pre": "tekken"})
    with pytest.raises(InvalidInput, match=r"tiny\.gguf: tokenizer.ggml.pre is 'tekken'"):
        Text(tmp_path)
    shutil.copy(TINY / "tokenizer.json", tmp_path)
    assert Text(tmp_path).encode("Hi") == Text(TINY).encode("Hi")
    assert Text(tmp_path).eos == (2,)


def test_a_file_that_was_cut_off_is_refused_where_the_library_would_answer_nonsense(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "tiny.gguf").write_bytes((folder / "tiny.gguf").read_bytes()[:-1])
    with pytest.raises(InvalidInput, match=r"tiny\.gguf is damaged or incomplete: tensor"):
        loadable(tmp_path, tmp_path)


def test_several_files_are_refused_by_name(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InvalidInput, match=r"2 GGUF files \(a\.gguf, b\.gguf\), expected one"):
        loadable(tmp_path, tmp_path)
