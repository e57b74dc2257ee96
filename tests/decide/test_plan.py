"""What follows from a service: for every component that it has, and for those that it had."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
from worlds import NOW, offers, runtime, service, stored

from penstock.decide.plan import ComponentPlan, Surroundings, plan_service
from penstock.decide.rollout import Rollout
from penstock.resources import rollout as rollouts
from penstock.resources.autoscaler_config import DEFAULTS
from penstock.resources.meta import ObjectMeta, OwnerReference
from penstock.resources.serving import ComponentStatus, InferenceService, InferenceServiceStatus
from penstock.resources.workload import Deployment

RUNTIME = runtime("r", offers("huggingface"))
OWN_CODE = {"containers": [{"name": "kserve-container", "image": "mine"}]}


def planned(subject: InferenceService, *deployments: Deployment) -> dict[str, ComponentPlan]:
    known = Surroundings("127.0.0.1:1", cluster_runtimes=(RUNTIME,), deployments=deployments)
    return {part.name: part for part in plan_service(subject, known, NOW).components}


def transformer_made(number: int = 1) -> Deployment:
    """The stored Deployment of a transformer's revision."""
    made = planned(service(transformer=OWN_CODE))["transformer"].rollout.create
    assert made is not None
    name = f"iris-transformer-{number:05d}"
    return stored(
        msgspec.structs.replace(made, metadata=msgspec.structs.replace(made.metadata, name=name)), ready=True
    )


def remembering(status: ComponentStatus, **spec: Any) -> InferenceService:
    """A service whose status holds this of its transformer."""
    known = InferenceServiceStatus(components={"transformer": status})
    return msgspec.structs.replace(service(**spec), status=known)


def test_a_service_without_a_transformer_plans_none() -> None:
    assert set(planned(service())) == {"predictor"}
    assert set(planned(service(transformer=OWN_CODE))) == {"predictor", "transformer"}


def test_what_a_removed_transformer_left_is_deleted_and_gets_no_traffic() -> None:
    last = ComponentStatus(latest_created_revision="iris-transformer-00002", latest_ready_revision="x-00002")
    rollout = planned(remembering(last), transformer_made(1), transformer_made(2))["transformer"].rollout
    assert rollout == Rollout(
        delete=("iris-transformer-00001", "iris-transformer-00002"),
        status=ComponentStatus(latest_created_revision="iris-transformer-00002"),
        reasons=(
            "iris-transformer-00001 goes, the service has no transformer any more",
            "iris-transformer-00002 goes, the service has no transformer any more",
        ),
    )


def test_a_removed_transformers_number_is_written_down_before_anything_goes() -> None:
    rollout = planned(service(), transformer_made(7))["transformer"].rollout
    assert (rollout.delete, rollout.again_s) == ((), 0.0)
    assert rollout.status == ComponentStatus(latest_created_revision="iris-transformer-00007")


def test_the_number_of_a_removed_transformer_is_kept_and_not_used_again() -> None:
    last = ComponentStatus(latest_created_revision="iris-transformer-00007")
    assert planned(remembering(last))["transformer"].rollout == Rollout(status=last)
    back = planned(remembering(last, transformer=OWN_CODE))["transformer"].rollout
    assert back.create is not None
    assert back.create.metadata.name == "iris-transformer-00008"


def test_a_namesakes_deployment_is_nobodys_to_delete() -> None:
    other = transformer_made()
    owner = OwnerReference(api_version="v1", kind="InferenceService", name="iris", uid="uid-before")
    other = msgspec.structs.replace(
        other, metadata=msgspec.structs.replace(other.metadata, owner_references=(owner,))
    )
    assert set(planned(service(), other)) == {"predictor"}


def test_revisions_that_are_compared_do_not_sleep() -> None:
    wished = service(minReplicas=0, annotations={"penstock.dev/rollout-steps": "10"})
    made = planned(wished)["predictor"].rollout.create
    assert made is not None
    for phase, least in (("Progressing", "1"), ("Promoted", "0")):
        rollout = rollouts.Rollout(
            metadata=ObjectMeta(name="iris-predictor"),
            spec=rollouts.RolloutSpec(service="iris", component="predictor"),
            status=rollouts.RolloutStatus(phase=phase, stable=made.metadata.name),
        )
        known = Surroundings(
            "127.0.0.1:1", cluster_runtimes=(RUNTIME,), deployments=(made,), rollouts=(rollout,)
        )
        [part] = plan_service(wished, known, NOW).components
        [scaler] = part.autoscalers
        assert scaler.metadata.annotations["autoscaling.knative.dev/min-scale"] == least


def test_one_that_may_begin_at_zero_is_not_sized_before_its_autoscaler_is_there() -> None:
    annotations = {"autoscaling.knative.dev/initial-scale": "0"}
    wished = service(minReplicas=0, annotations=annotations)
    allowed = replace(DEFAULTS, allow_zero_initial_scale=True)
    known = Surroundings("127.0.0.1:1", cluster_runtimes=(RUNTIME,), autoscaler=allowed)
    [part] = plan_service(wished, known, NOW).components
    made = part.rollout.create
    assert made is not None
    assert made.spec.replicas == 0
    [part] = plan_service(wished, replace(known, deployments=(made,)), NOW).components
    assert part.rollout.scale == ()
