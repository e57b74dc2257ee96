"""InferenceServices written by hand."""

MODE = "serving.kserve.io/deploymentMode"
CLASS = "serving.kserve.io/autoscalerClass"
STANDARD = {MODE: "Standard"}
KEDA = {**STANDARD, CLASS: "keda"}
MODEL = {"modelFormat": {"name": "sklearn"}, "storageUri": "gs://b/m"}
OWN = [{"name": "kserve-container", "image": "x"}]


def service(predictor=None, annotations=None, name="iris", model=None, **spec):
    base = {"model": {**MODEL, **(model or {})}, **(predictor or {})}
    base = {key: value for key, value in base.items() if value is not None}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "annotations": annotations or {}},
        "spec": {"predictor": base, **spec},
    }


def multinode(worker=None, model=None, annotations=None):
    return service(
        {"workerSpec": worker or {}},
        {CLASS: "none"} if annotations is None else annotations,
        model={"storageUri": "pvc://c/m", **(model or {})},
    )


def metrics(*items, annotations=KEDA):
    return service({"autoScaling": {"metrics": list(items)}}, annotations)


def resource(name, **target):
    return {"type": "Resource", "resource": {"name": name, "target": target}}


def external(query="q", kind="external", type_="External", **target):
    return {"type": type_, kind: {"metric": {"query": query}, "target": target}}


def env(name):
    return [{"name": name, "value": "x"}]
