"""A queue of a real RabbitMQ takes real processes from 0 to 3 and back: the whole platform, driven by kubectl."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from platform_process import Platform, running_platform, until

from event_sources import Rabbit

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
MANIFEST = """
apiVersion: v1
kind: Secret
metadata: {{name: rabbitmq}}
stringData: {{host: "{host}"}}
---
apiVersion: keda.sh/v1alpha1
kind: TriggerAuthentication
metadata: {{name: rabbitmq}}
spec:
  secretTargetRef:
    - {{parameter: host, name: rabbitmq, key: host}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: worker}}
spec:
  replicas: 0
  selector: {{matchLabels: {{app: worker}}}}
  template:
    metadata: {{labels: {{app: worker}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - {{name: main, image: worker, command: [sleep, "600"]}}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {{name: worker}}
spec:
  scaleTargetRef: {{name: worker}}
  pollingInterval: 1
  cooldownPeriod: 3
  maxReplicaCount: 8
  triggers:
    - type: rabbitmq
      metadata: {{queueName: jobs, mode: QueueLength, value: "4"}}
      authenticationRef: {{name: rabbitmq}}
"""


@pytest.fixture
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running_platform(tmp_path_factory.mktemp("home"), "--no-quickstart") as platform:
        yield platform


def ready(platform: Platform) -> int:
    pods = platform.objects("pods", "app=worker")
    return sum(
        any(
            c["type"] == "Ready" and c["status"] == "True"
            for c in pod.get("status", {}).get("conditions", ())
        )
        for pod in pods
    )


def test_messages_take_processes_from_0_to_3_and_back(rabbitmq: Rabbit, bare: Platform) -> None:
    rabbitmq.declare("jobs")
    bare.kubectl("apply", "-f", "-", stdin=MANIFEST.format(host=rabbitmq.amqp_url))
    bare.kubectl("wait", "--for=condition=Ready", "so/worker", "--timeout=60s")
    assert ready(bare) == 0
    rabbitmq.publish("jobs", 11)
    started = time.monotonic()
    until("one worker runs", lambda: ready(bare) >= 1, 60)
    first_s = time.monotonic() - started
    until("three workers run", lambda: ready(bare) == 3, 60)
    three_s = time.monotonic() - started
    shown = bare.kubectl("get", "so", "worker").stdout
    assert "apps/v1.Deployment" in shown
    assert "rabbitmq" in shown
    rabbitmq.purge("jobs")
    started = time.monotonic()
    until("no worker runs", lambda: not bare.objects("pods", "app=worker"), 60)
    print(f"first worker {first_s:.1f} s, third {three_s:.1f} s, none {time.monotonic() - started:.1f} s")
    told = ("KEDAScaleTargetActivated", "KEDAScaleTargetDeactivated")

    def said() -> str:
        described = bare.kubectl("describe", "so", "worker").stdout
        return described if all(word in described for word in told) else ""

    assert "guest" not in until("both are told", said)
    bare.kubectl("delete", "so", "worker", "--timeout=55s")
    until("no autoscaler is left", lambda: bare.objects("hpa") == [])
