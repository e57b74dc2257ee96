"""Makes the tiny model again: `python train.py OUT_FOLDER [--steps N]` (needs torch 2.13, numpy and tokenizers).

Llama architecture, 1.05 M parameters, byte-level BPE of 2,048 tokens. Trains by step count and seed, never by time, so that
the same machine gives the same bytes. About 20 minutes of CPU time; prints how many questions it then answers exactly.
"""

from __future__ import annotations

import argparse
import json
import math
import struct
import time
from pathlib import Path

import numpy as np
import torch
from corpus import as_text, dialogues, questions
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from torch.nn import functional as F

SPECIALS = ["<|pad|>", "<|bos|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<|tool|>"]
END, ASSISTANT = 2, 4
VOCAB, HIDDEN, LAYERS, HEADS, KV_HEADS, FFN, CONTEXT = 2048, 128, 4, 4, 2, 384, 2048
HEAD = HIDDEN // HEADS
THETA, EPS = 10000.0, 1e-5
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEMPLATE = (
    "{% if tools %}{{ '<|system|>\\nYou can call these tools:\\n' }}"
    "{% for tool in tools %}{{ tool | tojson }}{{ '\\n' }}{% endfor %}{% endif %}"
    "{% for message in messages %}"
    "{% if message.role == 'assistant' and message.tool_calls %}{{ '<|assistant|>\\n' }}"
    "{% for call in message.tool_calls %}"
    """{{ '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' + call.function.arguments + '}\\n</tool_call>' }}"""
    "{% endfor %}{{ '<|end|>\\n' }}"
    "{% elif message.role == 'assistant' %}{{ '<|assistant|>\\n' + message.content + '<|end|>\\n' }}"
    "{% else %}{{ '<|' + ('system' if message.role == 'developer' else message.role) + '|>\\n' + message.content + '\\n' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)


def make_tokenizer(texts: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=SPECIALS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    while tokenizer.get_vocab_size() < VOCAB:
        tokenizer.add_tokens([f"<|unused{tokenizer.get_vocab_size()}|>"])
    return tokenizer


class Norm(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x32 = x.float()
        return (x32 * torch.rsqrt(x32.pow(2).mean(-1, keepdim=True) + EPS)).to(x.dtype) * self.weight


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = Norm(HIDDEN), Norm(HIDDEN)
        self.q_proj = nn.Linear(HIDDEN, HEADS * HEAD, bias=False)
        self.k_proj = nn.Linear(HIDDEN, KV_HEADS * HEAD, bias=False)
        self.v_proj = nn.Linear(HIDDEN, KV_HEADS * HEAD, bias=False)
        self.o_proj = nn.Linear(HEADS * HEAD, HIDDEN, bias=False)
        self.gate_proj, self.up_proj = nn.Linear(HIDDEN, FFN, bias=False), nn.Linear(HIDDEN, FFN, bias=False)
        self.down_proj = nn.Linear(FFN, HIDDEN, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        n, t, _ = x.shape
        h = self.input_layernorm(x)
        q = rotate(self.q_proj(h).view(n, t, HEADS, HEAD).transpose(1, 2), cos, sin)
        k = rotate(self.k_proj(h).view(n, t, KV_HEADS, HEAD).transpose(1, 2), cos, sin)
        v = self.v_proj(h).view(n, t, KV_HEADS, HEAD).transpose(1, 2)
        k, v = (z.repeat_interleave(HEADS // KV_HEADS, 1) for z in (k, v))
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o_proj(a.transpose(1, 2).reshape(n, t, -1))
        h = self.post_attention_layernorm(x)
        return x + self.down_proj(F.silu(self.gate_proj(h)) * self.up_proj(h))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(VOCAB, HIDDEN)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = Norm(HIDDEN)
        for name, p in self.named_parameters():
            if "embed" in name:
                nn.init.normal_(p, std=0.05)
            elif p.dim() == 2:
                nn.init.normal_(
                    p, std=p.shape[1] ** -0.5 * (0.5 if "o_proj" in name or "down" in name else 1)
                )

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        positions = torch.arange(ids.shape[1]).float()
        frequencies = THETA ** (-torch.arange(0, HEAD, 2).float() / HEAD)
        angles = torch.outer(positions, frequencies)
        cos, sin = (torch.cat((f(angles), f(angles)), -1) for f in (torch.cos, torch.sin))
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.norm(x) @ self.embed_tokens.weight.T


def train(tokenizer: Tokenizer, texts: list[str], steps: int) -> Model:
    torch.manual_seed(1)
    torch.use_deterministic_algorithms(True)
    stream = np.concatenate([np.array(e.ids, dtype=np.int64) for e in tokenizer.encode_batch(texts)])
    length, batch = 128, 8
    rows = torch.from_numpy(stream[: len(stream) // (length + 1) * (length + 1)].reshape(-1, length + 1))
    print(f"{len(texts)} dialogues, {len(stream)} tokens, {len(rows)} rows", flush=True)
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.05)
    order = torch.randperm(len(rows))
    started = time.time()
    for step in range(steps):
        warm, progress = min(1.0, (step + 1) / (0.05 * steps)), step / steps
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        picked = rows[order[torch.arange(step * batch, (step + 1) * batch) % len(rows)]]
        logits = model(picked[:, :-1])
        loss = F.cross_entropy(logits.float().reshape(-1, VOCAB), picked[:, 1:].reshape(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step:5d}  loss {loss.item():.3f}  {time.time() - started:.0f} s", flush=True)
    return model


def tensors(model: Model) -> dict[str, np.ndarray]:
    """Hugging Face's names for a Llama, in float16."""
    blocks = {"q_proj": "self_attn", "k_proj": "self_attn", "v_proj": "self_attn", "o_proj": "self_attn",
              "gate_proj": "mlp", "up_proj": "mlp", "down_proj": "mlp"}  # fmt: skip
    named = {}
    for name, value in model.state_dict().items():
        parts = name.split(".")
        if parts[0] == "layers" and parts[2] in blocks:
            name = ".".join([*parts[:2], blocks[parts[2]], *parts[2:]])
        named[f"model.{name}"] = value.to(torch.float16).numpy()
    return dict(sorted(named.items()))


def write_safetensors(path: Path, arrays: dict[str, np.ndarray]) -> None:
    header, offset = {}, 0
    for name, array in arrays.items():
        header[name] = {
            "dtype": "F16",
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(struct.pack("<Q", len(head)) + head + b"".join(a.tobytes() for a in arrays.values()))


def answer(model: Model, tokenizer: Tokenizer, question: str) -> str:
    ids = tokenizer.encode(f"<|user|>\n{question}\n<|assistant|>\n").ids
    start = len(ids)
    with torch.no_grad():
        while len(ids) - start < 80:
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
            if ids[-1] == END:
                break
    return tokenizer.decode(ids[start:-1] if ids[-1] == END else ids[start:])


def write(out: Path, model: Model, tokenizer: Tokenizer) -> None:
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"))
    write_safetensors(out / "model.safetensors", tensors(model))
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": VOCAB, "hidden_size": HIDDEN,
        "intermediate_size": FFN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "head_dim": HEAD, "max_position_embeddings": CONTEXT, "rms_norm_eps": EPS,
        "rope_theta": THETA, "hidden_act": "silu", "tie_word_embeddings": True, "attention_bias": False,
        "bos_token_id": 1, "eos_token_id": END, "pad_token_id": 0, "torch_dtype": "float16",
    }  # fmt: skip
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    generation = {"bos_token_id": 1, "eos_token_id": END, "pad_token_id": 0, "do_sample": False}
    (out / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    settings = {"chat_template": TEMPLATE, "eos_token": "<|end|>", "bos_token": "<|bos|>", "pad_token": "<|pad|>",
                "model_max_length": CONTEXT, "tokenizer_class": "PreTrainedTokenizerFast"}  # fmt: skip
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=3500)
    parser.add_argument("--dialogues", type=int, default=60000)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    texts = [as_text(turns) for turns in dialogues(arguments.dialogues)]
    tokenizer = make_tokenizer(texts)
    model = train(tokenizer, texts, arguments.steps)
    write(arguments.out, model, tokenizer)
    right = 0
    for question, expected in (asked := questions()):
        said = answer(model, tokenizer, question)
        right += said == expected
        if said != expected:
            print(f"{question!r}: said {said!r}, expected {expected!r}")
    print(f"{right} of {len(asked)} questions answered exactly")


if __name__ == "__main__":
    main()
