"""How many tokens does a prompt of this many bytes have?

Nobody knows before it is tokenized, but every answer says how many its own prompt had. One ratio is kept for a service: tokens in bytes,
both sums over answers that fade. A prior of English text holds until there are some. An answer whose ratio no text has (an image in the
prompt, an engine that counts otherwise) teaches nothing.
"""

from __future__ import annotations

from msgspec import Struct

TYPICAL = 0.25
"""Tokens of a byte of English text in JSON."""

LEAST, MOST = 1 / 16, 1.5
"""What lies beyond is no text: 64 KB of a picture, or every byte more than a token."""

PRIOR_BYTES = 4096.0
FADED_BYTES = 1 << 19
"""Of what was learned before, as many bytes count as much as all that is new: half a million, or the last few dozen prompts."""


class TokenRatio(Struct, frozen=True, gc=False):
    """Sums of what answers said, on top of the prior; how many tokens that is `per_byte`."""

    size_bytes: float = PRIOR_BYTES
    tokens: float = PRIOR_BYTES * TYPICAL
    per_byte: float = TYPICAL


UNKNOWN = TokenRatio()


def measured(ratio: TokenRatio, size_bytes: int, tokens: int) -> TokenRatio:
    """A prompt of `size_bytes` had `tokens`."""
    if size_bytes <= 0 or not LEAST <= tokens / size_bytes <= MOST:
        return ratio
    kept = FADED_BYTES / (FADED_BYTES + size_bytes)
    all_bytes, all_tokens = ratio.size_bytes * kept + size_bytes, ratio.tokens * kept + tokens
    return TokenRatio(all_bytes, all_tokens, all_tokens / all_bytes)
