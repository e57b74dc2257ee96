"""The tokenizer, chat template and end tokens that a GGUF file carries in its metadata.

GGUF names the rule that splits a text before byte-level BPE (`tokenizer.ggml.pre`) instead of saying it; the rules here are the
published ones of those tokenizers. It says no normalizer: texts are taken as they are, as llama.cpp does.
"""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

from penstock.engine.convert.gguf import Gguf, corrupt
from penstock.kit.errors import InvalidInput

_CONTROL, _USER_DEFINED = 3, 4
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS = {"gpt-2": "", "llama-bpe": _SPLIT % "{1,3}", "qwen2": _SPLIT % ""}
"""Regular expression by the rule's name; GPT-2's own is built into the tokenizers library."""
_ENDS = ("eos", "eot", "eom")
"""Ends of a text, of a turn, of a message that calls a tool."""


def gguf_tokenizer(gguf: Gguf) -> Tokenizer:
    """Byte-level BPE. Raises InvalidInput, naming the file, if it is damaged or splits by a rule that is not known."""
    names, kinds = gguf.texts("tokenizer.ggml.tokens"), gguf.numbers("tokenizer.ggml.token_type")
    vocabulary = {name: number for number, name in enumerate(names)}
    if len(vocabulary) != len(names) or len(kinds) != len(names):
        found = f"{len(names)} tokens, {len(vocabulary)} of them different, with {len(kinds)} types"
        raise corrupt(gguf.path, f"tokenizer.ggml.tokens: {found}")
    rule = _rule(gguf)
    merges = [_pair(merge) for merge in gguf.texts("tokenizer.ggml.merges")]
    try:
        tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=rule == "llama-bpe"))
        tokenizer.post_processor = _beginning(gguf, names, unsaid=rule == "llama-bpe")
    except Exception as error:  # noqa: BLE001  the library raises nothing narrower
        raise corrupt(gguf.path, f"its tokenizer is not valid: {error}") from None
    tokenizer.pre_tokenizer = _splitter(_SPLITS[rule])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(
        [
            AddedToken(name, special=kind == _CONTROL, normalized=False)
            for name, kind in zip(names, kinds, strict=True)
            if kind in {_CONTROL, _USER_DEFINED}
        ]
    )
    return tokenizer


def gguf_settings(gguf: Gguf) -> dict[str, Any]:
    """What tokenizer_config.json would say: names of special tokens and the chat template."""
    names = gguf.texts("tokenizer.ggml.tokens")
    keys = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding"}
    numbers = {name: _special(gguf, key, names) for name, key in keys.items()}
    settings = {name: names[number] for name, number in numbers.items() if number is not None}
    return settings | {"chat_template": gguf.text("tokenizer.chat_template")}


def gguf_eos(gguf: Gguf) -> tuple[int, ...]:
    """Every id that ends an answer; empty if the file says none."""
    names = gguf.texts("tokenizer.ggml.tokens")
    numbers = (_special(gguf, key, names) for key in _ENDS)
    return tuple(dict.fromkeys(number for number in numbers if number is not None))


def gguf_context_tokens(gguf: Gguf) -> int | None:
    """How many tokens the model sees at once; None if the file does not say it."""
    return gguf.number(f"{gguf.text('general.architecture')}.context_length") or None


def _pair(merge: str) -> tuple[str, str]:
    left, _, right = merge.partition(" ")
    return left, right


def _rule(gguf: Gguf) -> str:
    found = gguf.text("tokenizer.ggml.pre")
    if found not in _SPLITS:
        raise InvalidInput(
            f"{gguf.path.name}: tokenizer.ggml.pre is {found or 'absent'!r}, expected {', '.join(_SPLITS)}",
            code="unsupported_tokenizer",
            hint="put the model's tokenizer.json beside it",
        )
    return found


def _splitter(pattern: str) -> pre_tokenizers.PreTokenizer:
    if not pattern:
        return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _beginning(gguf: Gguf, names: list[str], *, unsaid: bool) -> processors.PostProcessor | None:
    """Puts BOS before a text, if the file says so, or `unsaid` where it does not say."""
    said, number = gguf.flag("tokenizer.ggml.add_bos_token"), _special(gguf, "bos", names)
    if number is None or not (unsaid if said is None else said):
        return None
    return processors.TemplateProcessing(
        single=[names[number], "$A"], special_tokens=[(names[number], number)]
    )


def _special(gguf: Gguf, key: str, names: list[str]) -> int | None:
    number = gguf.number(f"tokenizer.ggml.{key}_token_id")
    if number is not None and number >= len(names):
        raise corrupt(gguf.path, f"tokenizer.ggml.{key}_token_id is {number}, there are {len(names)} tokens")
    return number
