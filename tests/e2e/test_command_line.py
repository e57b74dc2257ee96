"""`penstock` as a person and as a script use it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from platform_process import Platform, service, until

from penstock.cli.main import command_names

pytestmark = pytest.mark.timeout(180)


def run(platform: Platform, *arguments: str, code: int = 0, stdin: str | None = None) -> str:
    done = platform.penstock(*arguments, stdin=stdin)
    assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stderr


def test_a_service_lives_its_whole_life_without_kubectl(platform: Platform, tmp_path: Path) -> None:
    manifest = tmp_path / "life.json"
    manifest.write_text(service("life"))
    assert "created" in run(platform, "apply", "-f", str(manifest))
    assert "unchanged" in run(platform, "apply", "-f", str(manifest))
    platform.wait_ready("life")
    until("it answers", lambda: platform.ask("life").status_code == 200)
    table = run(platform, "get", "isvc", "life")
    assert table.splitlines()[0].startswith("NAME")
    assert "True" in table
    assert "REVISION" in run(platform, "get", "isvc", "-o", "wide")
    assert yaml.safe_load(run(platform, "get", "isvc", "life", "-o", "yaml"))["metadata"]["name"] == "life"
    assert json.loads(run(platform, "get", "isvc", "-o", "json"))["kind"] == "List"
    assert "inferenceservice" in run(platform, "get", "isvc", "-o", "name")

    def described() -> str:
        said = run(platform, "describe", "isvc", "life")
        return said if "InferenceServiceReady" in said else ""

    assert "Conditions:" in until("its Events tell that it is ready", described)
    explained = run(platform, "explain", "life")
    assert "Runtime: penstock-cpu" in explained
    assert "nothing, what is there is what is asked for" in explained
    until("its log says so", lambda: "serving life" in run(platform, "logs", "life"))
    assert "Penstock serves AI models" in run(platform, "chat", "life", "What is Penstock?")
    assert "deleted" in run(platform, "delete", "isvc", "life")
    until("its pods are gone", lambda: "life" not in run(platform, "get", "pods"))


def test_exit_codes_tell_scripts_what_happened(platform: Platform) -> None:
    assert "not found" in run(platform, "get", "isvc", "none", code=3)
    assert "did you mean" in run(platform, "get", "isvcz", code=3)
    assert "penstock explain request ID" in run(platform, "explain", "request", code=3)
    broken = service("x").replace("storageUri", "storageUrl")
    assert "storageUrl" in run(platform, "apply", "-f", "-", "--strict", code=5, stdin=broken)
    assert "no such file" in run(platform, "apply", "-f", "/none.yaml", code=3)
    assert "standard input: line" in run(platform, "apply", "-f", "-", code=5, stdin="a: [")
    run(platform, "apply", code=2)
    run(platform, "nonsense", code=2)


def test_a_cluster_that_cannot_be_reached_is_told_as_such(tmp_path: Path, platform: Platform) -> None:
    lost = Platform(tmp_path / "nobody")
    lost.environment["KUBECONFIG"] = str(tmp_path / "none")
    done = lost.penstock("get", "isvc")
    assert done.returncode == 4
    assert "penstock up" in done.stderr
    config = (platform.home / "kubeconfig").read_text()
    dead = tmp_path / "dead"
    dead.write_text(config.replace(str(platform.api_port), str(lost.api_port)))
    lost.environment["KUBECONFIG"] = str(dead)
    done = lost.penstock("get", "isvc")
    assert done.returncode == 4
    assert "Traceback" not in done.stderr


def test_render_needs_no_cluster_and_gives_what_the_control_plane_creates(
    platform: Platform, tmp_path: Path
) -> None:
    manifest = tmp_path / "m.json"
    manifest.write_text(service("quickstart"))
    rendered = yaml.safe_load(run(platform, "render", "-f", str(manifest)))
    there = next(
        d for d in platform.objects("deployments") if d["metadata"]["name"] == "quickstart-predictor-00001"
    )
    label = "penstock.dev/template-hash"
    assert rendered["metadata"]["labels"][label] == there["metadata"]["labels"][label]
    missing = service("x").replace('"huggingface"', '"none"')
    assert "nothing serves 'none'" in run(platform, "render", "-f", "-", code=5, stdin=missing)


def test_what_is_rendered_for_a_cluster_goes_into_kubectl(platform: Platform) -> None:
    given = Path(__file__).parents[1] / "cli" / "rendered" / "given.yaml"
    namespaces = ("ml", "gpu-operator", "kserve-localmodel-jobs")
    for namespace in namespaces:
        platform.kubectl("create", "namespace", namespace)
    for style in ("device-plugin", "dra"):
        rendered = run(platform, "render", "-f", str(given), "--for", style)
        # a machine's own volumes are folders, not objects; and a dry run makes no namespace for what comes after it
        documents = yaml.safe_load_all(rendered)
        kept = [one for one in documents if one["kind"] not in ("PersistentVolume", "Namespace")]
        said = platform.kubectl(
            "apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump_all(kept)
        ).stdout.splitlines()
        assert len(said) == len(kept)
        assert not [line for line in said if not line.endswith("created (server dry run)")]
    for namespace in namespaces:
        platform.kubectl("delete", "namespace", namespace)


def test_doctor_says_what_each_lack_means(platform: Platform) -> None:
    done = platform.penstock("doctor")
    assert done.returncode in (0, 1)
    said = done.stdout
    assert "vllm" in said
    assert "gpu" in said.lower()


def test_the_token_is_in_no_log_and_no_command_line(platform: Platform) -> None:
    token = (platform.home / "token").read_text().strip()
    for log in (platform.home / "logs").iterdir():
        assert token not in log.read_text()
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert token not in listed
    for private in ("token", "kubeconfig", "state/store.sqlite", "state/api.key"):
        path = platform.home / private
        if path.exists():
            assert path.stat().st_mode & 0o077 == 0, private


@pytest.mark.parametrize("name", command_names())
def test_every_command_helps_in_a_moment(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "penstock.cli.main", name, "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "Usage: penstock" in done.stdout
