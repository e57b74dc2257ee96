"""`hf://owner/model[:revision]`: a repository of the Hugging Face Hub (HF_TOKEN, HF_ENDPOINT); `hf://owner/model/part` is a folder or file of it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from penstock.contracts.source import Changed, RemoteFile, Snapshot, Unranged
from penstock.kit import http_ranges
from penstock.kit.errors import Forbidden, InvalidInput, NotFound, PlatformError, Unauthorized, Unavailable

SCHEMES = ("hf",)
TIMEOUT_S = 30.0
EXPECTED = (
    "is no name of a model, expected hf://OWNER/MODEL, hf://OWNER/MODEL:REVISION or hf://OWNER/MODEL/PART"
)
CHECK = "check the name; for a private one give HF_TOKEN in a Secret of the service account"
_URI = re.compile(r"hf://([\w.-]+)/([\w.-]+)(?::([\w./-]+)|((?:/(?!\.\.?(?:/|$))[\w.-]+)*))/?")
_FORMATS = (".safetensors", ".gguf", ".xml")


def open_source(uri: str, environ: Mapping[str, str]) -> HubSource:
    """Raises InvalidInput unless it is owner and model, and perhaps a revision or a part: a revision may have slashes, so it is not both."""
    match = _URI.fullmatch(uri)
    if match is None:
        raise InvalidInput(EXPECTED)
    owner, model, revision, part = match.groups()
    return HubSource(f"{owner}/{model}", revision or "main", (part or "").strip("/"), environ)


class HubSource:
    """One revision of one repository. The branch is resolved to a commit once, so all files are of the same commit."""

    def __init__(self, repository: str, revision: str, part: str, environ: Mapping[str, str]) -> None:
        self._repository = repository
        self._revision = revision
        self._part = part
        self._names: dict[str, str] = {}
        self._token = environ.get("HF_TOKEN") or None
        self._endpoint = environ.get("HF_ENDPOINT") or None

    def snapshot(self) -> Snapshot:
        """Files with sizes; those in large-file storage with their SHA-256. Pickled weights are left out beside safe ones."""
        with _explained(self._revision):
            info = self._api().model_info(
                self._repository, revision=self._revision, files_metadata=True, timeout=TIMEOUT_S
            )
        siblings = [sibling for sibling in info.siblings or [] if self._is_wanted(sibling.rfilename)]
        if self._part and not siblings:
            raise NotFound(f"the repository has no {self._part!r}")
        names = [sibling.rfilename for sibling in siblings]
        safe = any(name.endswith(_FORMATS) for name in names)
        kept = [
            s for s in siblings if not s.rfilename.startswith(".") and not (safe and _is_pickled(s.rfilename))
        ]
        self._revision = info.sha or self._revision
        self._names = {self._path(sibling.rfilename): sibling.rfilename for sibling in kept}
        return Snapshot(
            files=tuple(
                RemoteFile(
                    path=self._path(sibling.rfilename),
                    size_bytes=sibling.size,
                    version=self._revision,
                    sha256=sibling.lfs.sha256 if sibling.lfs else "",
                )
                for sibling in kept
            )
        )

    def read(self, file: RemoteFile, start: int, stop: int | None = None) -> Iterator[memoryview]:
        """Through the Hub's redirects to wherever the file is kept."""
        from huggingface_hub import hf_hub_url  # noqa: PLC0415  takes a third of a second to import

        name = self._names.get(file.path, file.path)
        url = hf_hub_url(self._repository, name, revision=file.version, endpoint=self._endpoint)
        headers = {"accept-encoding": "identity"} | http_ranges.part_of(start, stop)
        if self._token:
            headers["authorization"] = f"Bearer {self._token}"
        with http_ranges.get(url, headers) as answer:
            if "range" in headers and answer.status == 200:
                raise Changed if stop is None else Unranged  # without ranges it begins anew
            if start and answer.status == 416:
                raise Changed(f"{file.path}: ends before byte {start}")
            if answer.status >= 300:
                raise _by_status(answer.status)
            yield from http_ranges.pieces(answer)

    def _is_wanted(self, name: str) -> bool:
        return not self._part or name == self._part or name.startswith(f"{self._part}/")

    def _path(self, name: str) -> str:
        """In the model: below the part, or the name of the one file that it is."""
        return name.rpartition("/")[2] if name == self._part else name[len(self._part) :].lstrip("/")

    def _api(self) -> Any:
        from huggingface_hub import HfApi  # noqa: PLC0415  takes a third of a second to import

        return HfApi(endpoint=self._endpoint, token=self._token or False)


def _is_pickled(name: str) -> bool:
    return name.endswith((".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack", ".ot"))


@contextlib.contextmanager
def _explained(revision: str) -> Iterator[None]:
    from huggingface_hub import errors  # noqa: PLC0415  see above

    # The Hub's client brings its own HTTP library, whose root error is the base of its errors.
    library: type[Exception] = errors.HfHubHTTPError.__bases__[0]
    try:
        yield
    except errors.HFValidationError:
        raise InvalidInput(EXPECTED) from None
    except errors.GatedRepoError:
        raise Forbidden(
            "access is gated", hint="accept its terms on the Hub, then give HF_TOKEN in a Secret"
        ) from None
    except errors.RevisionNotFoundError:
        raise NotFound(f"there is no revision {revision!r}") from None
    except errors.HfHubHTTPError as error:
        raise _by_status(error.response.status_code) from None
    except ValueError:
        raise Unavailable("the Hub's answer is no listing") from None
    except (library, OSError) as error:
        raise Unavailable(f"the Hub cannot be reached: {type(error).__name__}") from None


def _by_status(status: int) -> PlatformError:
    """The Hub answers 401 without a token also for what is not there, and 404 with one also for what is private."""
    said = f"the Hub answered {status}"
    if status in (401, 404):
        return {401: Unauthorized, 404: NotFound}[status](
            f"{said}: there is no such repository, or it is private", hint=CHECK
        )
    return Forbidden(said, hint=CHECK) if status == 403 else Unavailable(said)
