"""What is usual is worked out again when enough has arrived, and only then: what is remembered of nodes holds for as long."""

from __future__ import annotations

from penstock.contracts.devices import DeviceRequest, Gpu, GpuType
from penstock.host.usual_work import RELEARN_AT, UsualWork
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod import Pod

T4 = GpuType(name="t4", product="Tesla-T4", memory_bytes=16 << 30)
GPUS = (Gpu(index=0, uuid="g", type=T4),)
ASKED = (DeviceRequest(resource="nvidia.com/gpu"),)


def learn(usual: UsualWork, count: int) -> None:
    pods = [Pod(metadata=ObjectMeta(name=f"p{i}", uid=f"p{i}")) for i in range(count)]
    usual.learn(pods, {pod.metadata.uid: ASKED for pod in pods}, GPUS, 0.0)


def test_the_first_pods_count_at_once() -> None:
    usual = UsualWork()
    nothing = usual.worth(GPUS)
    assert nothing.mix.shapes == ()
    learn(usual, 1)
    assert usual.worth(GPUS).mix.shapes != ()


def test_of_many_pods_a_few_more_change_nothing() -> None:
    usual = UsualWork()
    learn(usual, 200)
    known = usual.worth(GPUS)
    learn(usual, 201)
    assert usual.worth(GPUS) is known
    learn(usual, 200 + 1 + int(201 * RELEARN_AT) + 1)
    assert usual.worth(GPUS) is not known


def test_other_gpus_change_what_all_are_worth() -> None:
    usual = UsualWork()
    learn(usual, 200)
    known = usual.worth(GPUS)
    assert usual.worth((*GPUS, Gpu(index=1, uuid="h", type=T4))) is not known
