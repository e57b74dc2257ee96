"""The tokenizer as an OpenVINO graph, which structured output needs; without the `transformers` package.

`openvino_tokenizers` asks of a tokenizer only that it is of a class of `transformers` and has a few attributes; what it
converts is tokenizer.json itself. So a module of that name with two empty classes is put in its way, for as long as it runs.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

TOKENIZER_IR, DETOKENIZER_IR = "openvino_tokenizer.xml", "openvino_detokenizer.xml"


def save_tokenizer(folder: Path, target: Path) -> None:
    """Write both graphs for folder/tokenizer.json into `target`. Raises what the library raises for a tokenizer that it cannot convert."""
    import openvino as ov  # noqa: PLC0415  only when a model is converted

    with _pretended_transformers() as fast:
        from openvino_tokenizers import convert_tokenizer  # noqa: PLC0415  see above

        tokenizer, detokenizer = convert_tokenizer(_tokenizer(fast, folder), with_detokenizer=True)
    ov.save_model(tokenizer, target / TOKENIZER_IR)
    ov.save_model(detokenizer, target / DETOKENIZER_IR)


def _tokenizer(fast: type, folder: Path) -> Any:
    """An object with the attributes that are asked for."""
    inner = Tokenizer.from_file(str(folder / "tokenizer.json"))
    config = _json(folder / "tokenizer_config.json")
    special = {name: _text(config.get(name)) for name in ("unk_token", "bos_token", "eos_token", "pad_token")}
    tokenizer = fast()
    tokenizer.is_fast = True
    tokenizer.vocab_files_names = {}
    tokenizer.vocab_size = inner.get_vocab_size(with_added_tokens=False)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokenizer.padding_side = "left"
    tokenizer.clean_up_tokenization_spaces = bool(config.get("clean_up_tokenization_spaces", False))
    tokenizer.added_tokens_decoder = inner.get_added_tokens_decoder()
    tokenizer.get_vocab = inner.get_vocab
    tokenizer.name_or_path = str(folder)
    tokenizer.init_kwargs = config
    tokenizer.chat_template = None
    tokenizer.model_max_length = None
    tokenizer.save_pretrained = lambda to: shutil.copy(folder / "tokenizer.json", Path(to) / "tokenizer.json")
    for name, text in special.items():
        setattr(tokenizer, name, text)
        setattr(tokenizer, f"{name}_id", inner.token_to_id(text) if text else None)
    return tokenizer


@contextlib.contextmanager
def _pretended_transformers() -> Iterator[type]:
    base = type("PreTrainedTokenizerBase", (), {})
    fast = type("PreTrainedTokenizerFast", (base,), {})

    def refuse(requirement: str) -> None:
        raise ImportError(requirement)

    content: dict[str, dict[str, Any]] = {
        "transformers": {"PreTrainedTokenizerBase": base, "PreTrainedTokenizerFast": fast},
        "transformers.convert_slow_tokenizer": {"import_protobuf": refuse},
        "transformers.utils": {},
        "transformers.utils.versions": {"require_version": refuse},
    }
    before = {name: sys.modules.get(name) for name in content}
    for name, attributes in content.items():
        module = types.ModuleType(name)
        vars(module).update(attributes)
        sys.modules[name] = module
    try:
        yield fast
    finally:
        for name, earlier in before.items():
            if earlier is None:
                del sys.modules[name]
            else:
                sys.modules[name] = earlier


def _json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    return document if isinstance(document, dict) else {}


def _text(token: Any) -> str | None:
    """A special token is written as text or as an object with `content`."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None
