"""The mirror against the library itself: with one block computed a step, the steps to the first token tell what was cached."""

import random
from argparse import Namespace
from pathlib import Path

import pytest

from penstock.engine.child import Runner, load
from penstock.engine.frames import Add, Cancel, Sampling
from penstock.engine.prefixes import BLOCK_TOKENS, BlockMirror

TINY = Path(__file__).parents[2] / "src/penstock/models/penstock-tiny"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def pipeline(cache: Path, blocks: int) -> Runner:
    settings = Namespace(
        model_dir=str(TINY),
        cache_dir=str(cache),
        kv_blocks=blocks,
        max_num_batched_tokens=BLOCK_TOKENS,
        max_num_seqs=8,
        threads=1,
        eos=[2],
    )
    return load(settings)[0]


def answer(runner: Runner, number: int, prompt: list[int], tokens: int) -> tuple[int, list[int]]:
    """Steps until the first token, and the answer."""
    runner.add(Add(number, prompt, Sampling(max_tokens=tokens, ignore_eos=True)))
    found: list[int] = []
    steps, first = 0, 0
    while True:
        steps += 1
        for update in runner.step().updates:
            assert update.finish != "error", update.error
            found += update.tokens
            first = first or steps
            if update.finish:
                return first, found


@pytest.mark.parametrize(
    ("blocks", "longest", "requests"),
    [(256, 8, 25), (24, 8, 40), (14, 10, 40)],
    ids=["roomy", "tight", "tiny"],
)
def test_what_the_mirror_says_is_cached_is_exactly_what_the_library_does_not_compute(
    cache: Path, blocks: int, longest: int, requests: int
) -> None:
    runner, mirror, chance = pipeline(cache, blocks), BlockMirror(blocks), random.Random(blocks)
    hits = 0
    for number in range(1, requests + 1):
        body = [10 + chance.randrange(2) for _ in range(chance.randrange(longest))]
        rest = [20 + chance.randrange(3)] * chance.randrange(1, BLOCK_TOKENS)
        prompt = [token for token in body for _ in range(BLOCK_TOKENS)] + rest
        cached = mirror.cached_tokens(prompt)
        hits += bool(cached)
        _, held = mirror.begin(prompt)
        steps, tokens = answer(runner, number, prompt, chance.choice([1, 2, 40]))
        mirror.end(held, [*prompt, *tokens[:-1]])
        assert steps == -(-(len(prompt) - cached) // BLOCK_TOKENS), f"request {number}: {len(prompt)} tokens"
    assert hits > requests // 4


def test_requests_that_come_together_compute_their_common_beginning_once(cache: Path) -> None:
    runner = pipeline(cache, 256)
    common = [7] * (8 * BLOCK_TOKENS)
    for number in range(1, 7):
        runner.add(Add(number, [*common, 20 + number], Sampling(max_tokens=1, ignore_eos=True)))
    steps, done = 0, set[int]()
    while len(done) < 6:
        steps += 1
        done |= {update.id for update in runner.step().updates if update.finish}
    assert steps <= 9 + 2, "9 steps for the leader; the others' last tokens fit into two"
    assert not runner.busy


def test_whoever_leads_and_is_cancelled_leaves_the_lead_to_the_next(cache: Path) -> None:
    runner = pipeline(cache, 256)
    prompt = [8] * (4 * BLOCK_TOKENS)
    for number in (1, 2):
        runner.add(Add(number, prompt, Sampling(max_tokens=1, ignore_eos=True)))
    runner.step()
    runner.cancel(Cancel(1))
    finished: set[int] = set()
    for _ in range(10):
        finished |= {update.id for update in runner.step().updates if update.finish}
    assert finished == {2}
    assert not runner.busy
