"""The shape of a model from the beginnings of its files, wherever they are: nothing is downloaded, and nothing unpickled.

Of safetensors the header is read, of GGUF the metadata, of OpenVINO IR the .xml, and config.json whole. Weights in other formats count
by their files' sizes. Every read has a bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from penstock.app.model_files import ModelFiles, open_files
from penstock.decide.gguf_shape import shape_of_gguf, weights_of_gguf
from penstock.decide.model_config import shape_of
from penstock.decide.model_shape import Layers, ModelShape, Weights, added
from penstock.decide.model_size import weights_of
from penstock.decide.openvino_shape import layers_of_ir
from penstock.decide.safetensors_weights import weights_of_tensors
from penstock.kit import gguf, safetensors
from penstock.kit.errors import InvalidInput, NotFound, TooLarge

CONFIG, INDEX = "config.json", "model.safetensors.index.json"
MAX_CONFIG_BYTES = 4 << 20
MAX_INDEX_BYTES = 64 << 20
MAX_XML_BYTES = 64 << 20
MAX_SHARDS = 1024
MAX_HEAD_BYTES, MAX_HEADS_BYTES = 32 << 20, 256 << 20
"""Of one file of safetensors, and of all: the largest models have some 20 MiB in all."""
PARALLEL_HEADS = 8
FIRST_BYTES = 64 << 10
FIRST_GGUF_BYTES = 1 << 20
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".ot", ".onnx", ".pkl", ".joblib", ".nemo")
BY_SIZE = "{} counted by the size alone, of formats that are not looked into"
HINT = "a model folder holds config.json and *.safetensors, one *.gguf, or OpenVINO IR"


class Headers(NamedTuple):
    """What was found: the shape, and the files that were counted."""

    shape: ModelShape
    files: tuple[str, ...]


def read_headers(model: str, environ: Mapping[str, str], *, file: str = "") -> Headers:
    """Of a folder, a file, or a URI of any source. `file` is part of the name of the one that is meant, where there are several models.

    Raises what sources raise; InvalidInput, NotFound and TooLarge, naming the file, for what is there but no model.
    """
    files = open_files(model, environ)
    found = _gguf(files, file) or _safetensors(files, file) or _openvino(files) or _by_size(files)
    if found is None:
        config = _config(files)
        if config is None:
            raise NotFound(
                f"found no weights among {len(files.sizes)} files, and no {CONFIG}",
                code="missing_weights",
                hint=HINT,
            )
        note = "there are no weights: their size is estimated from config.json"
        shape = shape_of(config)
        found = Headers(replace(shape, weights=weights_of(config), notes=(*shape.notes, note)), (CONFIG,))
    return found


def _config(files: ModelFiles) -> dict[str, Any] | None:
    if CONFIG not in files.sizes:
        return None
    return _document(files, CONFIG, MAX_CONFIG_BYTES)


def _document(files: ModelFiles, name: str, most: int) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(_whole(files, name, most))
    except (msgspec.DecodeError, RecursionError):
        raise InvalidInput(f"{name} is not JSON", code="corrupt_config") from None
    if not isinstance(document, dict):
        raise InvalidInput(f"{name} is not a JSON object", code="corrupt_config")
    return document


def _whole(files: ModelFiles, name: str, most: int) -> bytes:
    content = files.read(name, 0, most + 1)
    if len(content) > most:
        raise TooLarge(f"{name}: found more than {most >> 20} MiB")
    return content


def _shape(files: ModelFiles) -> ModelShape:
    config = _config(files)
    if config is not None:
        return shape_of(config)
    return ModelShape(notes=(f"there is no {CONFIG}: only weights are counted",))


def _safetensors(files: ModelFiles, wanted: str) -> Headers | None:
    names = _weight_files(files, wanted)
    if not names:
        return None
    parts: list[Weights] = []
    left = MAX_HEADS_BYTES
    with ThreadPoolExecutor(PARALLEL_HEADS) as pool:
        for first in range(0, len(names), PARALLEL_HEADS):
            for length, weights in pool.map(
                lambda name: _head(files, name), names[first : first + PARALLEL_HEADS]
            ):
                parts += weights
                left -= length
            if left < 0:
                raise TooLarge(f"found more than {MAX_HEADS_BYTES >> 20} MiB of headers")
    return Headers(replace(_shape(files), weights=added(parts)), names)


def _weight_files(files: ModelFiles, wanted: str) -> tuple[str, ...]:
    """Those that an engine would load: as the index says, else beside config.json, else (pipelines of parts) below it."""
    all_names = sorted(name for name in files.sizes if name.endswith(".safetensors") and wanted in name)
    if INDEX in files.sizes and not wanted:
        named = _document(files, INDEX, MAX_INDEX_BYTES).get("weight_map")
        if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
            raise InvalidInput(f"{INDEX} is not a weight index", code="corrupt_weights")
        names = sorted(set(named.values()))
    elif files.single:
        names = all_names
    else:
        beside = [name for name in all_names if "/" not in name]
        named_so = [name for name in beside if PurePosixPath(name).name.startswith("model")]
        names = named_so or beside or all_names
    if len(names) > MAX_SHARDS:
        raise TooLarge(f"found {len(names)} files of weights, expected at most {MAX_SHARDS}")
    if missing := [name for name in names if not files.has(name)]:
        raise NotFound(f"{missing[0][:200]}: named by {INDEX}, but not there", code="missing_weights")
    return tuple(names)


def _head(files: ModelFiles, name: str) -> tuple[int, tuple[Weights, ...]]:
    """How long the header is, and what it says that the file holds."""
    first = files.read(name, 0, FIRST_BYTES)
    length = safetensors.head_bytes(first[: safetensors.PREFIX_BYTES], name)
    if length > MAX_HEAD_BYTES:
        raise TooLarge(
            f"{name}: found a header of {length >> 20} MiB, expected at most {MAX_HEAD_BYTES >> 20}"
        )
    end = safetensors.PREFIX_BYTES + length
    content = first if end <= len(first) else first + files.read(name, len(first), end - len(first))
    if len(content) < end:
        raise InvalidInput(
            f"{name} is damaged or incomplete: it ends within its header", code="corrupt_weights"
        )
    tensors = safetensors.tensors_of(content[safetensors.PREFIX_BYTES : end], name)
    size, there = end + sum(tensor.size_bytes for tensor in tensors.values()), files.sizes[name]
    if there is not None and there != size:
        raise InvalidInput(
            f"{name} is damaged or incomplete: it has {there} bytes, its header says {size}",
            code="corrupt_weights",
        )
    return length, weights_of_tensors(tensors)


def _gguf(files: ModelFiles, wanted: str) -> Headers | None:
    names = sorted(name for name in files.sizes if name.endswith(".gguf") and wanted in name)
    names = [name for name in names if "mmproj" not in name]
    if not names or (not wanted and any(name.endswith(".safetensors") for name in files.sizes)):
        return None
    if len(names) > 1:
        names = _parts(names)
    shape, parts = ModelShape(), list[Weights]()
    for number, name in enumerate(names):
        head = _gguf_head(files, name)
        shape = shape if number else shape_of_gguf(head.metadata)
        parts += weights_of_gguf(head.tensors, name)
    return Headers(replace(shape, weights=added(parts)), tuple(names))


def _parts(names: list[str]) -> list[str]:
    """The names, if they are the parts of one model, as `x-00001-of-00003.gguf`. Raises InvalidInput for several models."""
    models = {name.rpartition("-of-")[0].rpartition("-")[0] or name for name in names}
    if len(models) > 1 or len(names) > MAX_SHARDS:
        some = ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
        raise InvalidInput(
            f"found {len(models)} models: {some}",
            code="several_models",
            hint="say which with --file and part of its name",
        )
    return names


def _gguf_head(files: ModelFiles, name: str) -> gguf.Head:
    size, content = FIRST_GGUF_BYTES, b""
    while True:
        content += files.read(name, len(content), size - len(content))
        try:
            return gguf.read_head(content, name)
        except gguf.CutOff:
            if len(content) < size or size >= gguf.MAX_HEAD_BYTES:
                raise gguf.corrupt(name, f"its head does not end within {len(content)} bytes") from None
        size *= 4


def _openvino(files: ModelFiles) -> Headers | None:
    """The language model's graph; tokenizers, in the same folder, are graphs as well."""
    names = sorted(
        name for name in files.sizes if name.endswith(".xml") and f"{name[:-4]}.bin" in files.sizes
    )
    names = [name for name in names if "tokenizer" not in name]
    if not names:
        return None
    weights: list[Weights] = []
    layers: tuple[Layers, ...] = ()
    for name in names[:MAX_SHARDS]:
        binary = f"{name[:-4]}.bin"
        weights.append(Weights(dtype="IR", size_bytes=files.sizes[binary] or 0))
        found = layers_of_ir(_whole(files, name, MAX_XML_BYTES).decode("utf-8", "replace"))
        layers = layers or found
    shape = _shape(files)
    return Headers(replace(shape, weights=added(weights), layers=layers or shape.layers), tuple(names))


def _by_size(files: ModelFiles) -> Headers | None:
    """Pickled files are never opened: their size is close to that of the weights in them."""
    names = tuple(
        sorted(
            name
            for name in files.sizes
            if name.endswith(PICKLED) and "training" not in name and "optimizer" not in name
        )
    )
    if not names:
        return None
    total = sum(files.sizes[name] or 0 for name in names)
    shape = _shape(files)
    note = BY_SIZE.format(f"{len(names)} file{'s' if len(names) > 1 else ''}")
    return Headers(
        replace(
            shape, weights=added((Weights(dtype="unknown", size_bytes=total),)), notes=(*shape.notes, note)
        ),
        names,
    )
