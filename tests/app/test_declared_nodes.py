from __future__ import annotations

import pytest

from penstock.app.declared_nodes import declared_gpus, node_template
from penstock.app.node_settings import DeclaredGpus, DeclaredNode
from penstock.app.settings import load
from penstock.kit.errors import InvalidInput


def node(*gpus: DeclaredGpus, **more: object) -> DeclaredNode:
    return DeclaredNode(name="a", gpus=gpus, **more)


def test_gpus_of_several_types_are_numbered_through_and_keep_their_uuids() -> None:
    declared = node(DeclaredGpus(type="h100", count=2), DeclaredGpus(type="nvidia-l4"))
    found = declared_gpus(declared)
    assert [(gpu.index, gpu.type.name) for gpu in found] == [(0, "h100-80gb"), (1, "h100-80gb"), (2, "l4")]
    assert len({gpu.uuid for gpu in found}) == 3
    assert declared_gpus(declared) == found == node_template(declared).gpus


def test_instances_lie_where_they_fit_together_also_where_first_fit_would_fail() -> None:
    (gpu,) = declared_gpus(
        node(DeclaredGpus(type="a100-80gb", mig={"1g.10gb": 2, "2g.20gb": 1, "3g.40gb": 1}))
    )
    assert sorted((one.profile, one.start) for one in gpu.instances if one.profile == "3g.40gb") == [
        ("3g.40gb", 4)
    ]
    assert len({one.uuid for one in gpu.instances}) == 4
    assert gpu.is_mig


def test_an_empty_layout_is_partitioned_as_pods_need_it() -> None:
    (gpu,) = declared_gpus(node(DeclaredGpus(type="a100-80gb", mig={})))
    assert (gpu.is_mig, gpu.instances) == (True, ())


def test_sharing_is_written_as_for_the_device_plugin() -> None:
    sharing = {"mps": {"resources": [{"name": "nvidia.com/gpu", "replicas": 4}]}}
    (gpu,) = declared_gpus(node(DeclaredGpus(type="t4"), sharing=sharing))
    assert (gpu.sharing.strategy, gpu.sharing.replicas) == ("mps", 4)


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        (node(DeclaredGpus(type="h101")), r"nodes\[a\].gpus\[0\].type: there is no type of GPU 'h101'"),
        (node(DeclaredGpus(type="t4", count=0)), r"gpus\[0\].count: found 0"),
        (node(DeclaredGpus(type="t4", mig={})), "t4 cannot be partitioned"),
        (node(DeclaredGpus(type="a30", mig={"1g.5gb": 1})), "a30 has no MIG profile '1g.5gb'"),
        (node(DeclaredGpus(type="a30", mig={"2g.12gb": 1, "4g.24gb": 1})), "do not fit together on a30"),
        (node(DeclaredGpus(type="a30"), mig_strategy="none"), "expected single or mixed"),
        (node(DeclaredGpus(type="a30"), sharing={"mps": {"resources": []}}), r"nodes\[a\].sharing.mps.resources: found 0"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_by_its_field(declared: DeclaredNode, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        declared_gpus(declared)


def test_the_settings_file_is_checked_when_it_is_read(tmp_path) -> None:
    (tmp_path / "config.yaml").write_text("nodes: [{name: a, gpus: [{type: h100-80bg}]}]")
    with pytest.raises(InvalidInput, match="there is no type of GPU 'h100-80bg'"):
        load({"PENSTOCK_HOME": str(tmp_path)})
    (tmp_path / "config.yaml").write_text("devicePluginConfig: plugin")
    with pytest.raises(InvalidInput, match="expected NAMESPACE/NAME"):
        load({"PENSTOCK_HOME": str(tmp_path)})
