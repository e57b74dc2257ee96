"""`penstock fit` as a user meets it: answers, ways out, mistakes, and what it learned."""

import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from file_server import file_server
from penstock.cli.main import main

CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256,
    "max_position_embeddings": 131072, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip
LOG = """\
INFO api_server.py vLLM API server version 0.21.0
INFO model_runner.py Model loading took 15.10 GiB memory and 3.2 seconds
INFO gpu_worker.py Available KV cache memory: {} GiB
"""


class Done(NamedTuple):
    code: int
    out: str
    error: str


class Penstock:
    """The command, with a data folder of its own."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, output: pytest.CaptureFixture[str]) -> None:
        self._patch, self._output = patch, output
        patch.setenv("PENSTOCK_HOME", str(folder / "home"))
        self.model = folder / "llama"
        self.model.mkdir()
        (self.model / "config.json").write_text(json.dumps(CONFIG))

    def fit(self, *arguments: str) -> Done:
        self._patch.setattr(sys, "argv", ["penstock", "fit", str(self.model), *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return Done(int(ended.value.code or 0), *self._output.readouterr())

    def certificate(self, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.fit(*arguments, "-o", "json").out)["certificates"][0]
        return found


@pytest.fixture
def penstock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Penstock:
    return Penstock(tmp_path, monkeypatch, capfd)


def test_a_certificate_shows_the_inequality_and_what_to_tell_vllm(penstock: Penstock) -> None:
    done = penstock.fit("--gpu", "H100", "--concurrency", "32", "--context", "8192")
    assert done.code == 0 and done.error == ""
    assert re.search(r"^weights +14\.96 +as loaded$", done.out, re.MULTILINE)
    assert re.search(r"^kv cache +32\.00 +32 requests of 8192 tokens$", done.out, re.MULTILINE)
    assert (
        "\nfits: 14.96 weights + 32.00 kv cache + 0.91 activations + 0.70 engine = 48.57 <= 72.7" in done.out
    )
    assert "--kv-cache-memory-bytes=34359738368" in done.out
    assert done.out.endswith(
        "accuracy: no observations yet: the estimate is uncorrected, and its error is not known\n"
    )


def test_what_does_not_fit_ends_with_1_and_ways_out(penstock: Penstock) -> None:
    done = penstock.fit("--gpu", "l4")
    assert done.code == 1 and "DOES NOT FIT" in done.out
    assert "  - shorten the context to 1088 tokens\n  - serve 4 requests at once\n" in done.out
    assert "  - take a h100-80gb" in done.out


def test_without_a_gpu_there_is_a_line_for_each_type(penstock: Penstock) -> None:
    done = penstock.fit()
    rows = {
        line.split()[0]: line.split()[2]
        for line in done.out.splitlines()
        if re.match(r"[a-z0-9-]+ +\d", line)
    }
    assert rows["l4"] == "no" and rows["h100-80gb"] == rows["h200-141gb"] == "yes" and len(rows) > 20


def test_as_json_everything_is_said_in_bytes(penstock: Penstock) -> None:
    found = penstock.certificate(
        "--gpu", "40Gi", "--tensor-parallel", "2", "--kv-dtype", "fp8", "--quantization", "fp8"
    )
    terms = {term["name"]: term["size_bytes"] for term in found["terms"]}
    assert terms["kv cache"] == 8 << 30 and found["need_bytes"] == sum(terms.values())
    assert found["device"] == {"name": "40Gi", "memory_bytes": 40 << 30, "can_fp8": True}
    assert found["fits"] and found["kv_token_bytes"] == 32 * 1024
    assert "--tensor-parallel-size=2" in found["arguments"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--gpu", "h1oo"), "there is no type of GPU 'h1oo'"),
        (("--gpu", "a100"), "may be a100-40gb or a100-80gb"),
        (("--engine", "vlm"), "did you mean vllm?"),
        (("--kv-dtype", "fp9"), "did you mean fp8?"),
        (("--quantization", "fpx"), "expected one of fp8, int8"),
        (("-o", "yaml"), "expected one of table, json"),
        (("--engine-version", "new"), "expected one such as 0.21.0"),
        (("--learn-from", "nothing.log"), "expected --gpu"),
        (("--learn-from", "nothing.log", "--gpu", "l4"), "there is no such file"),
    ],
)
def test_a_mistake_is_told_by_its_option_without_a_traceback(
    penstock: Penstock, arguments: tuple[str, ...], says: str
) -> None:
    done = penstock.fit(*arguments)
    assert done.code in (3, 5) and says in done.error and "Traceback" not in done.error and done.out == ""


def test_an_engine_that_runs_corrects_later_estimates(penstock: Penstock, tmp_path: Path) -> None:
    log = tmp_path / "vllm.log"
    log.write_text(LOG.format("53.00"))
    done = penstock.fit("--gpu", "h100", "--learn-from", str(log))
    taken = 0.92 * 79.084 - 53.0
    assert (
        f"learned: beside its KV cache the engine took {taken:.2f} GiB, predicted 20.42"
        in done.error.replace("\n", " ")
    )
    assert "weights 15.10, predicted 14.96" in done.error.replace("\n", " ")
    assert (
        "accuracy: learned from 1 run (this model with vllm on h100-80gb): uncorrected estimates were off by 3.2 %"
        in done.out
    )
    assert "- 0.5" in done.out
    elsewhere = penstock.fit("--gpu", "h200")
    assert "no observations yet" in elsewhere.out


def test_metrics_of_a_running_engine_teach_as_well(penstock: Penstock) -> None:
    metrics = (
        'vllm:cache_config_info{block_size="16",gpu_memory_utilization="0.9",num_gpu_blocks="25000"} 1.0\n'
    )
    with file_server() as server:
        server.files["/metrics"] = metrics.encode()
        done = penstock.fit("--gpu", "h100", "--learn-from", server.uri("/metrics"))
    taken = 0.9 * 79.084 - 25000 * 16 * 128 * 1024 / 2**30
    assert f"the engine took {taken:.2f} GiB" in done.error.replace("\n", " ")


def test_a_log_that_does_not_say_enough_teaches_nothing(penstock: Penstock, tmp_path: Path) -> None:
    log = tmp_path / "vllm.log"
    log.write_text("INFO hello\n")
    done = penstock.fit("--gpu", "h100", "--learn-from", str(log))
    assert done.code == 5 and "does not say how large the KV cache is" in done.error
    assert "no observations yet" in penstock.fit("--gpu", "h100").out
