"""`s3://bucket/prefix`: every object below the prefix (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, AWS_DEFAULT_REGION, …)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from penstock.contracts.source import Changed, RemoteFile, Snapshot
from penstock.kit.errors import Forbidden, InvalidInput, NotFound, PlatformError, Unauthorized, Unavailable

SCHEMES = ("s3",)
DEFAULT_REGION = "us-east-1"
PIECE_BYTES = 4 << 20
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
        raise InvalidInput(f"storageUri: found {uri!r}, expected s3://BUCKET/PREFIX")
    return S3Source(bucket, prefix.strip("/"), environ)


class S3Source:
    """Objects below a prefix, or the one object that has its name."""

    def __init__(self, bucket: str, prefix: str, environ: Mapping[str, str]) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._environ = environ

    def snapshot(self) -> Snapshot:
        """Sizes and entity tags as the store lists them. Raises NotFound if there is nothing."""
        with self._explained():
            listed = [meta for page in self._store().list(self._prefix or None) for meta in page]
        files = tuple(self._file(meta) for meta in listed if not meta["path"].endswith("/"))
        if not files:
            raise NotFound(f"s3://{self._bucket}/{self._prefix}: there are no objects")
        return Snapshot(files=files)

    def read(self, file: RemoteFile, start: int) -> Iterator[bytes]:
        """Asks for the very version that was listed."""
        options: dict[str, Any] = {"range": {"offset": start}} if start else {}
        if file.version:
            options["if_match"] = file.version
        with self._explained():
            answer = self._store().get(self._key(file), options=options)
            for piece in answer.stream(min_chunk_size=PIECE_BYTES):
                yield bytes(piece)

    def _key(self, file: RemoteFile) -> str:
        single = self._prefix.rpartition("/")[2] == file.path
        return self._prefix if single else f"{self._prefix}/{file.path}".lstrip("/")

    def _file(self, meta: Mapping[str, Any]) -> RemoteFile:
        key: str = meta["path"]
        path = key.rpartition("/")[2] if key == self._prefix else key.removeprefix(self._prefix).lstrip("/")
        return RemoteFile(path=path, size_bytes=meta["size"], version=meta.get("e_tag") or "")

    def _store(self) -> Any:
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
        return S3Store(self._bucket, config=config, client_options=client)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        from obstore import exceptions  # noqa: PLC0415  see above

        where = f"s3://{self._bucket}/{self._prefix}"
        kinds: dict[type[Exception], type[PlatformError]] = {
            exceptions.NotFoundError: NotFound,
            exceptions.PermissionDeniedError: Forbidden,
            exceptions.UnauthenticatedError: Unauthorized,
        }
        try:
            yield
        except exceptions.PreconditionError:
            raise Changed from None
        except tuple(kinds) as error:
            said = {
                NotFound: "there is no such bucket or object",
                Forbidden: "may not be read with these credentials",
            }
            kind = kinds[type(error)]
            hint = "give credentials in a Secret of the service account; see docs/howto/model-sources.md"
            raise kind(f"{where}: {said.get(kind, 'credentials are missing or wrong')}", hint=hint) from None
        except (exceptions.BaseError, OSError) as error:
            raise Unavailable(
                f"{where}: the store does not answer as it should: {type(error).__name__}"
            ) from None
