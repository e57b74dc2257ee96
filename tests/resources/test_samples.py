"""Every manifest of KServe's own samples is accepted, or refused for the reason that is known."""

from collections import Counter
from pathlib import Path

import msgspec
import pytest
from kserve_files import index, samples, shared, without_empty

from penstock.kit.errors import Invalid
from penstock.resources.admission import admit
from penstock.resources.documents import documents
from penstock.resources.parse import parse

REFUSED = {
    ("rollout-strategy__rollout-strategy-example.yaml", "rollout-strategy-example"): (
        "exactly one of [PodSpec] must be specified in TransformerSpec",
        'unknown field "spec.transformer.custom"',
    ),
}
PRUNED = {
    (
        "llmisvc__kv-cache-offloading__llm-inference-service-kv-cache-offloading.yaml",
        "qwen2-7b-kv-cache-offloading",
    ): ("spec.workload"),
    (
        "rollout-strategy__rollout-strategy-example.yaml",
        "rollout-strategy-example",
    ): "spec.transformer.custom",
}


def test_every_sample_is_accepted_or_refused_for_its_known_reason():
    folder, outcomes = shared("kserve-samples"), Counter()
    for entry in index():
        for document in documents((folder / entry["file"]).read_text()):
            name = document["metadata"]["name"]
            key = (entry["file"], name)
            try:
                admitted = admit(document)
            except Invalid as error:
                outcome, detail = "refused", error.message
                assert (error.message, REFUSED[key][1] in error.hint) == (REFUSED[key][0], True)
            else:
                outcome, detail = "accepted", "; ".join(admitted.warnings)
                assert key not in REFUSED
                assert any(w.startswith("unknown field") for w in admitted.warnings) == (key in PRUNED)
            outcomes[outcome] += 1
            print(f"{outcome:9} {document['kind']:24} {name:32} {detail}")
    print(dict(outcomes))
    assert outcomes == {"accepted": sum(len(entry["objects"]) for entry in index()) - 1, "refused": 1}


@pytest.mark.parametrize("path", samples(), ids=lambda path: path.stem)
def test_nothing_of_a_sample_is_lost_on_the_way_to_types_and_back(path: Path):
    if not path.exists():
        pytest.skip("../shared is absent")
    for document in documents(path.read_text()):
        parsed = parse(document)
        written = msgspec.to_builtins(parsed.object)
        assert without_empty(written) == without_empty(parsed.document)
        lost = PRUNED.get((path.name, document["metadata"]["name"]))
        if lost is None:
            assert without_empty(parsed.document) == without_empty(document)
        else:
            assert parsed.warnings[0].startswith(f'unknown field "{lost}"')


@pytest.mark.parametrize("path", samples(), ids=lambda path: path.stem)
def test_admission_of_what_was_admitted_changes_nothing(path: Path):
    if not path.exists():
        pytest.skip("../shared is absent")
    for document in documents(path.read_text()):
        if (path.name, document["metadata"]["name"]) in REFUSED:
            continue
        first = admit(document)
        assert admit(first.document, first.object).document == first.document
