"""A model's `storage`: its address by a Secret, and what its fetcher reads."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from penstock.decide.storage_config import located, secret_name, source_environ, storage_of
from penstock.resources.admission import admit
from penstock.resources.core import Secret
from penstock.resources.serving import InferenceService

MINIO = {
    "type": "s3",
    "access_key_id": "me",
    "secret_access_key": "word",
    "endpoint_url": "http://127.0.0.1:9000",
    "bucket": "models",
    "region": "eu",
}


def secret(**keys: Any) -> Secret:
    data = {key: base64.b64encode(json.dumps(value).encode()).decode() for key, value in keys.items()}
    return msgspec.convert({"metadata": {"name": "storage-config"}, "data": data}, Secret)


def service(storage: dict[str, Any], uri: str | None = None, **annotations: str) -> InferenceService:
    model = {"modelFormat": {"name": "x"}, "storage": storage} | ({"storageUri": uri} if uri else {})
    document = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "s", "namespace": "ns", "annotations": annotations},
        "spec": {"predictor": {"model": model}},
    }
    made = admit(document).object
    assert isinstance(made, InferenceService)
    return made


def uri_of(what: InferenceService) -> str | None:
    assert what.spec.predictor.model is not None
    return what.spec.predictor.model.storage_uri


def test_key_and_path_are_an_address_and_credentials_stay_references() -> None:
    found = located(service({"key": "minio", "path": "/a/b/"}), secret(minio=MINIO))
    assert (found.failure, uri_of(found.service)) == ("", "s3://models/a/b")
    (config,) = found.env
    assert config.value_from is not None
    assert config.value_from.secret_key_ref is not None
    assert (config.name, config.value_from.secret_key_ref.key) == ("STORAGE_CONFIG", "minio")
    assert "word" not in str(found)


def test_kserves_own_sample_is_located() -> None:
    path = (
        Path(__file__).parents[3]
        / "shared"
        / "kserve-samples"
        / "storage__storageSpec__sklearn_storagespec.yaml"
    )
    if not path.exists():
        pytest.skip("../shared is absent")
    made = admit(yaml.safe_load(path.read_text())).object
    assert isinstance(made, InferenceService)
    assert storage_of(made) is not None
    assert uri_of(located(made, secret(localMinIO=MINIO)).service) == "s3://example-models/sklearn"


def test_parameters_of_the_service_go_before_the_secret() -> None:
    asked = service({"key": "minio", "path": "a", "parameters": {"bucket": "mine"}})
    found = located(asked, secret(minio=MINIO))
    assert uri_of(found.service) == "s3://mine/a"
    assert [(one.name, one.value) for one in found.env][1:] == [
        ("STORAGE_OVERRIDE_CONFIG", '{"bucket": "mine"}')
    ]


def test_without_a_key_it_is_the_default_one_of_the_type() -> None:
    asked = service({"path": "a", "parameters": {"type": "s3", "bucket": "b"}})
    assert uri_of(located(asked, secret(default_s3=MINIO)).service) == "s3://b/a"
    assert uri_of(located(service({"path": "a"}), secret(default=MINIO)).service) == "s3://models/a"


def test_an_address_of_its_own_stays_and_may_do_without_a_secret() -> None:
    found = located(service({"key": "minio"}, "s3://x/y"), secret(minio=MINIO))
    assert (uri_of(found.service), len(found.env)) == ("s3://x/y", 1)
    assert located(service({}, "s3://x/y"), None).failure == ""


@pytest.mark.parametrize(
    ("storage", "held", "said"),
    [
        ({"key": "a", "path": "p"}, None, "predictor.model.storage.key: Secret storage-config is not there"),
        ({"key": "minoi", "path": "p"}, secret(minio=MINIO), "has no key 'minoi' (there is minio)"),
        ({"key": "a", "path": "p"}, secret(a=["x"]), "has under 'a' no JSON object"),
        ({"key": "a", "path": "p"}, secret(a={"type": "ftp"}), "found type 'ftp', expected one of s3,"),
        ({"key": "a", "path": "p"}, secret(a={"type": "s3"}), "found no bucket"),
    ],
)
def test_what_is_missing_is_said(storage: dict[str, Any], held: Secret | None, said: str) -> None:
    assert said in located(service(storage), held).failure


def test_another_secret_can_be_named() -> None:
    assert secret_name(service({}, "s3://x", **{"serving.kserve.io/storageSecretName": "mine"})) == "mine"


def test_what_the_fetcher_is_given_becomes_what_sources_read() -> None:
    environ = {
        "STORAGE_CONFIG": json.dumps(MINIO),
        "STORAGE_OVERRIDE_CONFIG": '{"region": "us"}',
        "PATH": "/",
    }
    assert source_environ(environ) == environ | {
        "AWS_ACCESS_KEY_ID": "me",
        "AWS_SECRET_ACCESS_KEY": "word",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9000",
        "AWS_DEFAULT_REGION": "us",
    }
    assert source_environ({"PATH": "/"}) == {"PATH": "/"}
    with pytest.raises(ValueError, match="STORAGE_CONFIG"):
        source_environ({"STORAGE_CONFIG": "[]"})
