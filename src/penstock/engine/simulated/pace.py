"""How long steps of an engine take, and so how many are done by when: a closed form over runs of like steps."""

from __future__ import annotations

from math import ceil, sqrt

from penstock.engine.simulated.profile import EngineProfile


class Pace:
    """A run of like steps: the same sequences decode, and each step carries the same number of one prompt's tokens.

    The first takes `step_s`; each further one `more_s` longer than the one before, as all contexts grow.
    """

    __slots__ = ("more_s", "step_s")

    def __init__(self) -> None:
        self.step_s = self.more_s = 0.0

    def set(self, profile: EngineProfile, decoding: int, context: int, chunk: int, work_s: float) -> None:
        """`decoding` sequences read `context` tokens of KV; `work_s` is what the step's prompts take, of which `chunk` tokens recur."""
        per_token_s = profile.step_per_context_token_s
        self.step_s = profile.step_base_s + per_token_s * context + work_s
        self.more_s = per_token_s * decoding + profile.attention_pair_s * chunk * chunk

    def passed_s(self, steps: int) -> float:
        """Seconds that `steps` take."""
        return steps * self.step_s + steps * (steps - 1) * 0.5 * self.more_s

    def steps_by(self, passed_s: float) -> int:
        """Of how many steps the end is not before `passed_s`; at least one."""
        linear = self.step_s - 0.5 * self.more_s
        steps = max(1, ceil(2.0 * passed_s / (linear + sqrt(linear * linear + 2.0 * self.more_s * passed_s))))
        while self.passed_s(steps) < passed_s:
            steps += 1
        while steps > 1 and self.passed_s(steps - 1) >= passed_s:
            steps -= 1
        return steps


def prefill_s(profile: EngineProfile, first: int, tokens: int) -> float:
    """What computing `tokens` of a prompt takes, after `first` of it that are there."""
    pairs = tokens * (first + 0.5 * tokens)
    return tokens / profile.prefill_tokens_per_s + profile.attention_pair_s * pairs
