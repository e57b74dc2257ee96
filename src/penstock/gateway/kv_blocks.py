"""From the blocks that one engine tells of to the platform's own: its block hashes are names, never compared with ours.

An engine's hashes depend on a seed drawn at its start and on its version, so ours are computed anew from the token ids that it tells.
Blocks of another size are cut anew where one size is a multiple of the other. Engines free the tail of a chain first; so where ours is
the greater, a block of ours ends with the engine's block that completed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from msgspec import Struct

from penstock.gateway.kv_held import LOW_BITS, PARTS
from penstock.kit.hashing import TOKEN_BYTES, chain_seed, text_blocks, token_bytes

EngineHash = int | bytes
"""The low 64 bits of an engine's hash, or all of its bytes: as it tells them."""

NAMED = 4
"""An engine's cache may be larger than is known; and what is found there least is given up here before it is there."""

MOST_PARTS = 1 << 20
"""Names within blocks of ours, each with its tokens: some 300 MB. Engines may have a block for each token."""


class Cut(NamedTuple):
    """Blocks of ours, from head to tail, what they follow on, and whether that is a block or a beginning; how many of the engine's could not be placed; those of ours that had to be forgotten for them."""

    hashes: list[int]
    skipped: int
    forgotten: Sequence[int] = ()
    before: int = 0
    is_beginning: bool = False


class Cutting(Struct, frozen=True, gc=False):
    """An engine's block that is several of ours (`whole`), or ends within one: so far it has these `tokens`, after ours that `ended`."""

    whole: tuple[int, ...]
    ended: int
    tokens: bytes


Named = int | Cutting
"""What an engine's block is: one of ours, or something else."""


def extra_salt(adapter: str, extras: Sequence[object], parent: EngineHash | None) -> tuple[str, int]:
    """The cache salt of a chain's first block, and how many blocks from the start are told apart by adapter and salt alone.

    vLLM's `extra_keys` are of each block: the adapter's name, what images and prompt embeddings stand there, and of the first the cache
    salt. Prompts as the gateway hashes them do not tell two images apart; blocks from the first image on are left out.
    """
    salt = ""
    for place, keys in enumerate(extras):
        if keys is None:
            continue
        others = [key for key in keys if str(key) != adapter] if isinstance(keys, list | tuple) else [None]
        if not others:
            continue
        if place == 0 and parent is None and len(others) == 1 and isinstance(others[0], str):
            salt = others[0]
        else:
            return salt, place
    return salt, len(extras)


class EngineBlocks:
    """Names for as many blocks as `NAMED` caches of `capacity` blocks of ours (`block_tokens` each) hold; of more, the oldest are forgotten."""

    __slots__ = ("_count", "_next", "_parts", "block_tokens", "capacity", "model")

    def __init__(self, model: str, block_tokens: int, capacity: int) -> None:
        self.model, self.block_tokens, self.capacity = model, block_tokens, capacity
        # by a hash of each name's own, for names may be 1, 2, 3
        self._parts: list[dict[EngineHash, Named]] = [{} for _ in range(PARTS)]
        self._next = self._count = 0

    def __len__(self) -> int:
        return self._count

    def fits(self, block_size: int) -> bool:
        """Whether blocks of `block_size` tokens can be cut into ours, or joined."""
        return block_size > 0 and (block_size % self.block_tokens == 0 or self.block_tokens % block_size == 0)

    def store(
        self,
        parent: EngineHash | None,
        engine_hashes: Sequence[EngineHash],
        tokens: Sequence[int],
        block_size: int,
        adapter: str = "",
        extras: Sequence[object] = (),
    ) -> Cut:
        """The engine stored these after `parent`, None for a beginning. `block_size` fits.

        Skipped are all after a parent that is unknown, that are told without their tokens, or whose extra keys nothing can stand for.
        """
        salt, usable = extra_salt(adapter, extras, parent)
        count = min(len(engine_hashes), len(tokens) // block_size, usable if extras else len(engine_hashes))
        start = self._end_of(parent) if parent is not None else (chain_seed(self.model, adapter, salt), b"")
        if start is None or not count:
            return Cut([], len(engine_hashes))
        try:
            data = start[1] + token_bytes(tokens[: count * block_size])
        except (OverflowError, TypeError):
            return Cut([], len(engine_hashes))
        ours = text_blocks(data, self.block_tokens * TOKEN_BYTES, start[0])
        self._place(start, engine_hashes[:count], data, block_size, ours)
        forgotten = self._bound(block_size, 2 * count)
        return Cut(ours, len(engine_hashes) - count, forgotten, start[0], parent is None)

    def remove(self, engine_hashes: Sequence[EngineHash]) -> tuple[list[int], int]:
        """Those of ours that went with these, and how many of these are unknown."""
        gone: list[int] = []
        unknown = 0
        for name in engine_hashes:
            named = self._parts[hash((name,)) & LOW_BITS].pop(name, None)
            if named is None:
                unknown += 1
            elif isinstance(named, int):
                gone.append(named)
            else:
                gone += named.whole
        self._count -= len(engine_hashes) - unknown
        return gone, unknown

    def clear(self) -> list[dict[EngineHash, Named]]:
        """Nothing the engine told of is known any more. Returns what was, for it takes long to be freed at once."""
        parts, self._parts, self._count = self._parts, [{} for _ in range(PARTS)], 0
        return parts

    def _end_of(self, name: EngineHash) -> tuple[int, bytes] | None:
        named = self._parts[hash((name,)) & LOW_BITS].get(name)
        if named is None or isinstance(named, int):
            return None if named is None else (named, b"")
        return named.ended, named.tokens

    def _place(
        self,
        start: tuple[int, bytes],
        names: Sequence[EngineHash],
        data: bytes,
        block_size: int,
        ours: list[int],
    ) -> None:
        parts = self._parts
        if block_size == self.block_tokens and not start[1]:
            for name, key in zip(names, ours, strict=True):
                part = parts[hash((name,)) & LOW_BITS]
                self._count += name not in part
                part[name] = key
            return
        size, step, before = self.block_tokens * TOKEN_BYTES, block_size * TOKEN_BYTES, len(start[1])
        for place, name in enumerate(names):
            first, end = (before + place * step) // size, before + (place + 1) * step
            whole, rest = divmod(end, size)
            ended = ours[whole - 1] if whole else start[0]
            cut = ours[first:whole] if whole - first > 1 else ()
            is_plain = not (rest or cut)
            named = ended if is_plain else Cutting(tuple(cut), ended, data[whole * size : end])
            part = parts[hash((name,)) & LOW_BITS]
            self._count += name not in part
            part[name] = named

    def _bound(self, block_size: int, limit: int) -> list[int]:
        """Those of ours whose names are forgotten: the oldest of one part after another, and not many more than `limit` names."""
        over, forgotten = min(len(self) - self._most(block_size), limit), list[int]()
        while over > 0:
            part = self._parts[self._next]
            oldest = [*islice(part, len(part) // PARTS + 1)]
            forgotten += self.remove(oldest)[0]
            over -= len(oldest)
            self._next = (self._next + 1) % PARTS
        return forgotten

    def _most(self, block_size: int) -> int:
        """Names of blocks of that size; a large one has many of ours."""
        whole = NAMED * self.capacity
        if block_size >= self.block_tokens:
            return max(whole * self.block_tokens // block_size, 1)
        return min(whole * (self.block_tokens // block_size), max(whole, MOST_PARTS))
