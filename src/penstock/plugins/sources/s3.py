"""`s3://bucket/prefix`: every object below the prefix (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, AWS_DEFAULT_REGION, …)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any

from penstock.contracts.source import MAX_FILES, Changed, RemoteFile, Snapshot
from penstock.kit.errors import (
    Forbidden,
    InvalidInput,
    NotFound,
    PlatformError,
    TooLarge,
    Unauthorized,
    Unavailable,
)

SCHEMES = ("s3",)
DEFAULT_REGION = "us-east-1"
PIECE_BYTES = 1 << 18
EXPECTED = "is no place in a store, expected s3://BUCKET/PREFIX"
HINT = "give credentials in a Secret of the service account; see docs/howto/model-sources.md"
_STATUS, _CODE = re.compile(r"status code: (\d{3})"), re.compile(r"<Code>(\w{1,64})</Code>")
_BAD_TOKENS = ("ExpiredToken", "InvalidToken")
_ROLES = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""Without keys and without any of these, requests go unsigned: public buckets work, and nobody waits for a metadata service."""
_OFF = ("0", "false", "no")


def open_source(uri: str, environ: Mapping[str, str]) -> S3Source:
    """Raises InvalidInput without a bucket."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise InvalidInput(EXPECTED)
    return S3Source(bucket, prefix.strip("/"), environ)


class S3Source:
    """Objects below a prefix, or the one object that has its name."""

    def __init__(self, bucket: str, prefix: str, environ: Mapping[str, str]) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._environ = environ
        self._keys: dict[str, str] = {}
        self._opened: Any = None

    def snapshot(self) -> Snapshot:
        """Sizes and entity tags as the store lists them. Raises NotFound if there is nothing, TooLarge beyond MAX_FILES."""
        with _explained():
            listed = _without_markers(self._listed())
        if not listed:
            listed = [self._single()]
        files = {self._path(meta["path"]): meta for meta in listed}
        self._keys = {path: meta["path"] for path, meta in files.items()}
        return Snapshot(
            files=tuple(
                RemoteFile(path=path, size_bytes=meta["size"], version=meta.get("e_tag") or "")
                for path, meta in files.items()
            )
        )

    def read(self, file: RemoteFile, start: int, stop: int | None = None) -> Iterator[memoryview]:
        """Asks for the very version that was listed."""
        options: dict[str, Any] = {}
        if stop is not None:
            options["range"] = (start, stop)
        elif start:
            options["range"] = {"offset": start}
        if file.version:
            options["if_match"] = file.version
        with _explained():
            answer = self._store().get(self._keys[file.path], options=options)
            for piece in answer.stream(min_chunk_size=PIECE_BYTES):
                yield memoryview(piece)

    def _listed(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = []
        for page in self._store().list(self._prefix or None):
            listed += page
            if len(listed) > MAX_FILES:
                raise TooLarge(f"found more than {MAX_FILES} objects, expected those of one model")
        return listed

    def _single(self) -> dict[str, Any]:
        """What a listing leaves out: it gives what is below the prefix, not the object of that very name."""
        if not self._prefix:
            raise NotFound("there are no objects")
        try:
            with _explained():
                meta: dict[str, Any] = self._store().head(self._prefix)
        except NotFound as error:
            raise NotFound("there are no objects", hint=error.hint) from None
        return meta

    def _path(self, key: str) -> str:
        return key.rpartition("/")[2] if key == self._prefix else key.removeprefix(self._prefix).lstrip("/")

    def _store(self) -> Any:
        """Opened once, so that its connections are kept."""
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _open(self) -> Any:
        from obstore.store import S3Store  # noqa: PLC0415  a local model should start without it

        env = self._environ
        endpoint = env.get("AWS_ENDPOINT_URL") or env.get("S3_ENDPOINT") or ""
        if endpoint and "://" not in endpoint:
            plain = env.get("S3_USE_HTTPS", "1").lower() in _OFF
            endpoint = f"{'http' if plain else 'https'}://{endpoint}"
        config: Any = {"region": env.get("AWS_DEFAULT_REGION") or env.get("AWS_REGION") or DEFAULT_REGION}
        if endpoint:
            config["endpoint"] = endpoint
        for name in ("access_key_id", "secret_access_key", "session_token"):
            if value := env.get(f"AWS_{name.upper()}"):
                config[name] = value
        anonymous = env.get("awsAnonymousCredential", "").lower() not in ("", *_OFF)
        if anonymous or not ("access_key_id" in config or any(env.get(name) for name in _ROLES)):
            config["skip_signature"] = True
        insecure = env.get("S3_VERIFY_SSL", "1").lower() in _OFF
        client: Any = {"allow_http": endpoint.startswith("http://"), "allow_invalid_certificates": insecure}
        retry: Any = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}
        return S3Store(self._bucket, config=config, client_options=client, retry_config=retry)


def _without_markers(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the empty objects by which consoles show a folder; the store's `folder/` is listed as `folder`."""
    folders = {
        str(parent) for meta in listed if meta["size"] for parent in PurePosixPath(meta["path"]).parents
    }
    return [meta for meta in listed if meta["size"] or meta["path"] not in folders]


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    from obstore import exceptions  # noqa: PLC0415  see above

    try:
        yield
    except exceptions.PreconditionError:
        raise Changed from None
    except (exceptions.NotFoundError, FileNotFoundError):
        raise _by_status(404) from None
    except (exceptions.PermissionDeniedError, PermissionError):
        raise _by_status(403) from None
    except exceptions.UnauthenticatedError:
        raise _by_status(401) from None
    except ValueError:
        raise InvalidInput(EXPECTED) from None
    except (exceptions.BaseError, OSError) as error:
        # A refused listing comes as a general error, so that only its text tells the answer.
        said = str(error)
        status, code = _STATUS.search(said), _CODE.search(said)
        number = 301 if "redirect without LOCATION" in said else int(status[1]) if status else 0
        raise _by_status(number, code[1] if code else type(error).__name__) from None


def _by_status(status: int, code: str = "") -> PlatformError:
    """`code` is the store's own word for what is wrong, in one word."""
    if status == 401 or code in _BAD_TOKENS:
        return Unauthorized("credentials are missing or wrong", hint=HINT)
    if status == 403:
        return Forbidden("may not be read with these credentials", hint=HINT)
    if status == 404:
        return NotFound("there is no such bucket or object", hint=HINT)
    if status == 301:
        return InvalidInput("the bucket is in another region", hint="set AWS_DEFAULT_REGION in the Secret")
    if not status:
        return Unavailable(f"the store cannot be reached: {code}")
    return Unavailable(f"the store does not answer as it should: {code} ({status})")
