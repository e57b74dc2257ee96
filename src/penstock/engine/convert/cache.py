"""Finds a model that the engine can load: OpenVINO IR and GGUF as they are, a Hugging Face folder converted once.

The result lies in the node's cache under a name made of the weights' content. It is built in a temporary folder beside it and
renamed when it is whole, under a lock, so that replicas share one conversion and nothing half-made is ever found.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from blake3 import blake3

from penstock.engine.convert.config import read_config
from penstock.engine.convert.gguf import check_readable, read_gguf
from penstock.engine.convert.safetensors import Weights, weight_files
from penstock.kit.errors import InvalidInput, NotFound, Unavailable

logger = logging.getLogger(__name__)
IR = "openvino_model.xml"
FORMAT = "3"
"""Part of the cache's key: raise it when the converter makes something else of the same files."""


def loadable(folder: Path, cache: Path) -> Path:
    """What to give to the pipeline: a folder with IR, or a GGUF file. Raises PlatformError, naming the file."""
    if (folder / IR).exists():
        if not (folder / IR).with_suffix(".bin").exists():
            raise NotFound(f"{folder}: there is {IR}, but no openvino_model.bin", code="missing_weights")
        return folder
    gguf = gguf_of(folder)
    if gguf is not None:
        check_readable(read_gguf(gguf))
        return gguf
    read_config(folder)
    return _converted(folder, cache, _build_decoder)


def gguf_of(folder: Path) -> Path | None:
    """The GGUF file of a folder that is nothing else. Raises InvalidInput if there are several: which one is not said."""
    if (folder / IR).exists() or (folder / "config.json").exists():
        return None
    found = sorted(path for path in folder.glob("*.gguf") if path.is_file())
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:4])
        raise InvalidInput(
            f"{folder}: {len(found)} GGUF files ({names}), expected one",
            code="ambiguous_weights",
            hint="give a folder with one of them; parts of one model have to be merged first",
        )
    return found[0] if found else None


def loadable_encoder(folder: Path, cache: Path) -> Path:
    """The same for a model that makes embeddings: a folder with IR."""
    return folder if (folder / IR).exists() else _converted(folder, cache, _build_encoder)


def _converted(folder: Path, cache: Path, build: Callable[[Path, Path], None]) -> Path:
    target = cache / "openvino" / _key(folder)
    with _locked(target):
        if not (target / IR).exists():
            _convert(folder, target, build)
    return target


def _key(folder: Path) -> str:
    digest = blake3(FORMAT.encode())
    beside = ("config.json", "tokenizer.json", "modules.json", "1_Pooling/config.json")
    for path in (*(folder / name for name in beside), *weight_files(folder)):
        if path.exists():
            digest.update(path.name.encode())
            digest.update_mmap(path)
    return digest.hexdigest(length=16)


def _build_decoder(folder: Path, target: Path) -> None:
    import openvino as ov  # noqa: PLC0415  a model that was converted before needs none of it

    from penstock.engine.convert.graph import build_model  # noqa: PLC0415

    ov.save_model(build_model(read_config(folder), Weights(folder)), target / IR, compress_to_fp16=False)
    _add_tokenizer(folder, target)


def _build_encoder(folder: Path, target: Path) -> None:
    import openvino as ov  # noqa: PLC0415  see above

    from penstock.engine.convert.encoder import build_encoder  # noqa: PLC0415
    from penstock.engine.convert.encoder_config import read_encoder  # noqa: PLC0415

    ov.save_model(build_encoder(read_encoder(folder), Weights(folder)), target / IR, compress_to_fp16=True)


def _convert(folder: Path, target: Path, build: Callable[[Path, Path], None]) -> None:
    temporary = target.parent / f".making-{target.name}"
    shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed: the lock is ours
    try:
        temporary.mkdir()
        build(folder, temporary)
        os.replace(temporary, target)  # noqa: PTH105  the atomic one
    except OSError as error:
        raise Unavailable(
            f"{target.parent}: the converted model cannot be written: {error.strerror}", code="cache_unusable"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _add_tokenizer(folder: Path, target: Path) -> None:
    """Without it the model serves all the same, but for structured output."""
    from penstock.engine.convert.tokenizer import DETOKENIZER_IR, TOKENIZER_IR, save_tokenizer  # noqa: PLC0415

    try:
        save_tokenizer(folder, target)
    except Exception as error:  # noqa: BLE001  the library says in many ways that it does not know a tokenizer
        for name in (TOKENIZER_IR, DETOKENIZER_IR):
            (target / name).unlink(missing_ok=True)
        logger.warning("the tokenizer cannot be converted, so answers cannot follow a schema: %s", error)


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    """One conversion of the same model at a time, across processes."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(target.parent / f"{target.name}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise Unavailable(
            f"{target.parent}: cannot be used as a cache: {error.strerror}", code="cache_unusable"
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
