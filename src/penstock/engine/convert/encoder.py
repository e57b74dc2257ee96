"""A BERT-family encoder as an OpenVINO model from token ids to one vector per text: pooling and scaling are in the graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as op

from penstock.engine.convert.encoder_config import EncoderConfig
from penstock.engine.convert.safetensors import Weights
from penstock.kit.errors import InvalidInput

Node = Any
_PREFIXES = ("", "bert.", "roberta.")
MASKED = -65504.0


def build_encoder(config: EncoderConfig, weights: Weights) -> ov.Model:
    """Inputs `input_ids` and `attention_mask` (both int64 [texts, tokens]), output `embeddings` (float32 [texts, size])."""
    return _Builder(config, weights).build()


class _Builder:
    def __init__(self, config: EncoderConfig, weights: Weights) -> None:
        self.c = config
        self.w = weights
        known = [p for p in _PREFIXES if f"{p}embeddings.word_embeddings.weight" in weights]
        if not known:
            raise InvalidInput(
                "the weights have no tensor 'embeddings.word_embeddings.weight'", code="corrupt_weights"
            )
        self.prefix = known[0]

    def build(self) -> ov.Model:
        ids, mask = (self._input(name) for name in ("input_ids", "attention_mask"))
        hidden = self._embed(ids)
        admitted = op.equal(op.unsqueeze(op.unsqueeze(mask, _i32(1)), _i32(1)), _i64(1))
        bias = op.select(admitted, _f32(0.0), _f32(MASKED))
        for number in range(self.c.layers):
            hidden = self._layer(f"encoder.layer.{number}.", hidden, bias)
        result = op.result(self._pool(hidden, mask))
        result.output(0).get_tensor().set_names({"embeddings"})
        return ov.Model([result], [ids, mask], "penstock-encoder")

    def _input(self, name: str) -> Node:
        parameter = op.parameter(ov.PartialShape([-1, -1]), np.int64, name=name)
        parameter.output(0).get_tensor().set_names({name})
        return parameter

    def _embed(self, ids: Node) -> Node:
        c, at = self.c, "embeddings."
        words = op.gather(
            self._tensor(at + "word_embeddings.weight", (c.vocab_size, c.hidden_size)), ids, _i32(0)
        )
        positions = self._tensor(at + "position_embeddings.weight", (c.positions, c.hidden_size))
        length = op.gather(op.shape_of(ids), _i64(1), _i64(0))
        places = op.add(op.range(_i64(0), length, _i64(1), "i64"), _i64(c.first_position))
        kind = self.w.array(self.prefix + at + "token_type_embeddings.weight", (c.types, c.hidden_size))[:1]
        summed = op.add(op.add(words, op.gather(positions, places, _i32(0))), op.constant(kind))
        return self._norm(summed, at + "LayerNorm")

    def _layer(self, at: str, x: Node, bias: Node) -> Node:
        c, own = self.c, at + "attention.self."
        q, k, v = (self._heads(x, own + name) for name in ("query", "key", "value"))
        attended = op.scaled_dot_product_attention(q, k, v, bias, causal=False)
        joined = op.reshape(op.transpose(attended, _i32([0, 2, 1, 3])), _i64([0, 0, c.hidden_size]), True)
        out = self._linear(joined, at + "attention.output.dense", c.hidden_size, c.hidden_size)
        x = self._norm(op.add(x, out), at + "attention.output.LayerNorm")
        wide = self._linear(x, at + "intermediate.dense", c.intermediate_size, c.hidden_size)
        narrow = self._linear(op.gelu(wide, "ERF"), at + "output.dense", c.hidden_size, c.intermediate_size)
        return self._norm(op.add(x, narrow), at + "output.LayerNorm")

    def _heads(self, x: Node, name: str) -> Node:
        c = self.c
        flat = self._linear(x, name, c.hidden_size, c.hidden_size)
        split = op.reshape(flat, _i64([0, 0, c.heads, c.hidden_size // c.heads]), True)
        return op.transpose(split, _i32([0, 2, 1, 3]))

    def _pool(self, hidden: Node, mask: Node) -> Node:
        if self.c.mean:
            share = op.unsqueeze(op.convert(mask, "f32"), _i32(2))
            pooled = op.divide(
                op.reduce_sum(op.multiply(hidden, share), _i32([1]), False),
                op.reduce_sum(share, _i32([1]), False),
            )
        else:
            pooled = op.gather(hidden, _i64(0), _i64(1))
        return op.normalize_l2(pooled, _i64([1]), 1e-12, "max") if self.c.unit_length else pooled

    def _linear(self, x: Node, name: str, rows: int, columns: int) -> Node:
        product = op.matmul(x, self._tensor(f"{name}.weight", (rows, columns)), False, True)
        return op.add(product, self._tensor(f"{name}.bias", (rows,)))

    def _norm(self, x: Node, name: str) -> Node:
        size = (self.c.hidden_size,)
        scaled = op.mvn(x, _i64([-1]), True, self.c.eps, "inside_sqrt")
        return op.add(
            op.multiply(scaled, self._tensor(f"{name}.weight", size)), self._tensor(f"{name}.bias", size)
        )

    def _tensor(self, name: str, shape: tuple[int, ...]) -> Node:
        return op.constant(self.w.array(self.prefix + name, shape))


def _i64(value: Any) -> Node:
    return op.constant(np.array(value, dtype=np.int64))


def _i32(value: Any) -> Node:
    return op.constant(np.array(value, dtype=np.int32))


def _f32(value: float) -> Node:
    return op.constant(value, np.float32)
