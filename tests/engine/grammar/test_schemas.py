"""What is remembered of schemas, and its bounds."""

from __future__ import annotations

import asyncio
import signal

import pytest

from penstock.engine.grammar import schemas
from penstock.engine.grammar.schemas import Schemas
from penstock.engine.metrics import Metrics
from penstock.kit.errors import Exhausted, InvalidInput, Unavailable

MIB = 1 << 20


class Compiler:
    """Stands for the process: "bad…" cannot be followed, "slow…" takes a second and "endless" for ever, "deadly" ends it, "long" at its limit; each takes a MiB."""

    def __init__(self) -> None:
        self.grown_bytes = 0
        self.asked: list[str] = []
        self.closed = self.is_dead = False
        self.code = -int(signal.SIGKILL)

    async def fault(self, schema: str) -> str:
        if self.is_dead or schema.startswith(("deadly", "long")):
            self.code = -signal.SIGPROF if schema == "long" else -signal.SIGABRT
            raise EOFError
        self.asked.append(schema)
        self.grown_bytes += MIB
        if schema.startswith("slow"):
            await asyncio.sleep(1)
        if schema == "endless":
            await asyncio.Event().wait()
        return "bad" if schema.startswith("bad") else ""

    def close(self) -> int:
        self.closed = True
        return self.code


@pytest.fixture
def compilers(monkeypatch: pytest.MonkeyPatch) -> list[Compiler]:
    """All that were started."""
    found: list[Compiler] = []

    async def started(_: str) -> Compiler:
        found.append(Compiler())
        return found[-1]

    monkeypatch.setattr(schemas, "_started", started)
    return found


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("m", 1, 32)


def outcomes(metrics: Metrics) -> dict[str, float]:
    samples = [sample for one in metrics.registry.collect() for sample in one.samples]
    return {s.labels["outcome"]: s.value for s in samples if s.name == "penstock:schemas_total"}


async def test_each_is_compiled_once_and_what_was_found_is_remembered(
    compilers: list[Compiler], metrics: Metrics
) -> None:
    known = Schemas(metrics)
    for _ in range(3):
        await known.check("good", "")
        with pytest.raises(InvalidInput, match="'response_format': the schema cannot be followed: bad"):
            await known.check("bad", "")
    [compiler] = compilers
    assert compiler.asked == ["good", "bad"]
    assert outcomes(metrics) == {"compiled": 1, "bad_schema": 1}
    known.close()


@pytest.mark.looptime
async def test_those_who_ask_with_one_schema_at_once_wait_for_one_compilation(
    compilers: list[Compiler], metrics: Metrics
) -> None:
    known = Schemas(metrics)
    await asyncio.gather(*(known.check("slow", "") for _ in range(20)))
    assert [compiler.asked for compiler in compilers] == [["slow"]]
    known.close()


@pytest.mark.looptime
async def test_no_more_wait_than_may(compilers: list[Compiler], metrics: Metrics) -> None:
    known = Schemas(metrics)
    waiting = [asyncio.create_task(known.check(f"slow {n}", "")) for n in range(schemas.WAITING)]
    await asyncio.sleep(0.1)
    with pytest.raises(Exhausted) as refused:
        await known.check("one more", "")
    assert (refused.value.code, refused.value.retry_after_s) == ("queue_full", schemas.LIMIT_S)
    await asyncio.gather(*waiting)
    await known.check("one more", "")
    known.close()
    assert outcomes(metrics) == {"compiled": schemas.WAITING + 1, "queue_full": 1}


async def test_when_as_many_are_kept_as_may_be_only_those_are_answered(
    compilers: list[Compiler], metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schemas, "KEPT_BYTES", 3 * MIB)
    known = Schemas(metrics)
    for schema in ("a", "bad", "b", "c"):
        try:
            await known.check(schema, "")
        except InvalidInput:
            continue
    with pytest.raises(Exhausted, match="3 schemas take the 3 MiB") as refused:
        await known.check("d", "")
    assert refused.value.code == "grammars_full"
    await known.check("a", "")
    known.close()


async def test_faults_are_forgotten_when_there_are_many(
    compilers: list[Compiler], metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schemas, "FAULTS", 2)
    known = Schemas(metrics)
    for schema in ("bad 1", "bad 2", "bad 3", "bad 1"):
        with pytest.raises(InvalidInput):
            await known.check(schema, "")
    assert compilers[0].asked == ["bad 1", "bad 2", "bad 3", "bad 1"]
    known.close()


async def test_a_process_that_has_grown_is_followed_by_another(
    compilers: list[Compiler], metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schemas, "GROWN_BYTES", 2 * MIB - 1)
    known = Schemas(metrics)
    for schema in "abc":
        await known.check(schema, "")
    assert [(compiler.asked, compiler.closed) for compiler in compilers] == [
        (["a", "b"], True),
        (["c"], False),
    ]
    known.close()


@pytest.mark.looptime
async def test_without_new_schemas_the_process_ends(compilers: list[Compiler], metrics: Metrics) -> None:
    known = Schemas(metrics)
    await known.check("a", "")
    await asyncio.sleep(schemas.IDLE_S - 1)
    await known.check("b", "")
    await asyncio.sleep(schemas.IDLE_S - 1)
    assert not compilers[0].closed
    await asyncio.sleep(2)
    assert compilers[0].closed
    await known.check("a", "")
    assert len(compilers) == 1, "what is known needs none"
    known.close()


@pytest.mark.looptime
async def test_whoever_goes_away_takes_the_process_along(compilers: list[Compiler], metrics: Metrics) -> None:
    known = Schemas(metrics)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await known.check("slow", "")
    assert compilers[0].closed
    await known.check("a", "")
    assert [compiler.asked for compiler in compilers] == [["slow"], ["a"]]
    known.close()


async def test_a_process_that_was_dead_already_is_no_schemas_fault(
    compilers: list[Compiler], metrics: Metrics
) -> None:
    known = Schemas(metrics)
    await known.check("a", "")
    compilers[0].is_dead = True
    await known.check("b", "")
    with pytest.raises(InvalidInput, match="too large or too deep"):
        await known.check("deadly", "")
    with pytest.raises(InvalidInput, match="too large or too deep"):
        await known.check("deadly too", "")
    assert [compiler.asked for compiler in compilers] == [["a"], ["b"], [], []]
    assert all(compiler.closed for compiler in compilers)


async def test_what_takes_too_much_is_refused_for_good(compilers: list[Compiler], metrics: Metrics) -> None:
    known = Schemas(metrics)
    for _ in range(2):
        with pytest.raises(InvalidInput, match="to compile it takes more than 2 s of processor time"):
            await known.check("long", "")
    assert len(compilers) == 1
    assert compilers[0].closed


@pytest.mark.looptime
async def test_one_that_is_not_compiled_because_nothing_moves_is_asked_for_again(
    compilers: list[Compiler], metrics: Metrics
) -> None:
    known = Schemas(metrics)
    with pytest.raises(Unavailable, match=f"has not answered for {schemas.WITHIN_S:g} s"):
        await known.check("endless", "")
    assert compilers[0].closed
    with pytest.raises(Unavailable):
        await known.check("endless", "")
    await known.check("a", "")
    assert len(compilers) == 3
    known.close()
