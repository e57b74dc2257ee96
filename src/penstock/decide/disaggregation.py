"""Should this prompt be computed by another endpoint than the one that answers it, and by which?

Only one of which much is in no cache where it is answered: what is held there is not fetched again, and the detour has its price. So the
profile says from how many uncached tokens on, and from how long a prompt (llm-d's decider). Where the rates of all concerned were learned,
the detour must pay as well: the prompt's wait at the other endpoint against its wait here and what answers under way here would lose by it.
Of the endpoints of the role prefill, the one is taken where the prompt is computed soonest, with what that one holds of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from penstock.contracts.exchange import ROLE_LABELS
from penstock.contracts.scheduling import Load, Prompt

PREFILL, DECODE, BOTH = "prefill", "decode", "both"
INTERFERENCE = 0.5
"""What a second of a prompt's computation costs each request under way there, as the scorer predicted-latency has it."""


class Remote(Struct, frozen=True, gc=False):
    """The place of the endpoint that computes the prompt, -1 for none, and why."""

    place: int
    reason: str


def role_of(labels: Mapping[str, str]) -> str:
    """What a pod is for: PREFILL, DECODE or BOTH, which is also what any other word means."""
    said = next((labels[name] for name in ROLE_LABELS if name in labels), BOTH)
    return said if said in (PREFILL, DECODE) else BOTH


def choose_remote(
    prompt: Prompt,
    here: Load,
    cached_here: float,
    others: Sequence[Load],
    cached_there: Sequence[float],
    *,
    prompt_tokens: int,
    uncached_tokens: int,
) -> Remote:
    """`here` answers, of `others` one may compute the prompt; of its beginning they hold so many tokens. The last two are the profile's least."""
    if not uncached_tokens or not others:
        return Remote(-1, "nobody computes prompts for others")
    own = max(0.0, prompt.tokens - cached_here)
    if prompt.tokens < prompt_tokens:
        return Remote(-1, f"a prompt of {prompt.tokens} tokens, less than {prompt_tokens}")
    if own < uncached_tokens:
        return Remote(-1, f"{own:.0f} tokens are to be computed, less than {uncached_tokens}")
    measured = here.is_measured and all(load.is_measured for load in others)
    waits = [
        _wait(load, max(0.0, prompt.tokens - cached), in_seconds=measured)
        for load, cached in zip(others, cached_there, strict=True)
    ]
    place = min(range(len(waits)), key=waits.__getitem__)
    if measured:
        harm_s = INTERFERENCE * here.in_flight * own * here.prefill_token_s
        stay_s = _wait(here, own, in_seconds=True) + harm_s
        if waits[place] > stay_s:
            return Remote(-1, f"computed here within {stay_s:.3f} s, elsewhere within {waits[place]:.3f} s")
    return Remote(place, f"{own:.0f} tokens are to be computed, at least {uncached_tokens}")


def _wait(load: Load, own_tokens: float, *, in_seconds: bool) -> float:
    """Until that is computed there, in seconds or in tokens."""
    tokens = load.uncached_tokens + own_tokens
    return (load.prefilling + 1) * load.prefill_s + tokens * load.prefill_token_s if in_seconds else tokens
