"""What a simulated client asks, and what names its blocks."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import count

from penstock.kit.hashing import TOKEN_BYTES, chain_seed
from penstock.kit.hashing import chained as chained_on

MODEL = "simulated"
SEED = chain_seed(MODEL)
_numbers = count()


class Ask:
    """One request. `at` is when its client sends it, in seconds.

    Each number in `ids` stands for the words of one whole block, of the prompt first (as many as `hashes`) and then of the answer, where that
    comes back in a later prompt (`answer_hashes`). `session` is what the turns of one conversation have in common, "" for a request by itself;
    `tenant` is whose it is. `turn` counts within the session. One that `warms` is part of what comes before anything is measured.
    """

    __slots__ = (
        "answer_hashes",
        "at",
        "hashes",
        "ids",
        "number",
        "output_tokens",
        "prompt_tokens",
        "session",
        "tenant",
        "turn",
        "warms",
    )

    def __init__(
        self,
        at: float,
        prompt_tokens: int,
        output_tokens: int,
        ids: Sequence[int],
        hashes: Sequence[int],
        answer_hashes: Sequence[int] = (),
        *,
        session: str = "",
        tenant: str = "",
        turn: int = 0,
        warms: bool = False,
    ) -> None:
        self.number = next(_numbers)
        self.at = at
        self.prompt_tokens, self.output_tokens = prompt_tokens, output_tokens
        self.ids, self.hashes, self.answer_hashes = ids, hashes, answer_hashes
        self.session, self.tenant, self.turn = session, tenant, turn
        self.warms = warms


def tokens_of(ids: Sequence[int], block_tokens: int) -> array[int]:
    """The token ids of these blocks: a block's number, over and over."""
    tokens = array("I")
    for number in ids:
        tokens.extend(array("I", (number,)) * block_tokens)
    return tokens


def chained(ids: Sequence[int], block_tokens: int, seed: int = SEED) -> list[int]:
    """The hashes of these blocks, chained on `seed`: the gateway's own, one block after the other."""
    return [seed := chained_on(number.to_bytes(TOKEN_BYTES, "little") * block_tokens, seed) for number in ids]
