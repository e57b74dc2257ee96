"""Which credentials the storage initializer of a service gets: as references to Secrets, never as values."""

from __future__ import annotations

from penstock.contracts.cluster import Cluster
from penstock.kit.errors import NotFound
from penstock.resources.core import Secret, ServiceAccount
from penstock.resources.pod import EnvVar, EnvVarSource, KeySelector
from penstock.resources.serving import InferenceService

_KEYS = {
    "AWS_ACCESS_KEY_ID": "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY": "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN": "AWS_SESSION_TOKEN",
    "HF_TOKEN": "HF_TOKEN",
}
"""Keys of a Secret that become variables of that name (KServe's S3 and Hugging Face secrets)."""

_ANNOTATIONS = {
    "serving.kserve.io/s3-endpoint": "AWS_ENDPOINT_URL",
    "serving.kserve.io/s3-usehttps": "S3_USE_HTTPS",
    "serving.kserve.io/s3-verifyssl": "S3_VERIFY_SSL",
    "serving.kserve.io/s3-region": "AWS_DEFAULT_REGION",
    "serving.kserve.io/s3-useanoncredential": "awsAnonymousCredential",
}


async def credentials(cluster: Cluster, service: InferenceService) -> tuple[EnvVar, ...]:
    """Variables from the Secrets of the predictor's service account; none without one."""
    name = service.spec.predictor.service_account_name
    return await account_credentials(cluster, service.metadata.namespace, name or "")


async def storage_secret(cluster: Cluster, namespace: str, name: str) -> Secret | None:
    """The Secret that a model's `storage` is about, if it is there."""
    try:
        return await cluster.get(Secret, name, namespace)
    except NotFound:
        return None


async def account_credentials(cluster: Cluster, namespace: str, name: str) -> tuple[EnvVar, ...]:
    """Variables from the Secrets of a service account; none without one."""
    if not name:
        return ()
    try:
        account = await cluster.get(ServiceAccount, name, namespace)
    except NotFound:
        return ()
    variables: list[EnvVar] = []
    for reference in account.secrets:
        try:
            secret = await cluster.get(Secret, reference.name, namespace)
        except NotFound:
            continue
        variables.extend(_of_secret(secret))
    return tuple(variables)


def _of_secret(secret: Secret) -> list[EnvVar]:
    """Endpoints stand in the Secret's annotations; an endpoint without a scheme gets the one that `usehttps` says."""
    meta = secret.metadata
    variables = [
        EnvVar(
            name=variable,
            value_from=EnvVarSource(secret_key_ref=KeySelector(name=meta.name, key=key)),
        )
        for key, variable in _KEYS.items()
        if key in secret.data
    ]
    for annotation, variable in _ANNOTATIONS.items():
        value = meta.annotations.get(annotation)
        if value is None:
            continue
        if variable == "AWS_ENDPOINT_URL" and "://" not in value:
            plain = meta.annotations.get("serving.kserve.io/s3-usehttps") == "0"
            value = f"{'http' if plain else 'https'}://{value}"
        variables.append(EnvVar(name=variable, value=value))
    return variables
