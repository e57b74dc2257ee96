"""Headers are read once, in the background, and kept."""

import asyncio
import threading
from pathlib import Path

import pytest

from penstock.decide.memory_need import Plan
from penstock.decide.model_shape import ModelShape
from penstock.decide.served_model import Served
from penstock.host import model_shapes
from penstock.host.model_shapes import AGAIN_S, FRESH_S, Known, ModelShapes
from penstock.kit.clock import SystemClock
from penstock.kit.errors import NotFound

SHAPE = ModelShape(architecture="Llama", hidden_size=8)


class Reader:
    """Counts what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failure: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, model: str) -> ModelShape:
        self.asked.append(model)
        assert self.gate.wait(50)
        if self.failure is not None:
            raise self.failure
        return SHAPE


class Later(SystemClock):
    """The machine's clock, and then some."""

    ahead_s = 0.0

    def now(self) -> float:
        return super().now() + self.ahead_s


class World:
    def __init__(self, folder: Path) -> None:
        self.reader, self.clock, self.path = Reader(), Later(), folder / "state" / "shapes.json"
        self.shapes = self.again()

    def again(self) -> ModelShapes:
        return ModelShapes(self.reader, self.path, self.clock)

    async def known(self, model: str) -> Known:
        self.shapes.get(model)
        while self.shapes.is_reading:
            await asyncio.sleep(0.005)
        found = self.shapes.get(model)
        assert found is not None
        return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_whoever_asks_first_does_not_wait(world: World) -> None:
    world.reader.gate.clear()
    assert world.shapes.get("hf://o/m") is None and world.shapes.is_reading
    assert world.shapes.get("hf://o/m") is None
    world.reader.gate.set()
    assert (await world.known("hf://o/m")).shape == SHAPE
    assert world.reader.asked == ["hf://o/m"]


async def test_a_restart_asks_nobody(world: World) -> None:
    await world.known("hf://o/m")
    found = world.again().get("hf://o/m")
    assert found is not None and found.shape == SHAPE and len(world.reader.asked) == 1
    assert world.path.stat().st_mode & 0o777 == 0o600


async def test_secrets_of_a_uri_are_not_kept(world: World) -> None:
    await world.known("https://user:secret@host/m/config.json?token=secret")
    assert "secret" not in world.path.read_text() and world.reader.asked[0].endswith("token=secret")


async def test_a_day_later_it_is_read_anew_and_the_old_answer_holds_meanwhile(world: World) -> None:
    await world.known("m")
    world.clock.ahead_s = FRESH_S + 1
    world.reader.failure = NotFound("gone")
    assert world.shapes.get("m") is not None and world.shapes.is_reading
    assert (await world.known("m")).shape == SHAPE and len(world.reader.asked) == 2


async def test_what_cannot_be_read_says_why_and_is_tried_again_later(world: World) -> None:
    world.reader.failure = NotFound("there is no such model")
    assert (await world.known("m")).failure == "there is no such model"
    world.reader.failure = None
    assert (await world.known("m")).shape is None
    world.clock.ahead_s = AGAIN_S + 1
    assert (await world.known("m")).shape == SHAPE


async def test_a_fault_of_a_foreign_file_is_an_answer(world: World) -> None:
    world.reader.failure = RecursionError("deep")
    assert (await world.known("m")).failure == "its headers cannot be read (RecursionError)"


async def test_a_source_that_does_not_answer_ends_the_wait(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_shapes, "TIMEOUT_S", 0.02)
    world.reader.gate.clear()
    assert "has not answered" in (await world.known("m")).failure
    world.reader.gate.set()


async def test_a_file_that_is_none_and_one_that_cannot_be_written_are_passed_over(world: World) -> None:
    world.path.parent.mkdir()
    world.path.write_text("{")
    world.path.parent.chmod(0o500)
    try:
        assert (await world.known("m")).shape == SHAPE
    finally:
        world.path.parent.chmod(0o700)


async def test_those_read_longest_ago_are_forgotten(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_shapes, "MAX_SHAPES", 2)
    for name in "abc":
        await world.known(name)
        world.clock.ahead_s += 1
    assert set(world.again()._load()) == {"b", "c"}


async def test_a_draft_is_read_too(world: World) -> None:
    served = Served(container="c", model="hf://o/m", engine="vllm", plan=Plan(), draft="hf://o/draft")
    while (found := world.shapes.served(served)) is None:
        await asyncio.sleep(0.005)
    assert found.shape is not None and "with a draft" in found.shape.notes[-1]
    assert world.reader.asked == ["hf://o/m", "hf://o/draft"]
