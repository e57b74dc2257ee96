"""Shapes of models from the beginnings of their files: folders here, web servers, a Hub, an S3 store; and files that lie."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from file_server import FileServer, file_server
from hub_server import Hub, hub_server
from penstock.app import model_headers
from penstock.app.model_headers import read_headers
from penstock.decide.kv_bytes import token_bytes
from penstock.decide.model_shape import Layers, Weights
from penstock.kit.errors import Forbidden, InvalidInput, NotFound, PlatformError, TooLarge, Unavailable
from s3_server import s3_server

CONFIG = json.dumps(
    {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 256, "num_hidden_layers": 4,
     "num_attention_heads": 8, "num_key_value_heads": 2, "intermediate_size": 512, "vocab_size": 1000}
).encode()  # fmt: skip
KV_BYTES = 4 * 2 * 2 * 32 * 2
LINEAR, TABLE = 256 * 256 * 2, 1000 * 256 * 2


def safetensors(**shapes: tuple[int, ...]) -> bytes:
    """As a file would be, of F16 zeros."""
    described, end = {}, 0
    for name, shape in shapes.items():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        described[name.replace("__", ".")] = {
            "dtype": "F16",
            "shape": shape,
            "data_offsets": [end, end + size],
        }
        end += size
    head = json.dumps(described).encode()
    return struct.pack("<Q", len(head)) + head + bytes(end)


ONE = safetensors(layers__0__w=(256, 256), embed_tokens=(1000, 256))
TWO = safetensors(layers__1__w=(256, 256))
INDEX = json.dumps(
    {"metadata": {"total_size": 1}, "weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}
).encode()
SHARDED = {
    "config.json": CONFIG,
    "model.safetensors.index.json": INDEX,
    "m-1.safetensors": ONE,
    "m-2.safetensors": TWO,
}


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def gguf(*, tokens: int = 4) -> bytes:
    numbers = {
        "llama.block_count": 4,
        "llama.embedding_length": 256,
        "llama.attention.head_count": 8,
        "llama.attention.head_count_kv": 2,
    }
    head = (
        struct.pack("<4sIQQ", b"GGUF", 3, 1, 2 + len(numbers))
        + string("general.architecture")
        + struct.pack("<I", 8)
        + string("llama")
    )
    head += b"".join(string(key) + struct.pack("<II", 4, value) for key, value in numbers.items())
    head += string("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, tokens) + string("token") * tokens
    return head + string("blk.0.w") + struct.pack("<IQQIQ", 2, 256, 256, 12, 0) + bytes(256 * 144)


def put(folder: Path, **files: bytes) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def check_sharded(found: model_headers.Headers) -> None:
    assert found.files == ("m-1.safetensors", "m-2.safetensors")
    assert found.shape.weights == (
        Weights(dtype="F16", size_bytes=TABLE),
        Weights(dtype="F16", size_bytes=2 * LINEAR, is_linear=True),
    )
    assert token_bytes(found.shape) == KV_BYTES and found.shape.architecture == "LlamaForCausalLM"


@pytest.fixture
def web() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_server() as running:
        yield running


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_folder_counts_the_files_that_its_index_names(tmp_path: Path, form: str) -> None:
    put(tmp_path, **SHARDED, **{"consolidated.safetensors": ONE, "optimizer.bin": b"x"})
    check_sharded(read_headers(form.format(tmp_path), {}))


def test_without_an_index_the_model_itself_counts_and_no_second_copy_of_it(tmp_path: Path) -> None:
    put(
        tmp_path,
        **{
            "config.json": CONFIG,
            "model.safetensors": ONE,
            "consolidated.safetensors": ONE,
            "sub/x.safetensors": TWO,
        },
    )
    assert read_headers(str(tmp_path), {}).files == ("model.safetensors",)


def test_a_pipeline_of_parts_is_all_of_them(tmp_path: Path) -> None:
    put(tmp_path, **{"unet/d.safetensors": ONE, "vae/d.safetensors": TWO})
    found = read_headers(str(tmp_path), {})
    assert found.shape.weight_bytes == 2 * LINEAR + TABLE
    assert found.shape.notes == ("there is no config.json: only weights are counted",)


def test_a_file_that_is_named_is_read_with_the_config_beside_it(tmp_path: Path) -> None:
    put(tmp_path, **SHARDED)
    found = read_headers(str(tmp_path / "m-2.safetensors"), {})
    assert found.files == ("m-2.safetensors",) and token_bytes(found.shape) == KV_BYTES


def test_a_header_longer_than_the_first_read_is_read_on(tmp_path: Path) -> None:
    content = safetensors(**{f"layers__{number}__weight": (2, 2) for number in range(2000)})
    assert struct.unpack("<Q", content[:8])[0] > model_headers.FIRST_BYTES
    put(tmp_path, **{"model.safetensors": content})
    assert read_headers(str(tmp_path), {}).shape.weight_bytes == 2000 * 8


def test_gguf_says_all_in_one_file_also_with_a_long_head(tmp_path: Path) -> None:
    content = gguf(tokens=150_000)
    assert len(content) > model_headers.FIRST_GGUF_BYTES
    put(tmp_path, **{"m.gguf": content})
    shape = read_headers(str(tmp_path), {}).shape
    assert token_bytes(shape) == KV_BYTES and shape.vocabulary == 150_000
    assert shape.weights == (Weights(dtype="Q4_K", size_bytes=256 * 144, is_linear=True),)


def test_several_quantisations_ask_which_and_parts_of_one_are_added(tmp_path: Path) -> None:
    put(tmp_path, **{"m-Q4.gguf": gguf(), "m-Q8.gguf": gguf()})
    with pytest.raises(InvalidInput, match=r"found 2 models: m-Q4\.gguf, m-Q8\.gguf") as refused:
        read_headers(str(tmp_path), {})
    assert "--file" in refused.value.hint
    assert read_headers(str(tmp_path), {}, file="Q4").files == ("m-Q4.gguf",)
    parts = put(tmp_path / "parts", **{"m-00001-of-00002.gguf": gguf(), "m-00002-of-00002.gguf": gguf()})
    assert read_headers(str(parts), {}).shape.weight_bytes == 2 * 256 * 144


def test_openvino_counts_the_graph_and_not_its_tokenizer(tmp_path: Path) -> None:
    states = "".join(
        f'<data variable_id="past_key_values.{layer}.{part}present.{layer}.{part}" variable_type="f32" variable_shape="?,2,?,32" />'
        for layer in range(4) for part in ("key", "value")
    )  # fmt: skip
    names = {
        "openvino_model.xml": states.encode(),
        "openvino_model.bin": bytes(5000),
        "openvino_tokenizer.xml": b"",
        "openvino_tokenizer.bin": b"x",
    }
    found = read_headers(str(put(tmp_path, **names)), {})
    assert found.shape.layers == (Layers(count=4, kv_heads=2, key_dim=32, value_dim=32),)
    assert found.shape.weights == (Weights(dtype="IR", size_bytes=5000),)


def test_pickled_weights_count_by_their_size_and_it_is_said(tmp_path: Path) -> None:
    put(
        tmp_path,
        **{"config.json": CONFIG, "pytorch_model.bin": b"\x80\x04not a pickle", "training_args.bin": b"y"},
    )
    found = read_headers(str(tmp_path), {})
    assert found.shape.weights == (Weights(dtype="unknown", size_bytes=14),)
    assert found.shape.notes == ("1 file counted by the size alone, of formats that are not looked into",)


def test_a_config_alone_is_enough_for_an_estimate_and_it_is_said(tmp_path: Path) -> None:
    found = read_headers(str(put(tmp_path, **{"config.json": CONFIG})), {})
    assert found.shape.weight_bytes > 2 * TABLE and "estimated from config.json" in found.shape.notes[0]


@pytest.mark.parametrize("ranges", [True, False])
def test_of_a_hub_only_heads_are_read(hub: Hub, ranges: bool) -> None:
    large = safetensors(layers__0__w=(4000, 1000))
    hub.files = {"config.json": CONFIG, "model.safetensors": large, "pytorch_model.bin": b"pickle"}
    hub.ranges = ranges
    found = read_headers("hf://owner/bert", {"HF_ENDPOINT": hub.endpoint})
    assert found.files == ("model.safetensors",) and found.shape.weight_bytes == 8_000_000
    assert token_bytes(found.shape) == KV_BYTES
    if ranges:
        assert hub.served_bytes < 100_000


def test_what_the_hub_refuses_is_told_with_the_models_name(hub: Hub) -> None:
    hub.refusals = {"/api/": (403, "GatedRepo")}
    with pytest.raises(Forbidden, match="hf://owner/bert: access is gated"):
        read_headers("hf://owner/bert", {"HF_ENDPOINT": hub.endpoint})


def test_a_web_server_is_asked_for_what_lies_beside_the_file(web: FileServer) -> None:
    web.files = {f"/m/{name}": content for name, content in SHARDED.items()}
    check_sharded(read_headers(web.uri("/m/config.json"), {}))
    check_sharded(read_headers(web.uri("/m/model.safetensors.index.json?signature=x"), {}))
    found = read_headers(web.uri("/m/m-2.safetensors"), {})
    assert found.files == ("m-2.safetensors",) and token_bytes(found.shape) == KV_BYTES


def test_a_gguf_behind_a_web_server_needs_nothing_beside_it(web: FileServer) -> None:
    web.files = {"/m.gguf": gguf()}
    web.sizes = False
    assert token_bytes(read_headers(web.uri("/m.gguf"), {}).shape) == KV_BYTES


def test_an_index_cannot_lead_out_of_its_folder(web: FileServer) -> None:
    index = json.dumps({"weight_map": {"a": "../../secret.safetensors"}}).encode()
    web.files = {
        "/a/m/config.json": CONFIG,
        "/a/m/model.safetensors.index.json": index,
        "/secret.safetensors": ONE,
    }
    with pytest.raises(NotFound, match="named by model"):
        read_headers(web.uri("/a/m/config.json"), {})


def test_an_s3_store_is_read_by_ranges() -> None:
    with s3_server("bkt") as there:
        for name, content in SHARDED.items():
            there.client.put_object(Bucket="bkt", Key=f"models/m/{name}", Body=content)
        environ = {
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_ENDPOINT_URL": there.endpoint,
        }
        check_sharded(read_headers("s3://bkt/models/m", environ))


@pytest.mark.parametrize(
    ("files", "kind", "says"),
    [
        ({"README.md": b"x"}, NotFound, "found no weights among 1 files"),
        ({"config.json": b"{"}, InvalidInput, "config.json is not JSON"),
        ({"config.json": b"[]"}, InvalidInput, "config.json is not a JSON object"),
        ({"config.json": b"[" * 50_000}, InvalidInput, "config.json is not JSON"),
        ({"model.safetensors": b"abc"}, InvalidInput, "model.safetensors is damaged"),
        ({"model.safetensors": ONE[:40]}, InvalidInput, "ends within its header"),
        ({"model.safetensors": ONE[:-1]}, InvalidInput, "its header says"),
        (
            {"model.safetensors": struct.pack("<Q", 1 << 62) + b"{}"},
            InvalidInput,
            "cannot be 4611686018427387904 bytes long",
        ),
        ({"model.safetensors": struct.pack("<Q", 40 << 20) + b"{}"}, TooLarge, "found a header of 40 MiB"),
        ({"m.gguf": gguf()[:100]}, InvalidInput, "its head does not end within 100 bytes"),
        ({"m.gguf": b"GGML" + bytes(100)}, InvalidInput, "begins with b'GGML'"),
        ({"model.safetensors.index.json": b'{"weight_map": 3}'}, InvalidInput, "is not a weight index"),
        (
            {"model.safetensors.index.json": INDEX, "m-1.safetensors": ONE},
            NotFound,
            "m-2.safetensors: named by",
        ),
        ({"config.json": b" " * ((4 << 20) + 1)}, TooLarge, "config.json: found more than 4 MiB"),
    ],
)
def test_files_that_lie_are_refused_by_name(
    tmp_path: Path, files: dict[str, bytes], kind: type[PlatformError], says: str
) -> None:
    with pytest.raises(kind, match=says):
        read_headers(str(put(tmp_path, **files)), {})


def test_headers_are_bounded_also_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_headers, "MAX_HEADS_BYTES", 100)
    with pytest.raises(TooLarge, match="of headers"):
        read_headers(str(put(tmp_path, **SHARDED)), {})


def test_what_is_not_there_says_how_to_name_a_model_of_the_hub() -> None:
    with pytest.raises(NotFound) as refused:
        read_headers("owner/model", {})
    assert refused.value.hint == "for a model of the Hub: hf://owner/model"
    with pytest.raises(InvalidInput, match="has no known scheme"):
        read_headers("ftp://host/m", {})


def test_a_file_that_changes_meanwhile_is_told(web: FileServer) -> None:
    web.files = {"/m.gguf": gguf(tokens=150_000)}
    web.pause = lambda sent: web.files.update({"/m.gguf": gguf(tokens=150_001)})
    with pytest.raises(Unavailable, match="changed while it was read"):
        read_headers(web.uri("/m.gguf"), {})
