"""A Llama-family decoder as an OpenVINO model that its paged-attention pass understands.

The shape of the graph (stateful KV, names of states, mask) is what `ContinuousBatchingPipeline` matches; weights are int8 per
output row with a float16 scale, which halves memory and nearly doubles speed against float16.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import openvino as ov
from openvino import opset13 as op
from openvino.op.util import Variable, VariableInfo

from penstock.engine.convert.config import ModelConfig

Node = Any
MASKED = -65504.0


class Tensors(Protocol):
    """A model's weights by name."""

    def __contains__(self, name: str) -> bool: ...

    def array(self, name: str, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """In float32. Raises InvalidInput if there is no such tensor of that shape."""
        ...


def build_model(config: ModelConfig, weights: Tensors) -> ov.Model:
    """The whole graph; tensors are read one by one, so memory stays near the size of the result."""
    return _Builder(config, weights).build()


class _Builder:
    def __init__(self, config: ModelConfig, weights: Tensors) -> None:
        self.c = config
        self.w = weights
        self.sinks: list[Node] = []

    def build(self) -> ov.Model:
        c = self.c
        ids, attention, positions = (self._input(n) for n in ("input_ids", "attention_mask", "position_ids"))
        beam = self._input("beam_idx", dims=1, kind=np.int32)
        table = self._matrix("model.embed_tokens.weight", (c.vocab_size, c.hidden_size))
        hidden = op.gather(table, op.convert(ids, "i32"), _i32(0))
        cos, sin = self._rope(positions)
        mask = self._mask(ids, attention)
        batch = op.gather(op.shape_of(ids), _i64([0]), _i64(0))
        for number in range(c.layers):
            hidden = self._layer(number, hidden, cos, sin, mask, beam, batch)
        hidden = self._norm(hidden, "model.norm.weight", c.hidden_size)
        head = (
            table
            if c.tied or "lm_head.weight" not in self.w
            else self._matrix("lm_head.weight", (c.vocab_size, c.hidden_size))
        )
        logits = op.result(op.matmul(hidden, head, False, True))
        logits.output(0).get_tensor().set_names({"logits"})
        model = ov.Model([logits], self.sinks, [ids, attention, positions, beam], "penstock")
        model.set_rt_info("int8", "penstock_weights")
        return model

    def _input(self, name: str, dims: int = 2, kind: Any = np.int64) -> Node:
        parameter = op.parameter(ov.PartialShape([-1] * dims), kind, name=name)
        parameter.output(0).get_tensor().set_names({name})
        return parameter

    def _layer(self, i: int, x: Node, cos: Node, sin: Node, mask: Node, beam: Node, batch: Node) -> Node:
        c, at = self.c, f"model.layers.{i}."
        h = self._norm(x, at + "input_layernorm.weight", c.hidden_size)
        q = self._heads(h, at + "self_attn.q_proj", c.heads)
        k = self._heads(h, at + "self_attn.k_proj", c.kv_heads)
        v = self._heads(h, at + "self_attn.v_proj", c.kv_heads)
        if c.qk_norm:
            q = self._norm(q, at + "self_attn.q_norm.weight", c.head_dim)
            k = self._norm(k, at + "self_attn.k_norm.weight", c.head_dim)
        q, k = self._rotate(q, cos, sin), self._rotate(k, cos, sin)
        k = self._state(f"past_key_values.{i}.keypresent.{i}.key", k, beam, batch)
        v = self._state(f"past_key_values.{i}.valuepresent.{i}.value", v, beam, batch)
        if c.heads != c.kv_heads:
            k, v = self._repeat(k), self._repeat(v)
        attended = op.scaled_dot_product_attention(q, k, v, mask, causal=False)
        joined = op.reshape(
            op.transpose(attended, _i32([0, 2, 1, 3])), _i64([0, 0, c.heads * c.head_dim]), True
        )
        size = (c.hidden_size, c.heads * c.head_dim)
        x = op.add(x, self._linear(joined, at + "self_attn.o_proj", size, bias=c.output_bias))
        h = self._norm(x, at + "post_attention_layernorm.weight", c.hidden_size)
        wide, narrow = (c.intermediate_size, c.hidden_size), (c.hidden_size, c.intermediate_size)
        gate = op.swish(self._linear(h, at + "mlp.gate_proj", wide))
        up = self._linear(h, at + "mlp.up_proj", wide)
        return op.add(x, self._linear(op.multiply(gate, up), at + "mlp.down_proj", narrow))

    def _heads(self, x: Node, name: str, count: int) -> Node:
        c = self.c
        flat = self._linear(x, name, (count * c.head_dim, c.hidden_size), bias=c.qkv_bias)
        return op.transpose(op.reshape(flat, _i64([0, 0, count, c.head_dim]), True), _i32([0, 2, 1, 3]))

    def _state(self, name: str, fresh: Node, beam: Node, batch: Node) -> Node:
        """Past keys or values, reordered for beams, with the present ones behind them."""
        c = self.c
        info = VariableInfo()
        info.data_shape = ov.PartialShape([-1, c.kv_heads, -1, c.head_dim])
        info.data_type = ov.Type.f32
        info.variable_id = name
        variable = Variable(info)
        shape = op.concat([batch, _i64([c.kv_heads]), _i64([0]), _i64([c.head_dim])], 0)
        empty = op.broadcast(op.constant(0.0, np.float32), shape)
        past = op.gather(op.read_value(empty, variable), beam, _i32(0))
        whole = op.concat([past, fresh], 2)
        self.sinks.append(op.assign(whole, variable))
        return whole

    def _repeat(self, x: Node) -> Node:
        """Grouped queries: each KV head serves several query heads."""
        c = self.c
        ones = _i64([1, 1, c.heads // c.kv_heads, 1, 1])
        wide = op.broadcast(op.unsqueeze(x, _i32(2)), ones, broadcast_spec="BIDIRECTIONAL")
        return op.reshape(wide, _i64([0, c.heads, -1, c.head_dim]), True)

    def _rotate(self, x: Node, cos: Node, sin: Node) -> Node:
        half = self.c.head_dim // 2
        first = op.slice(x, _i64([0]), _i64([half]), _i64([1]), _i64([3]))
        second = op.slice(x, _i64([half]), _i64([self.c.head_dim]), _i64([1]), _i64([3]))
        turned = op.concat([op.multiply(second, op.constant(-1.0, np.float32)), first], 3)
        return op.add(op.multiply(x, cos), op.multiply(turned, sin))

    def _rope(self, positions: Node) -> tuple[Node, Node]:
        frequencies = op.constant(rope_frequencies(self.c).reshape(1, 1, -1))
        angles = op.matmul(op.convert(op.unsqueeze(positions, _i32(2)), "f32"), frequencies, False, False)
        both = op.unsqueeze(op.concat([angles, angles], 2), _i32(1))
        return op.cos(both), op.sin(both)

    def _mask(self, ids: Node, attention: Node) -> Node:
        """Causal, and only over what the attention mask admits."""
        fresh = op.gather(op.shape_of(ids), _i64(1), _i64(0))
        whole = op.gather(op.shape_of(attention), _i64(1), _i64(0))
        past = op.subtract(whole, fresh)
        rows = op.add(op.range(_i64(0), fresh, _i64(1), "i64"), past)
        columns = op.range(_i64(0), whole, _i64(1), "i64")
        causal = op.less_equal(op.unsqueeze(columns, _i32(0)), op.unsqueeze(rows, _i32(1)))
        admitted = op.equal(op.unsqueeze(op.unsqueeze(attention, _i32(1)), _i32(1)), _i64(1))
        both = op.logical_and(op.unsqueeze(op.unsqueeze(causal, _i32(0)), _i32(0)), admitted)
        return op.select(both, op.constant(0.0, np.float32), op.constant(MASKED, np.float32))

    def _norm(self, x: Node, name: str, size: int) -> Node:
        weight = op.constant(self.w.array(name, (size,)))
        mean = op.reduce_mean(op.power(x, op.constant(2.0, np.float32)), _i32([-1]), True)
        root = op.sqrt(op.add(mean, op.constant(self.c.eps, np.float32)))
        return op.multiply(op.multiply(x, op.divide(op.constant(1.0, np.float32), root)), weight)

    def _linear(self, x: Node, name: str, shape: tuple[int, int], *, bias: bool = False) -> Node:
        product = op.matmul(x, self._matrix(f"{name}.weight", shape), False, True)
        return op.add(product, op.constant(self.w.array(f"{name}.bias", (shape[0],)))) if bias else product

    def _matrix(self, name: str, shape: tuple[int, int]) -> Node:
        array = self.w.array(name, shape)
        scale = np.maximum(np.abs(array).max(axis=1, keepdims=True) / 127.0, 1e-8).astype(np.float16)
        packed = np.clip(np.rint(array / scale.astype(np.float32)), -127, 127).astype(np.int8)
        return op.convert(op.multiply(op.convert(op.constant(packed), "f16"), op.constant(scale)), "f32")


def rope_frequencies(config: ModelConfig) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Inverse frequencies, with Llama 3's stretching of the low ones."""
    half = np.arange(0, config.head_dim, 2, dtype=np.float64)
    frequencies = config.rope_theta ** (-half / config.head_dim)
    if config.rope_scaling:
        s = config.rope_scaling
        factor, low, high = float(s["factor"]), float(s["low_freq_factor"]), float(s["high_freq_factor"])
        original = float(s["original_max_position_embeddings"])
        lengths = 2 * math.pi / frequencies
        smooth = np.clip((original / lengths - low) / (high - low), 0.0, 1.0)
        frequencies = (1 - smooth) * frequencies / factor + smooth * frequencies
    return frequencies.astype(np.float32)


def _i64(value: Any) -> Node:
    return op.constant(np.array(value, dtype=np.int64))


def _i32(value: Any) -> Node:
    return op.constant(np.array(value, dtype=np.int32))
