"""What is usual is worked out again when it has become something else, and only then: what is remembered of nodes holds for as long."""

from __future__ import annotations

from penstock.contracts.devices import DeviceRequest, Gpu, GpuType
from penstock.host.usual_work import UsualWork
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod import Pod

T4 = GpuType(name="t4", product="Tesla-T4", memory_bytes=16 << 30)
GPUS = (Gpu(index=0, uuid="g", type=T4),)


def learn(usual: UsualWork, *counts: int) -> None:
    """As many pods as the first number that ask for one GPU, of the second for two, and so on."""
    asked = {
        f"{gpus}-{i}": (DeviceRequest(resource="nvidia.com/gpu", count=gpus),)
        for gpus, count in enumerate(counts, 1)
        for i in range(count)
    }
    pods = [Pod(metadata=ObjectMeta(name=uid, uid=uid)) for uid in asked]
    usual.learn(pods, asked, GPUS, 0.0)


def test_the_first_pods_count_at_once() -> None:
    usual = UsualWork()
    nothing = usual.worth(GPUS)
    assert nothing.mix.shapes == ()
    learn(usual, 1)
    assert usual.worth(GPUS).mix.shapes != ()


def test_of_many_pods_a_few_others_change_nothing() -> None:
    usual = UsualWork()
    learn(usual, 200)
    known = usual.worth(GPUS)
    learn(usual, 200, 4)
    assert usual.worth(GPUS) is known


def test_more_of_the_same_changes_nothing_however_many() -> None:
    usual = UsualWork()
    learn(usual, 200, 200)
    known = usual.worth(GPUS)
    learn(usual, 2000, 2000)
    assert usual.worth(GPUS) is known


def test_other_work_changes_what_is_usual_also_if_it_comes_little_by_little() -> None:
    usual = UsualWork()
    learn(usual, 200)
    known = usual.worth(GPUS)
    for others in range(1, 40):
        learn(usual, 200, others)
        usual.worth(GPUS)
    assert usual.worth(GPUS) is not known


def test_other_gpus_change_what_all_are_worth() -> None:
    usual = UsualWork()
    learn(usual, 200)
    known = usual.worth(GPUS)
    assert usual.worth((*GPUS, Gpu(index=1, uuid="h", type=T4))) is not known
