"""Takes the better of two different ones that are drawn (Mitzenmacher 2001; the power_of_two policy of SGLang's gateway).

The first is draw // 2^20 mod n, the second 1 + (draw // 2^42 mod (n - 1)) places after it; of equals the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.contracts.scheduling import Picker, Prompt
from penstock.resources.routing_plugins import settled


class PowerOfTwo:
    """See the module."""

    def pick(self, prompt: Prompt, scores: Sequence[float]) -> int:
        """The same for the same draw."""
        count = len(scores)
        if count == 1:
            return 0
        first = (prompt.draw >> 20) % count
        second = (first + 1 + (prompt.draw >> 42) % (count - 1)) % count
        return first if scores[first] >= scores[second] else second


def open_picker(parameters: Mapping[str, Any]) -> Picker:
    """It has no parameters."""
    settled("pickers", "power-of-two", parameters)
    return PowerOfTwo()
