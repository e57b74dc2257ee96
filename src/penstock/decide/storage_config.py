"""Which address does a model's `storage` mean, and what is it read with?

As in KServe: Secret `storage-config` (or the one that annotation serving.kserve.io/storageSecretName names) has a JSON object under each key: type,
bucket, endpoint and credentials. The object is handed to the fetcher as a reference, never as a value; parameters of the service go before it.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from penstock.kit.errors import nearest
from penstock.resources.core import Secret
from penstock.resources.meta import Labels
from penstock.resources.pod import EnvVar, EnvVarSource, KeySelector
from penstock.resources.serving import InferenceService, StorageSpec

SECRET, SECRET_NAME = "storage-config", "serving.kserve.io/storageSecretName"
CONFIG, OVERRIDE = "STORAGE_CONFIG", "STORAGE_OVERRIDE_CONFIG"
TYPES = ("s3", "hdfs", "webhdfs")
_VARIABLES = {
    "access_key_id": "AWS_ACCESS_KEY_ID",
    "secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "session_token": "AWS_SESSION_TOKEN",
    "endpoint_url": "AWS_ENDPOINT_URL",
    "region": "AWS_DEFAULT_REGION",
    "default_region": "AWS_DEFAULT_REGION",
    "anonymous": "awsAnonymousCredential",
    "verify_ssl": "S3_VERIFY_SSL",
}


@dataclass(frozen=True, slots=True)
class Located:
    """The service with its model's address, what the fetcher's environment refers to; or the `failure` that it has none."""

    service: InferenceService
    env: tuple[EnvVar, ...] = ()
    failure: str = ""


def storage_of(service: InferenceService) -> StorageSpec | None:
    """Of the model, if it has one."""
    model = service.spec.predictor.model
    return model.storage if model is not None else None


def secret_name(service: InferenceService) -> str:
    """The Secret that its `storage` is about."""
    return service.metadata.annotations.get(SECRET_NAME, SECRET)


def located(service: InferenceService, secret: Secret | None) -> Located:
    """The service itself where it has no `storage`. `secret` is the one of that name in its namespace."""
    model, storage = service.spec.predictor.model, storage_of(service)
    if model is None or storage is None:
        return Located(service)
    key = storage.key or _default_key(storage.parameters)
    where = "predictor.model.storage"
    config = config_of(secret, key)
    if isinstance(config, str):
        if storage.key or not model.storage_uri:
            return Located(service, failure=f"{where}.key: Secret {secret_name(service)} {config}")
        config = {}
    env = config_env(secret, key, storage.parameters)
    if model.storage_uri:
        return Located(service, env)
    merged = {**config, **storage.parameters}
    kind, bucket, path = merged.get("type", ""), merged.get("bucket", ""), (storage.path or "").strip("/")
    if kind not in TYPES:
        return Located(service, failure=f"{where}: found type {kind!r}, expected one of {', '.join(TYPES)}")
    if kind == "s3" and not bucket:
        return Located(
            service, failure=f"{where}: found no bucket, neither in its parameters nor under {key}"
        )
    uri = f"{kind}://{bucket}/{path}" if kind == "s3" else f"{kind}://{path}"
    placed = msgspec.structs.replace(model, storage_uri=uri)
    predictor = msgspec.structs.replace(service.spec.predictor, model=placed)
    spec = msgspec.structs.replace(service.spec, predictor=predictor)
    return Located(msgspec.structs.replace(service, spec=spec), env)


def config_of(secret: Secret | None, key: str) -> dict[str, str] | str:
    """What the Secret has under the key, or what is wrong with it."""
    if secret is None:
        return "is not there"
    if key not in secret.data:
        close = nearest(key, tuple(secret.data)) or sorted(secret.data)
        return f"has no key {key!r} (there is {', '.join(close) or 'none'})"
    try:
        found = json.loads(base64.b64decode(secret.data[key], validate=True))
    except (binascii.Error, ValueError):
        return f"has under {key!r} no JSON"
    if not isinstance(found, dict):
        return f"has under {key!r} no JSON object"
    return {str(name): _text(value) for name, value in found.items() if value is not None}


def config_env(secret: Secret | None, key: str, parameters: Labels) -> tuple[EnvVar, ...]:
    """For the fetcher."""
    env = []
    if secret is not None and key in secret.data:
        selector = KeySelector(name=secret.metadata.name, key=key)
        env.append(EnvVar(name=CONFIG, value_from=EnvVarSource(secret_key_ref=selector)))
    if parameters:
        env.append(EnvVar(name=OVERRIDE, value=json.dumps(parameters, sort_keys=True)))
    return tuple(env)


def source_environ(environ: Mapping[str, str]) -> Mapping[str, str]:
    """With the variables that sources read, in the fetcher's own environment. Raises ValueError for what is no JSON object."""
    given: dict[str, str] = {}
    for name in (CONFIG, OVERRIDE):
        part = json.loads(environ.get(name) or "{}")
        if not isinstance(part, dict):
            raise ValueError(f"{name} is no JSON object")
        given |= {str(key): _text(value) for key, value in part.items() if value is not None}
    named = {_VARIABLES[key]: value for key, value in given.items() if key in _VARIABLES}
    return {**environ, **named} if named else environ


def _default_key(parameters: Labels) -> str:
    return f"default_{parameters['type']}" if parameters.get("type") else "default"


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
