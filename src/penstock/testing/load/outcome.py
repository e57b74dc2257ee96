"""What became of one request."""

from __future__ import annotations

from array import array

from msgspec import Struct, field

OK = ""


def _no_times() -> array[float]:
    return array("d")


class Outcome(Struct, gc=False):
    """Seconds on the client's clock. `due` is when it ought to have been sent, `sent` when it was; the difference is the load's own lateness.

    `gaps_s` are the times between pieces of the answer that had text; `error` is "" or the kind: `http 429 rate_limit_exceeded`,
    `not connected`, `no answer`, `cut off`, `timeout`, `malformed`, `in stream CODE`. Tokens are as the answer's usage says; an answer that says none
    counts a token per piece.
    """

    due: float
    sent: float = 0.0
    first: float = 0.0
    last: float = 0.0
    end: float = 0.0
    status: int = 0
    error: str = OK
    message: str = ""
    request_id: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    told_usage: bool = False
    gaps_s: array[float] = field(default_factory=_no_times)
    text: str = ""

    @property
    def ok(self) -> bool:
        """Whether a whole answer came."""
        return self.error == OK

    @property
    def ttft_s(self) -> float:
        """From when it was due: a load that is late hides nothing."""
        return self.first - self.due

    @property
    def e2e_s(self) -> float:
        """To the end of the answer."""
        return self.end - self.due

    @property
    def itl_s(self) -> float:
        """Its mean time between tokens after the first; 0 for a single one."""
        after = self.output_tokens - 1
        return (self.last - self.first) / after if after > 0 else 0.0

    @property
    def late_s(self) -> float:
        """How long after it was due it was sent."""
        return self.sent - self.due
