"""Defaults that KServe's admission sets; what consumers can default themselves stays unset.

Source: KServe's InferenceService defaulter (v1beta1). Documents are changed, not types, so that all that a user wrote stays.
"""

from __future__ import annotations

from typing import Any

from penstock.resources.annotations import DEPLOYMENT_MODE, MODEL_FORMAT, parse_mode
from penstock.resources.scheme import Kind
from penstock.resources.serving import FRAMEWORKS

MAIN_CONTAINER = "kserve-container"
V2_FRAMEWORKS = ("triton", "onnx", "huggingface")
V2_FORMATS = ("triton", "vLLM")
CUSTOM_RESOURCES = {"cpu": "1", "memory": "2Gi"}

Document = dict[str, Any]


def defaulted(document: Document, kind: Kind, *, updates: bool = False) -> Document:
    """The document with defaults; the same object if nothing is to be set.

    `updates` says that the document replaces a stored one. Then a legacy framework field beside `model` is a manifest
    that was applied again over what admission made of it, and replaces that; on creation it is a contradiction that
    validation refuses.
    """
    if kind.kind != "InferenceService":
        return document
    spec = dict(document["spec"])
    predictor = _folded(spec["predictor"], updates)
    spec["predictor"] = _with_protocol(predictor)
    for name in ("predictor", "transformer", "explainer"):
        if name in spec:
            spec[name] = _with_custom_container(spec[name], has_model="model" in spec[name])
    result = {**document, "spec": spec, "metadata": _annotated(document.get("metadata", {}), predictor)}
    return document if result == document else result


def _folded(predictor: Document, updates: bool) -> Document:
    """Legacy shorthand to `model`: `sklearn: {…}` is `model: {modelFormat: {name: sklearn}, …}`."""
    given = [name for name in FRAMEWORKS if name in predictor]
    if not given or ("model" in predictor and not updates):
        return predictor
    name = given[0]
    framework = predictor[name]
    model = {"modelFormat": {"name": name}, **framework}
    if name in V2_FRAMEWORKS:
        model.setdefault("protocolVersion", "v2")
    return {**{key: value for key, value in predictor.items() if key != name}, "model": model}


def _with_protocol(predictor: Document) -> Document:
    model = predictor.get("model")
    if model is None or "protocolVersion" in model or _format(predictor) not in V2_FORMATS:
        return predictor
    return {**predictor, "model": {**model, "protocolVersion": "v2"}}


def _with_custom_container(component: Document, *, has_model: bool) -> Document:
    """A container of one's own has a name and a size; a model's come from its runtime."""
    result = dict(component)
    if "art" in component:
        result["art"] = _sized(component["art"])
    containers = component.get("containers")
    if containers and not has_model:
        names = [container.get("name", "") for container in containers]
        main = names.index(MAIN_CONTAINER) if MAIN_CONTAINER in names else 0
        container = containers[main]
        if not container.get("name"):
            container = {**container, "name": MAIN_CONTAINER}
        result["containers"] = [*containers[:main], _sized(container), *containers[main + 1 :]]
    return result


def _sized(container: Document) -> Document:
    """A resource of which neither request nor limit is given gets both."""
    resources = container.get("resources", {})
    requests, limits = resources.get("requests", {}), resources.get("limits", {})
    missing = {
        name: size for name, size in CUSTOM_RESOURCES.items() if name not in requests and name not in limits
    }
    if not missing:
        return container
    sized = {**resources, "requests": {**requests, **missing}, "limits": {**limits, **missing}}
    return {**container, "resources": sized}


def _annotated(metadata: Document, predictor: Document) -> Document:
    annotations = dict(metadata.get("annotations", {}))
    if DEPLOYMENT_MODE in annotations:
        annotations[DEPLOYMENT_MODE] = parse_mode(annotations[DEPLOYMENT_MODE])
    if format_name := _format(predictor):
        annotations[MODEL_FORMAT] = format_name
    return {**metadata, "annotations": annotations} if annotations else metadata


def _format(predictor: Document) -> str:
    name = predictor.get("model", {}).get("modelFormat", {}).get("name", "")
    return str(name)
