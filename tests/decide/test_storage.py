"""Models reach the pod as KServe's do: fetched by an init container, or mounted from a claim."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.storage import (
    INITIALIZER,
    INITIALIZER_IMAGE,
    MODELS,
    VOLUME,
    Fetcher,
    Source,
    choose_fetcher,
    common_folder,
    sources_of,
    with_models,
)
from penstock.resources.pod import Container, EnvVar, PodSpec
from penstock.resources.runtime import ClusterStorageContainer
from penstock.resources.serving import StorageUri

MAIN = "kserve-container"


def container(**env: str) -> Container:
    return Container(name=MAIN, env=tuple(EnvVar(name=name, value=value) for name, value in env.items()))


def bringer(
    name: str, *formats: dict[str, str], disabled: bool = False, **spec: Any
) -> ClusterStorageContainer:
    """A ClusterStorageContainer whose image is its name."""
    own = {"name": "any", "image": name, "args": ["unused"], "env": [{"name": "OWN", "value": "1"}]}
    document = {
        "metadata": {"name": name},
        "spec": {"container": own, "supportedUriFormats": list(formats), **spec},
        "disabled": disabled,
    }
    return msgspec.convert(document, ClusterStorageContainer)


def placed(*sources: tuple[str, str], **how: Any) -> PodSpec:
    pod = PodSpec(
        containers=(container(), Container(name="other")), init_containers=(Container(name="own-init"),)
    )
    fetcher = how.pop("fetcher", Fetcher())
    return with_models(pod, MAIN, tuple(Source(*source) for source in sources), fetcher.container, **how)


def chosen(*uris: str, containers: tuple[ClusterStorageContainer, ...], named: str | None = None) -> Fetcher:
    sources = tuple(Source(uri, f"/mnt/models/{number}") for number, uri in enumerate(uris))
    return choose_fetcher(sources, containers, named)


@pytest.mark.parametrize(
    ("uri", "uris", "env", "expected"),
    [
        ("hf://a/b", (), {}, [("hf://a/b", MODELS)]),
        ("hf://a/b", (), {"STORAGE_URI": "s3://x/y"}, [("hf://a/b", MODELS)]),
        (None, (("s3://x/y", None),), {}, [("s3://x/y", MODELS)]),
        (
            None,
            (("s3://x/y", "/mnt/a"), ("gs://z", "/mnt/b")),
            {},
            [("s3://x/y", "/mnt/a"), ("gs://z", "/mnt/b")],
        ),
        (None, (), {"STORAGE_URI": "s3://x/y", "OTHER": "z"}, [("s3://x/y", MODELS)]),
        (None, (), {"STORAGE_URI": ""}, []),
        (None, (), {}, []),
    ],
    ids=["model", "model before env", "list with default", "list", "env", "empty env", "none"],
)
def test_where_the_files_come_from(
    uri: str | None, uris: tuple[Any, ...], env: dict[str, str], expected: list[tuple[str, str]]
) -> None:
    listed = tuple(StorageUri(uri=one, mount_path=path) for one, path in uris)
    assert [(s.uri, s.path) for s in sources_of(uri, listed, container(**env))] == expected


def test_without_sources_the_pod_stays_as_it_is() -> None:
    pod = PodSpec(containers=(container(STORAGE_URI="kept"),))
    assert with_models(pod, MAIN, (), Fetcher().container) is pod


@pytest.mark.parametrize("read_only", [True, False])
def test_one_source_is_fetched_into_a_volume_that_the_main_container_alone_sees(read_only: bool) -> None:
    secret = (EnvVar(name="HF_TOKEN", value="t"),)
    pod = placed(("hf://a/b", MODELS), read_only=read_only, secret_env=secret)
    first, own = pod.init_containers
    assert own.name == "own-init"
    assert (first.name, first.image, first.args) == (INITIALIZER, INITIALIZER_IMAGE, ("hf://a/b", MODELS))
    assert first.termination_message_policy == "FallbackToLogsOnError"
    assert first.env == secret
    [written] = first.volume_mounts
    assert (written.name, written.mount_path, written.read_only) == (VOLUME, MODELS, None)
    main, other = pod.containers
    [read] = main.volume_mounts
    assert (read.name, read.mount_path, read.read_only) == (VOLUME, MODELS, read_only)
    assert main.env == other.env == (), "credentials stay with the initializer"
    assert other.volume_mounts == ()
    [volume] = pod.volumes
    assert volume.name == VOLUME
    assert volume.empty_dir is not None


def test_several_sources_share_one_initializer_and_one_volume_at_their_common_folder() -> None:
    pod = placed(("hf://a/b", "/mnt/x/base"), ("s3://c/d", "/mnt/x/adapters/one"))
    assert pod.init_containers[0].args == ("hf://a/b", "/mnt/x/base", "s3://c/d", "/mnt/x/adapters/one")
    assert [m.mount_path for m in pod.init_containers[0].volume_mounts] == ["/mnt/x"]
    assert [m.mount_path for m in pod.containers[0].volume_mounts] == ["/mnt/x"]
    assert len(pod.volumes) == 1


@pytest.mark.parametrize(
    ("uri", "claim", "folder"),
    [
        ("pvc://c", "c", ""),
        ("pvc://c/", "c", ""),
        ("pvc://c/a", "c", "a"),
        ("pvc://c/a/b/", "c", "a/b"),
    ],
)
def test_a_claim_is_mounted_and_nothing_is_fetched(uri: str, claim: str, folder: str) -> None:
    pod = placed((uri, MODELS))
    assert [c.name for c in pod.init_containers] == ["own-init"]
    [volume] = pod.volumes
    assert volume.persistent_volume_claim is not None
    assert (volume.name, volume.persistent_volume_claim.claim_name) == ("kserve-pvc-source", claim)
    [mount] = pod.containers[0].volume_mounts
    assert (mount.name, mount.mount_path, mount.read_only) == ("kserve-pvc-source", MODELS, True)
    assert (mount.sub_path or "") == folder


def test_claims_and_fetched_sources_go_together() -> None:
    pod = placed(("pvc://one", "/mnt/a"), ("hf://a/b", "/mnt/b"), ("pvc://two/x", "/mnt/c"))
    assert [v.name for v in pod.volumes] == ["kserve-pvc-source", "kserve-pvc-source-1", VOLUME]
    assert [(m.name, m.mount_path) for m in pod.containers[0].volume_mounts] == [
        ("kserve-pvc-source", "/mnt/a"),
        ("kserve-pvc-source-1", "/mnt/c"),
        (VOLUME, "/mnt/b"),
    ]
    assert pod.init_containers[0].args == ("hf://a/b", "/mnt/b")


def test_storage_uri_of_a_custom_container_tells_where_the_files_are() -> None:
    pod = PodSpec(containers=(container(STORAGE_URI="s3://b/m", OTHER="kept"),))
    sources = sources_of(None, (), pod.containers[0])
    [main] = with_models(pod, MAIN, sources, Fetcher().container).containers
    assert {e.name: e.value for e in main.env} == {"STORAGE_URI": MODELS, "OTHER": "kept"}


@pytest.mark.parametrize(
    ("name", "containers", "uris", "expected"),
    [
        ("prefix", (bringer("own", {"prefix": "gs://"}),), ("gs://m",), "own"),
        ("other prefix", (bringer("own", {"prefix": "gs://"}),), ("s3://m",), INITIALIZER_IMAGE),
        ("second prefix", (bringer("own", {"prefix": "a://"}, {"prefix": "b://"}),), ("b://m",), "own"),
        ("regex", (bringer("own", {"regex": "https://[^/]+/models/.*"}),), ("https://h/models/a",), "own"),
        (
            "other regex",
            (bringer("own", {"regex": "^https://h/models/"}),),
            ("https://h/x",),
            INITIALIZER_IMAGE,
        ),
        ("broken regex", (bringer("own", {"regex": "("}),), ("(",), INITIALIZER_IMAGE),
        ("nothing", (bringer("own", {}),), ("gs://m",), INITIALIZER_IMAGE),
        (
            "first of two",
            (bringer("own", {"prefix": "gs://"}), bringer("two", {"prefix": "gs://"})),
            ("gs://m",),
            "own",
        ),
        (
            "not the disabled",
            (bringer("own", {"prefix": "gs://"}, disabled=True), bringer("two", {"prefix": "gs://"})),
            ("gs://m",),
            "two",
        ),
        (
            "not that of jobs",
            (bringer("own", {"prefix": "gs://"}, workloadType="localModelDownloadJob"),),
            ("gs://m",),
            INITIALIZER_IMAGE,
        ),
        (
            "by its type",
            (bringer("own", {"prefix": "gs://"}, workloadType="initContainer"),),
            ("gs://m",),
            "own",
        ),
        ("not for several", (bringer("own", {"prefix": "gs://"}),), ("gs://m", "gs://n"), INITIALIZER_IMAGE),
        (
            "for several",
            (bringer("own", {"prefix": "gs://"}, supportsMultiModelDownload=True),),
            ("gs://m", "gs://n"),
            "own",
        ),
        (
            "for all or none",
            (bringer("own", {"prefix": "gs://"}, supportsMultiModelDownload=True),),
            ("gs://m", "s3://n"),
            INITIALIZER_IMAGE,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and "/" not in value else "",
)
def test_which_storage_container_brings_it(
    name: str, containers: tuple[ClusterStorageContainer, ...], uris: tuple[str, ...], expected: str
) -> None:
    assert chosen(*uris, containers=containers).container.image == expected, name


OWN = bringer("own", {"prefix": "gs://"})
MINE = bringer("mine", {"prefix": "mine://"})


@pytest.mark.parametrize("uri", ["gs://m", "mine://m", "hf://a/b", "of-no-kind"])
def test_the_storage_container_that_is_named_brings_any_uri(uri: str) -> None:
    assert chosen(uri, containers=(OWN, MINE), named="mine") == Fetcher(MINE.spec.container)


@pytest.mark.parametrize(
    ("name", "containers", "uris", "why"),
    [
        ("mime", (OWN, MINE), ("gs://m",), "is not found (there is mine)"),
        ("other", (OWN, MINE), ("gs://m",), "is not found (there is mine, own)"),
        ("mine", (), ("gs://m",), "is not found (there is none)"),
        ("off", (OWN, bringer("off", disabled=True)), ("gs://m",), "is disabled"),
        (
            "job",
            (bringer("job", workloadType="localModelDownloadJob"),),
            ("gs://m",),
            "is for localModelDownloadJob, not for pods (workloadType initContainer)",
        ),
        ("mine", (MINE,), ("a://m", "b://m"), "brings one source, not 2 (supportsMultiModelDownload)"),
    ],
)
def test_one_that_is_named_and_cannot_bring_it_is_a_failure_and_no_other_takes_its_place(
    name: str, containers: tuple[ClusterStorageContainer, ...], uris: tuple[str, ...], why: str
) -> None:
    failure = chosen(*uris, containers=containers, named=name).failure
    assert failure == f"storageContainerName: ClusterStorageContainer {name!r} {why}"


def test_nobody_is_asked_for_when_nothing_is_to_be_fetched() -> None:
    assert chosen("pvc://claim", containers=(), named="mine") == Fetcher()
    assert chosen(containers=(), named="mine") == Fetcher()
    one_claim = chosen("pvc://claim", "mine://m", containers=(MINE,), named="mine")
    assert one_claim.container.image == "mine", "a claim is no second source to bring"


def test_a_storage_container_keeps_its_environment_and_gets_our_name_and_arguments() -> None:
    pod = placed(
        ("gs://m", MODELS),
        fetcher=chosen("gs://m", containers=(bringer("own", {"prefix": "gs://"}),)),
        secret_env=(EnvVar(name="KEY", value="k"),),
    )
    first = pod.init_containers[0]
    assert (first.name, first.image, first.args) == (INITIALIZER, "own", ("gs://m", MODELS))
    assert [e.name for e in first.env] == ["OWN", "KEY"]


FOLDERS = st.lists(st.sampled_from(["a", "b", "models"]), min_size=1, max_size=4).map("/".join)


@given(st.lists(FOLDERS.map("/mnt/{}".format), min_size=1, max_size=5))
def test_the_common_folder_holds_every_path_and_is_one_of_their_own_where_it_can(paths: list[str]) -> None:
    folder = common_folder(tuple(paths))
    assert all(path == folder or path.startswith(f"{folder}/") for path in paths)
    if len(set(paths)) == 1:
        assert folder == paths[0]
