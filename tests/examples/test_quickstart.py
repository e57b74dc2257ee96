"""The example is the service that a first start creates."""

from __future__ import annotations

from pathlib import Path

import msgspec
import yaml

from penstock.app.quickstart import model_folder, quickstart
from penstock.resources.admission import admit

EXAMPLE = Path(__file__).parents[2] / "examples" / "01-quickstart" / "quickstart.yaml"


def test_the_quickstart_example_is_the_quickstart_service_but_for_the_models_path() -> None:
    document = yaml.safe_load(EXAMPLE.read_text())
    model = document["spec"]["predictor"]["model"]
    assert model["storageUri"].endswith("src/penstock/models/penstock-tiny")
    model["storageUri"] = model_folder().as_uri()
    ours = admit(msgspec.to_builtins(quickstart()), strict=True).object
    assert admit(document, strict=True).object.spec == ours.spec
