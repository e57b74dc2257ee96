"""Whether a JSON schema can be made into a grammar: it is compiled as the pipeline does it, over a model of one small layer.

The library shows its compiler only within a step of a pipeline. A step that fails is followed by one that drops the request,
which suffices here, where there is no other.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai as genai

from penstock.engine.convert.config import ModelConfig
from penstock.engine.convert.graph import build_model

SIZE = 32
"""Of everything in the small model but its vocabulary; the least that the paged-attention pass takes."""


class GrammarTrial:
    """The pipeline; `tokenizer` is openvino_genai's."""

    def __init__(self, tokenizer: Any) -> None:
        scheduler = genai.SchedulerConfig()
        scheduler.num_kv_blocks, scheduler.max_num_batched_tokens, scheduler.max_num_seqs = 2, 16, 2
        with tempfile.TemporaryDirectory() as folder:
            ov.save_model(_small_model(len(tokenizer.get_vocab())), Path(folder, "openvino_model.xml"))
            self._pipeline = genai.ContinuousBatchingPipeline(
                folder, tokenizer, scheduler, "CPU", INFERENCE_NUM_THREADS=1
            )
        self._number = 0

    def fault(self, schema: str) -> str:
        """Why it cannot be followed, in the compiler's words; empty if it can."""
        config = genai.GenerationConfig(max_new_tokens=1)
        config.structured_output_config = genai.StructuredOutputConfig(json_schema=schema)
        self._number += 1
        handle = self._pipeline.add_request(self._number, ov.Tensor(np.zeros((1, 1), dtype=np.int64)), config)
        try:
            self._pipeline.step()
        except RuntimeError as error:
            handle.cancel()
            self._pipeline.step()
            return str(error).strip().splitlines()[-1].rpartition(": ")[2] or "the compiler does not say why"
        return ""


class _Ones:
    """Weights of any shape: what the small model says does not matter."""

    def __contains__(self, name: str) -> bool:
        return True

    def array(self, name: str, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.ones(shape, dtype=np.float32)


def _small_model(vocab_size: int) -> ov.Model:
    config = ModelConfig(
        architecture="LlamaForCausalLM",
        vocab_size=vocab_size,
        hidden_size=SIZE,
        intermediate_size=SIZE,
        layers=1,
        heads=1,
        kv_heads=1,
        head_dim=SIZE,
        context_tokens=SIZE,
        eps=1e-6,
        rope_theta=1e4,
        rope_scaling=None,
        tied=True,
        qkv_bias=False,
        output_bias=False,
        qk_norm=False,
    )
    return build_model(config, _Ones())
