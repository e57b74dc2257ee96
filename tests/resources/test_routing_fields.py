"""The reference of RoutingProfile is whole, and its defaults are those that hold."""

from __future__ import annotations

import msgspec

from penstock.contracts.exchange import RoutingRoute
from penstock.resources import routing
from penstock.resources.routing_fields import FIELDS, part_rows
from penstock.resources.routing_plugins import PARTS

TOLD = {field: default for field, default, _, _ in FIELDS}
CLASS = "spec.promptClasses.{short,long,batch}."


def fields(kind: type, path: str) -> set[str]:
    return {f"{path}{one.encode_name}" for one in msgspec.structs.fields(kind)}


def test_every_field_of_a_profile_is_told() -> None:
    parts = ("filters", "scorers", "picker", "promptClasses", "kvIndex", "flow", "prewarm", "disaggregation")
    wanted = fields(routing.RoutingProfileSpec, "spec.") - {f"spec.{name}" for name in parts}
    wanted |= fields(routing.RoutingPlugin, "spec.filters[].") | fields(routing.RoutingPlugin, "spec.picker.")
    wanted |= fields(routing.RoutingScorer, "spec.scorers[].") | fields(routing.PromptClassSpec, CLASS)
    wanted |= fields(routing.KvIndexSpec, "spec.kvIndex.") | {"spec.promptClasses.thresholdTokens"}
    wanted |= fields(routing.FlowSpec, "spec.flow.") | fields(routing.PrewarmSpec, "spec.prewarm.")
    wanted |= fields(routing.DisaggregationSpec, "spec.disaggregation.")
    annotations = (routing.PROFILE, routing.PROFILE_CANARY, routing.PREFILL_FOR)
    assert set(TOLD) == wanted | {f"annotation {one}" for one in annotations}


def test_the_defaults_that_are_told_are_those_of_the_built_in_profile() -> None:
    built_in = RoutingRoute()
    assert TOLD["spec.filters[].name"] == ", ".join(one.name for one in built_in.filters)
    assert TOLD["spec.scorers[].name"] == ", ".join(one.name for one in built_in.scorers)
    assert TOLD["spec.picker.name"] == built_in.picker.name
    assert TOLD["spec.promptClasses.thresholdTokens"] == str(built_in.prompt_token_threshold)
    assert TOLD["spec.kvIndex.blockTokens"] == str(built_in.block_tokens)


def test_every_part_and_parameter_has_a_row() -> None:
    for family, parts in PARTS.items():
        assert len(list(part_rows(family))) == len(parts) + sum(len(one.parameters) for one in parts.values())
