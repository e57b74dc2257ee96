"""Volumes, addresses, limits and log files on a real file system."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from penstock.host.kubelet.addresses import Addresses
from penstock.host.kubelet.files import File, write_files
from penstock.host.kubelet.layout import Layout, PodRecord, segment
from penstock.host.kubelet.limits import find_limits
from penstock.host.kubelet.logfile import Format, LogReader
from penstock.host.kubelet.references import Missing, References
from penstock.host.kubelet.volumes import VolumeContext, prepare_volume
from penstock.kit.errors import Invalid, InvalidInput
from penstock.resources.core import (
    ConfigMap,
    PersistentVolumeClaim,
    PersistentVolumeClaimSpec,
    Secret,
    VolumeResourceRequirements,
)
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod import (
    ConfigMapVolumeSource,
    HostPathVolumeSource,
    KeyToPath,
    PersistentVolumeClaimVolumeSource,
    Pod,
    PodSpec,
    SecretVolumeSource,
    Volume,
)
from penstock.testing.factories import memory_cluster

META = ObjectMeta(name="a", namespace="default", labels={"tier": "gold"})


@pytest.fixture
async def context(tmp_path: Path) -> VolumeContext:
    cluster = memory_cluster()
    layout = Layout(tmp_path)
    await cluster.create(ConfigMap(metadata=META, data={"x.txt": "one", "y": "two"}))
    await cluster.create(Secret(metadata=META, data={"token": "czNjcmV0"}))
    size = VolumeResourceRequirements(requests={"storage": "1Gi"})
    wish = PersistentVolumeClaimSpec(access_modes=("ReadWriteOnce",), resources=size)
    await cluster.create(PersistentVolumeClaim(metadata=META, spec=wish))
    pod = Pod(metadata=META, spec=PodSpec(node_name="n"))
    return VolumeContext(layout, layout.pod("n", "uid"), pod, References(cluster, "default"), {"cpu": 4.0})


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_config_maps_and_secrets_become_files(context: VolumeContext) -> None:
    config = await prepare_volume(context, Volume(name="c", config_map=ConfigMapVolumeSource(name="a")))
    secret = await prepare_volume(context, Volume(name="s", secret=SecretVolumeSource(secret_name="a")))
    assert (config / "x.txt").read_text() == "one"
    assert (secret / "token").read_text() == "s3cret"
    assert mode(config / "x.txt") == 0o644
    assert mode(secret / "token") == 0o600
    assert mode(secret) == 0o700


async def test_items_choose_keys_paths_and_modes(context: VolumeContext) -> None:
    items = (KeyToPath(key="y", path="deep/er/file", mode=0o400),)
    volume = Volume(name="c", config_map=ConfigMapVolumeSource(name="a", items=items))
    root = await prepare_volume(context, volume)
    assert (root / "deep/er/file").read_text() == "two"
    assert mode(root / "deep/er/file") == 0o400
    assert not (root / "x.txt").exists()


async def test_projected_and_downward_volumes(context: VolumeContext) -> None:
    downward = {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}
    sources = [{"configMap": {"name": "a"}}, {"secret": {"name": "a"}}, {"downwardAPI": downward}]
    root = await prepare_volume(context, Volume(name="p", projected={"sources": sources}))
    assert sorted(path.name for path in root.iterdir() if not path.name.startswith("..")) == [
        "labels",
        "token",
        "x.txt",
        "y",
    ]
    assert (root / "labels").read_text() == 'tier="gold"'
    alone = await prepare_volume(context, Volume(name="d", downward_api=downward))
    assert (alone / "labels").read_text() == 'tier="gold"'


@pytest.mark.parametrize(
    ("volume", "error", "message"),
    [
        (Volume(name="v", config_map=ConfigMapVolumeSource(name="no")), Missing, 'configmap "no" not found'),
        (Volume(name="v", secret=SecretVolumeSource(secret_name="no")), Missing, 'secret "no" not found'),
        (
            Volume(
                name="v", config_map=ConfigMapVolumeSource(name="a", items=(KeyToPath(key="z", path="z"),))
            ),
            Missing,
            "couldn't find key z in ConfigMap a",
        ),
        (
            Volume(name="v", persistent_volume_claim=PersistentVolumeClaimVolumeSource(claim_name="no")),
            Missing,
            'persistentvolumeclaim "no" not found',
        ),
        (Volume(name="v", nfs={"server": "x"}), Invalid, "volume 'v': nfs is not supported"),
        (Volume(name="v", csi={"driver": "x"}), Invalid, "volume 'v': csi is not supported"),
        (Volume(name="v", projected={"sources": [{"serviceAccountToken": {}}]}), Invalid, "not supported"),
        (
            Volume(name="v", host_path=HostPathVolumeSource(path="/no/such", type="Directory")),
            Invalid,
            "is not a Directory",
        ),
        (
            Volume(name="v", host_path=HostPathVolumeSource(path="/tmp", type="Fiel")),
            Invalid,
            "is not a Fiel",
        ),
        (Volume(name=".."), InvalidInput, "cannot be a folder name"),
        (
            Volume(
                name="v", config_map=ConfigMapVolumeSource(name="a", items=(KeyToPath(key="y", path="../z"),))
            ),
            Invalid,
            "leads out of the volume",
        ),
    ],
)
async def test_what_cannot_be_mounted_says_why(
    context: VolumeContext, volume: Volume, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        await prepare_volume(context, volume)


async def test_optional_sources_may_be_missing_and_claims_outlive_pods(context: VolumeContext) -> None:
    source = ConfigMapVolumeSource(name="no", optional=True)
    root = await prepare_volume(context, Volume(name="v", config_map=source))
    assert [path.name for path in root.iterdir() if not path.name.startswith("..")] == []
    claim = PersistentVolumeClaimVolumeSource(claim_name="a")
    folder = await prepare_volume(context, Volume(name="w", persistent_volume_claim=claim))
    assert folder == context.layout.home / "volumes" / "default" / "a"
    assert folder.is_dir()


def test_files_are_replaced_in_one_step(tmp_path: Path) -> None:
    root = tmp_path / "v"
    write_files(root, {"a": File(b"1"), "old": File(b"1"), "sub/b": File(b"1", 0o640)})
    held = (root / "..data").resolve()
    write_files(root, {"a": File(b"1"), "old": File(b"1"), "sub/b": File(b"1", 0o640)})
    assert (root / "..data").resolve() == held, "nothing changed, nothing written"
    write_files(root, {"a": File(b"2"), "new": File(b"2")})
    assert sorted(path.name for path in root.iterdir() if not path.name.startswith("..")) == ["a", "new"]
    assert (root / "a").read_bytes() == b"2"
    assert not held.exists()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b"])
def test_names_never_lead_elsewhere(name: str) -> None:
    with pytest.raises(InvalidInput):
        segment(name)


def test_pod_records_survive_and_broken_ones_are_none(tmp_path: Path) -> None:
    folder = Layout(tmp_path).pod("n", "u")
    record = PodRecord("ns", "name", "u", "127.9.0.1", 12.5)
    assert folder.read() is None
    folder.write(record)
    assert folder.read() == record
    (folder.path / "pod.json").write_text('{"namespace"')
    assert folder.read() is None


def test_addresses_are_unique_stable_and_avoid_ports_in_use(tmp_path: Path) -> None:
    addresses = Addresses(tmp_path)
    first = addresses.take("u1", [18090])
    second = addresses.take("u2", [18090])
    if first == "127.0.0.1":
        pytest.skip("this system has one loopback address")
    assert first != second
    assert Addresses(tmp_path).take("u1", [18090]) == first, "the same after a restart"
    assert addresses.take("u1", [18090], first) == first
    assert addresses.take("u3", [], second) not in {first, second}
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((first, 18090))
        other.listen()
        moved = addresses.take("u1", [18090], first)
        assert moved != first
        assert addresses.take("u1", [18090], first, in_use=True) == first, "its own processes hold the port"
    addresses.release("u1")
    assert addresses.take("u1", [18090]) == first


def test_two_data_folders_use_different_blocks(tmp_path: Path) -> None:
    blocks = {Addresses(tmp_path / str(n)).take("u", []).split(".")[1] for n in range(12)}
    assert len(blocks) > 6


def test_limits_are_written_where_groups_can_be_made(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("1:name=systemd:/x\n0::/user.slice/app.scope\n")
    root = tmp_path / "cgroup"
    for folder in (root, root / "user.slice", root / "user.slice" / "app.scope"):
        folder.mkdir()
        (folder / "cgroup.subtree_control").write_text("cpu memory")
    assert "no unified control groups" in find_limits(tmp_path, root, own).why
    (root / "cgroup.controllers").write_text("cpu memory")
    limits = find_limits(tmp_path, root, own)
    assert limits.base and limits.base.parent == root / "user.slice"
    group = limits.enter("u", "c", {"cpu": "1500m", "memory": "64Mi", "nvidia.com/gpu": 1})
    assert group
    assert (group / "cpu.max").read_text() == "150000 100000"
    assert (group / "memory.max").read_text() == str(64 * 1024 * 1024)
    assert limits.enter("u", "d", {}) is None
    assert not limits.was_out_of_memory("u", "c")
    (group / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    assert limits.was_out_of_memory("u", "c")


def line(second: int, text: str, stream: str = "stdout", tag: str = "F") -> bytes:
    return f"2026-01-01T00:00:{second:02d}.000000000Z {stream} {tag} {text}\n".encode()


def read_all(reader: LogReader) -> bytes:
    return b"".join(iter(reader.read, b""))


def test_a_reader_follows_a_log_across_any_number_of_rotations(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(line(1, "a"))
    reader = LogReader(log)
    assert read_all(reader) == line(1, "a")
    with log.open("ab") as file:
        file.write(line(2, "b"))
    for number, text in ((3, "c"), (4, "d")):
        if (tmp_path / "log.1").exists():
            (tmp_path / "log.1").rename(tmp_path / "log.2")
        log.rename(tmp_path / "log.1")
        log.write_bytes(line(number, text))
    assert read_all(reader) == line(2, "b") + line(3, "c") + line(4, "d")
    with log.open("ab") as file:
        file.write(line(5, "e")[:-3])
    assert reader.read() == b""
    with log.open("ab") as file:
        file.write(line(5, "e")[-3:])
    assert reader.read() == line(5, "e")
    reader.close()


@pytest.mark.parametrize(
    ("count", "expected"), [(0, ""), (1, "d"), (2, "cd"), (3, "bcd"), (4, "abcd"), (9, "abcd")]
)
def test_tail_counts_lines_across_files(tmp_path: Path, count: int, expected: str) -> None:
    (tmp_path / "log.1").write_bytes(line(1, "a") + line(2, "b"))
    (tmp_path / "log").write_bytes(line(3, "c") + line(4, "d"))
    reader = LogReader(tmp_path / "log", count)
    assert read_all(reader) == b"".join(line(1 + "abcd".index(text), text) for text in expected)
    reader.close()


def test_a_missing_log_is_empty(tmp_path: Path) -> None:
    assert LogReader(tmp_path / "log").read() == b""


def test_pieces_of_a_line_are_joined_and_stamped_once() -> None:
    raw = line(1, "he", tag="P") + line(1, "err", "stderr") + line(2, "llo") + line(3, "")
    assert Format().text(raw) == b"heerr\nllo\n\n"
    stamped = Format(timestamps=True).text(line(1, "he", tag="P") + line(2, "llo"))
    assert stamped == b"2026-01-01T00:00:01.000000000Z hello\n"


def test_since_leaves_older_lines_out() -> None:
    since = 1767225602.5  # 2026-01-01T00:00:02.5Z
    assert Format(since=since).text(line(1, "a") + line(2, "b") + line(3, "c")) == b"b\nc\n"
