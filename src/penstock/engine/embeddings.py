"""OpenAI's embeddings, for models of the BERT family: one process, the graph runs in a thread and releases the interpreter."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from penstock.engine.convert.cache import loadable_encoder
from penstock.engine.convert.encoder_config import read_encoder
from penstock.engine.http import Exchange
from penstock.engine.metrics import Metrics
from penstock.engine.surface import Surface, model_object
from penstock.engine.wishes import read_object, wrong
from penstock.kit.errors import InvalidInput

MAX_TEXTS = 2048
BATCH_TEXTS = 32
Vectors = np.ndarray[Any, np.dtype[np.float32]]


class Embedder:
    """The model. Texts of similar length are computed together, so that little is padded."""

    def __init__(self, folder: Path, cache: Path, threads: int) -> None:
        """Converts the model if that was not done before. Raises PlatformError with what is wrong with it."""
        import openvino as ov  # noqa: PLC0415  after telemetry was silenced

        config = read_encoder(folder)
        self.context_tokens = config.context_tokens
        self.vocabulary = config.vocab_size
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
        path = loadable_encoder(folder, cache) / "openvino_model.xml"
        self._model = ov.Core().compile_model(str(path), "CPU", options)

    def embed(self, texts: list[list[int]]) -> Vectors:
        """One row for each text's tokens."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        rows: list[Vectors] = [np.empty(0, np.float32)] * len(texts)
        for start in range(0, len(order), BATCH_TEXTS):
            chosen = order[start : start + BATCH_TEXTS]
            longest = max(len(texts[i]) for i in chosen)
            ids = np.zeros((len(chosen), longest), np.int64)
            mask = np.zeros_like(ids)
            for row, i in enumerate(chosen):
                ids[row, : len(texts[i])] = texts[i]
                mask[row, : len(texts[i])] = 1
            found = self._model({"input_ids": ids, "attention_mask": mask})[0]
            for row, i in enumerate(chosen):
                rows[i] = found[row]
        return np.stack(rows)


class EmbeddingApi(Surface):
    """Answers exchanges."""

    def __init__(self, embedder: Embedder, metrics: Metrics, model: str, created: int) -> None:
        """`created` is Unix time, for the model's object."""
        super().__init__(model_object(model, created), metrics)
        self._embedder = embedder
        self._turn = asyncio.Semaphore(1)
        self._waiting = 0

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one. Raises PlatformError for what is refused."""
        path = exchange.path.removeprefix("/openai")
        match (exchange.method, path):
            case ("POST", "/v1/embeddings"):
                await self._embed(exchange)
            case ("POST", "/v1/chat/completions" | "/v1/completions"):
                raise InvalidInput(
                    f"{self.model['id']} makes embeddings and generates no text",
                    code="unsupported_operation",
                    hint="ask /v1/embeddings, or serve a model that generates",
                )
            case _:
                self.answer(exchange, path)

    async def _embed(self, exchange: Exchange) -> None:
        body = read_object(exchange.body)
        form = body.get("encoding_format", "float")
        if form not in ("float", "base64"):
            raise wrong("encoding_format", form, "float or base64")
        if body.get("dimensions") is not None:
            raise wrong(
                "dimensions", body["dimensions"], "nothing: this model has one size", "unsupported_parameter"
            )
        texts = self._texts(body.get("input"))
        self.metrics.load(1, self._waiting, 0.0)
        self._waiting += 1
        try:
            async with self._turn:
                vectors = await asyncio.to_thread(self._embedder.embed, texts)
        finally:
            self._waiting -= 1
            self.metrics.load(int(self._waiting > 0), max(0, self._waiting - 1), 0.0)
        tokens = sum(map(len, texts))
        self.metrics.prompt_tokens.inc(tokens)
        self.metrics.finished("stop")
        data = [
            {"object": "embedding", "index": i, "embedding": _shown(v, form)} for i, v in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        exchange.send(200, {"object": "list", "data": data, "model": self.model["id"], "usage": usage})

    def _texts(self, given: Any) -> list[list[int]]:
        """Token ids of each input: a text, texts, ids, or lists of ids."""
        many = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
        if given in (None, "", []) or len(many) > MAX_TEXTS:
            raise wrong(
                "input", "nothing" if not given else len(many), f"1 to {MAX_TEXTS} texts, none of them empty"
            )
        return [self._ids(one, index) for index, one in enumerate(many)]

    def _ids(self, text: Any, index: int) -> list[int]:
        if isinstance(text, str) and text:
            ids: list[int] = self._embedder.tokenizer.encode(text).ids
        elif isinstance(text, list) and text and all(_is_id(n, self._embedder.vocabulary) for n in text):
            ids = text
        else:
            raise wrong(f"input[{index}]", text, f"a text, or token ids below {self._embedder.vocabulary}")
        limit = self._embedder.context_tokens
        if len(ids) > limit:
            raise InvalidInput(
                f"input[{index}]: found {len(ids)} tokens, expected at most {limit}",
                code="context_length_exceeded",
                hint="split the text",
            )
        return ids


def _is_id(value: Any, vocabulary: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < vocabulary


def _shown(vector: Vectors, form: str) -> list[float] | str:
    """Base64 of little-endian float32 is what the official client asks for by default."""
    if form == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(x) for x in vector]
