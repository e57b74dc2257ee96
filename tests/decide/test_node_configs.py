from __future__ import annotations

import pytest
import yaml

from penstock.app.declared_nodes import declared_gpus
from penstock.app.node_settings import DeclaredGpus, DeclaredNode
from penstock.contracts.devices import UNSHARED, Sharing
from penstock.decide.device_plugin import read_plugin_config
from penstock.decide.node_configs import config_name, mig_configs, plugin_configs, plugin_document

LAYOUT = {"1g.10gb": 2, "2g.20gb": 1, "3g.40gb": 1}
BIG = DeclaredNode(
    name="big",
    gpus=(DeclaredGpus(type="h100-80gb", count=2), DeclaredGpus(type="a100-80gb", mig=LAYOUT)),
)
TWIN = DeclaredNode(name="twin", gpus=BIG.gpus)
SHARED = DeclaredNode(
    name="shared",
    gpus=(DeclaredGpus(type="l4", count=2),),
    sharing={
        "timeSlicing": {"renameByDefault": True, "resources": [{"name": "nvidia.com/gpu", "replicas": 4}]}
    },
)
PLAIN = DeclaredNode(name="plain", gpus=(DeclaredGpus(type="l4"),))
NODES = {node.name: declared_gpus(node) for node in (BIG, TWIN, SHARED, PLAIN)}


def test_the_mig_manager_gets_the_declared_layouts_under_the_key_that_it_reads():
    found = mig_configs(NODES)
    assert found.map is not None
    assert list(found.map.data) == ["config.yaml"]
    document = yaml.safe_load(found.map.data["config.yaml"])
    assert document["version"] == "v1"
    layout = found.labels["big"]["nvidia.com/mig.config"]
    assert found.labels == {name: {"nvidia.com/mig.config": layout} for name in ("big", "twin")}
    assert document["mig-configs"][layout] == [
        {"devices": [0, 1], "mig-enabled": False},
        {"devices": [2], "mig-enabled": True, "mig-devices": LAYOUT},
    ]
    assert "all-disabled" in document["mig-configs"]


def test_nodes_choose_the_device_plugins_configuration_by_what_it_says():
    found = plugin_configs(
        NODES, [Sharing(strategy="mps", replicas=3, resource="nvidia.com/gpu.shared", refuses_many=True)]
    )
    assert found.map is not None
    labels = {name: chosen["nvidia.com/device-plugin.config"] for name, chosen in found.labels.items()}
    assert labels["big"] == labels["twin"] == "mig-mixed"
    assert "plain" not in labels
    assert set(found.map.data) == {"mps-3", "mig-mixed", labels["shared"]}
    for name, gpus in NODES.items():
        if name in labels:
            config = read_plugin_config(found.map.data[labels[name]])
            assert config.mistakes == ()
            assert config.sharing == next(gpu.sharing for gpu in gpus if not gpu.is_mig)


@pytest.mark.parametrize("strategy", ["time-slicing", "mps"])
@pytest.mark.parametrize("resource", ["nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/gpu.part"])
@pytest.mark.parametrize("refuses", [True, False])
def test_a_written_configuration_is_read_back_as_what_it_was(strategy, resource, refuses):
    sharing = Sharing(
        strategy=strategy, replicas=5, resource=resource, refuses_many=refuses or strategy == "mps"
    )
    text = yaml.safe_dump(plugin_document(sharing, "single"))
    config = read_plugin_config(text)
    assert (config.mistakes, config.sharing, config.mig_strategy) == ((), sharing, "single")


def test_configurations_that_differ_have_names_that_differ():
    every = [
        (Sharing(strategy=strategy, replicas=replicas, resource=resource, refuses_many=refuses), mig)
        for strategy in ("mps", "time-slicing")
        for replicas in (2, 4)
        for resource in ("nvidia.com/gpu", "nvidia.com/gpu.shared")
        for refuses in ((True, False) if strategy == "time-slicing" else (True,))
        for mig in ("mixed", "single")
    ]
    every += [(UNSHARED, "mixed"), (UNSHARED, "single")]
    assert len({config_name(sharing, mig) for sharing, mig in every}) == len(every)


def test_where_nothing_is_declared_nothing_is_configured():
    plain = {"plain": NODES["plain"]}
    assert (mig_configs(plain).map, plugin_configs(plain).map) == (None, None)
