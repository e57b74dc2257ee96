"""Endpoints as routing sees them, made up."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from penstock.contracts.exchange import CONTEXT_LENGTH_LABELS, Endpoint
from penstock.contracts.scheduling import UNKNOWN, Load, Prompt, View


def load(name: str = "a", **known: Any) -> Load:
    """An endpoint of which nothing is known but what is given."""
    return Load(endpoint=Endpoint(name=name, address=f"127.0.0.{ord(name[0]) % 250}", port=8000), **known)


def view(*loads: Load, cached: tuple[float, ...] = ()) -> View:
    """`cached` tokens of each, none if not given."""
    return View(loads, cached or (0.0,) * len(loads))


_amount = st.floats(0, 1e7)
_said = st.just(UNKNOWN) | st.floats(0, 1e5)
_ranges = st.sampled_from(["0-8192", "8193-131072", "0-0", "9-1", "x", "-", "", "5"])


@st.composite
def loads(draw: st.DrawFn, name: str) -> Load:
    """One endpoint, with whatever may be known of one."""
    in_flight = draw(st.integers(0, 300))
    return load(
        name,
        weight=draw(st.sampled_from([0.0, 0.2, 1.0])),
        is_open=draw(st.booleans()),
        in_flight=in_flight,
        prefilling=draw(st.integers(0, in_flight)),
        uncached_tokens=draw(_amount),
        context_tokens=draw(_amount),
        waiting=draw(_said),
        running=draw(_said),
        kv_use=draw(st.just(UNKNOWN) | st.floats(0, 1)),
        kv_tokens=draw(st.sampled_from([0, 1, 500_000])),
        prefill_s=draw(st.floats(0, 10)),
        prefill_token_s=draw(st.floats(0, 1)),
        decode_s=draw(st.floats(0, 10)),
        step_requests=draw(st.sampled_from([0.0, 0.001, 8.0])),
        is_measured=draw(st.booleans()),
        adapters=frozenset(draw(st.sets(st.sampled_from(["x", "y"])))),
        adapter_slots=draw(st.integers(0, 3)),
        labels=draw(st.dictionaries(st.sampled_from(CONTEXT_LENGTH_LABELS), _ranges)),
        token_price=draw(st.sampled_from([0.0, 1e-9, 2.0])),
    )


@st.composite
def views(draw: st.DrawFn) -> View:
    """One to six endpoints."""
    names = "abcdef"[: draw(st.integers(1, 6))]
    made = tuple(draw(loads(name)) for name in names)
    return View(made, tuple(draw(st.floats(0, 1e6)) for _ in made))


@st.composite
def prompts(draw: st.DrawFn) -> Prompt:
    """Any request."""
    return Prompt(
        draw=draw(st.integers(0, 2**64 - 1)),
        tokens=draw(st.integers(0, 1_000_000)),
        output_tokens=draw(st.integers(0, 1_000_000)),
        adapter=draw(st.sampled_from(["", "x", "z"])),
        session=draw(st.sampled_from(["", "s1", "s2"])),
        is_batch=draw(st.booleans()),
        only=draw(st.none() | st.sets(st.sampled_from(["127.0.0.97:8000", "127.0.0.98:8000"]))),
    )
