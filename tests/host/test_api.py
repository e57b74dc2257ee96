"""The API on one machine answers as Kubernetes answers."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest
from rest_cluster import TOKEN, api

from penstock.host.api.body import MAX_BODY_BYTES
from penstock.host.cluster import EmbeddedCluster
from penstock.resources.scheme import KINDS
from penstock.testing.factories import config_map, deployment, memory_cluster, pod

MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}


@pytest.fixture
def cluster() -> EmbeddedCluster:
    return memory_cluster()


@pytest.fixture
async def client(cluster: EmbeddedCluster) -> AsyncIterator[httpx.AsyncClient]:
    async with in_process(api(cluster)) as client:
        yield client


def in_process(app: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(
        transport=transport, base_url="http://127.0.0.1", headers={"Authorization": f"Bearer {TOKEN}"}
    )


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        ({"Authorization": ""}, 401, "Unauthorized"),
        ({"Authorization": "Bearer wrong"}, 401, "Unauthorized"),
        ({"Authorization": "Basic dGVzdC10b2tlbg=="}, 401, "Unauthorized"),
        ({"Host": "attacker.example"}, 403, "Forbidden"),
        ({"Host": "127.0.0.1.attacker.example:80"}, 403, "Forbidden"),
        ({"Origin": "http://127.0.0.1"}, 403, "Forbidden"),
    ],
)
async def test_strangers_and_web_pages_are_refused(
    client: httpx.AsyncClient, headers: dict[str, str], status: int, reason: str
) -> None:
    answer = await client.get(MAPS, headers=headers)
    assert (answer.status_code, answer.json()["reason"]) == (status, reason)


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/version"])
async def test_health_and_version_need_no_token_but_a_host_of_ours(
    client: httpx.AsyncClient, path: str
) -> None:
    assert (await client.get(path, headers={"Authorization": ""})).status_code == 200
    assert (await client.get(path, headers={"Host": "attacker.example"})).status_code == 403


async def test_errors_are_worded_as_kubernetes_words_them(client: httpx.AsyncClient) -> None:
    absent = (await client.get(f"{MAPS}/nope")).json()
    assert absent == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'configmaps "nope" not found',
        "reason": "NotFound",
        "details": {"name": "nope", "kind": "configmaps"},
        "code": 404,
    }
    assert (await client.get("/apis/nothing.example/v1/things")).json()["message"] == (
        "the server could not find the requested resource"
    )
    await client.post(MAPS, json={"metadata": {"name": "a"}})
    again = (await client.post(MAPS, json={"metadata": {"name": "a"}})).json()
    assert (again["reason"], again["message"]) == ("AlreadyExists", 'configmaps "a" already exists')
    stale = (await client.put(f"{MAPS}/a", json={"metadata": {"name": "a", "resourceVersion": "1"}})).json()
    assert stale["message"] == (
        'Operation cannot be fulfilled on configmaps "a": the object has been modified;'
        " please apply your changes to the latest version and try again"
    )


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"metadata": 3}', 400),
        (b'{"metadata": {"name": 3}}', 400),
        (b'{"metadata": {"name": "a", "namespace": "other"}}', 400),
        (b'{"kind": "Secret", "metadata": {"name": "a"}}', 400),
        (b'{"metadata": {}}', 422),
        (b'{"metadata": {"name": "Not A Name"}}', 422),
        (b'{"metadata": {"name": "a"}, "data": {"k": 5}}', 422),
    ],
)
async def test_a_bad_body_is_the_senders_fault(client: httpx.AsyncClient, body: bytes, status: int) -> None:
    answer = await client.post(MAPS, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.json()["kind"] == "Status"


async def test_a_body_beyond_the_limit_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post(MAPS, content=b"x" * (MAX_BODY_BYTES + 1))
    assert (answer.status_code, answer.json()["reason"]) == (413, "RequestEntityTooLarge")


async def test_a_method_or_media_type_that_is_not_taken_says_so(client: httpx.AsyncClient) -> None:
    assert (await client.post(f"{MAPS}/a", json={})).status_code == 405
    unknown = await client.post(MAPS, content=b"<a/>", headers={"Content-Type": "text/xml"})
    assert unknown.json()["reason"] == "UnsupportedMediaType"
    apply = await client.patch(
        f"{MAPS}/a", content=b"{}", headers={"Content-Type": "application/apply-patch+yaml"}
    )
    assert apply.status_code == 422
    assert "fieldManager" in apply.json()["message"]
    merge = {"Content-Type": "application/strategic-merge-patch+json"}
    service = "/apis/serving.kserve.io/v1beta1/namespaces/default/inferenceservices/a"
    strategic = await client.patch(service, content=b"{}", headers=merge)
    assert strategic.status_code == 415
    assert "accepted media types include" in strategic.json()["message"]


async def test_strategic_merge_patches_lists_by_their_keys(
    client: httpx.AsyncClient, cluster: EmbeddedCluster
) -> None:
    await cluster.create(deployment("web"))
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "other"}]}}}}
    answer = await client.patch(
        "/apis/apps/v1/namespaces/default/deployments/web",
        content=orjson.dumps(patch),
        headers={"Content-Type": "application/strategic-merge-patch+json"},
    )
    names = {container["name"] for container in answer.json()["spec"]["template"]["spec"]["containers"]}
    assert names == {"main", "side"}


async def test_a_table_has_kubectls_columns_and_each_objects_metadata(
    client: httpx.AsyncClient, cluster: EmbeddedCluster
) -> None:
    await cluster.create(pod("a"))
    table = (await client.get(PODS, headers=TABLE)).json()
    assert table["kind"] == "Table"
    shown = [column["name"] for column in table["columnDefinitions"] if column["priority"] == 0]
    assert shown == ["Name", "Ready", "Status", "Restarts", "Age"]
    (row,) = table["rows"]
    assert row["cells"][:4] == ["a", "0/1", "Pending", "0"]
    assert row["object"]["kind"] == "PartialObjectMetadata"
    assert row["object"]["metadata"]["name"] == "a"
    whole = (await client.get(PODS, params={"includeObject": "Object"}, headers=TABLE)).json()
    assert whole["rows"][0]["object"]["spec"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
async def test_every_kind_can_be_listed_plain_and_as_a_table(client: httpx.AsyncClient, kind: Any) -> None:
    root = f"/apis/{kind.api_version}" if "/" in kind.api_version else f"/api/{kind.api_version}"
    plain = (await client.get(f"{root}/{kind.plural}")).json()
    assert plain["kind"] == f"{kind.kind}List"
    table = (await client.get(f"{root}/{kind.plural}", headers=TABLE)).json()
    assert any(column["name"] == "Name" for column in table["columnDefinitions"])
    schema = (await client.get(f"/openapi/v3{root}")).json()["components"]["schemas"][kind.type.__name__]
    assert schema["x-kubernetes-group-version-kind"][0]["kind"] == kind.kind


async def test_unknown_fields_warn_fail_or_pass_as_the_client_asks(client: httpx.AsyncClient) -> None:
    body = {"metadata": {"name": "a"}, "dtaa": {"k": "v"}}
    warned = await client.post(MAPS, json=body, params={"dryRun": "All"})
    assert warned.status_code == 201
    assert "unknown field" in warned.headers["Warning"]
    ignored = await client.post(MAPS, json=body, params={"dryRun": "All", "fieldValidation": "Ignore"})
    assert "Warning" not in ignored.headers
    strict = await client.post(MAPS, json=body, params={"fieldValidation": "Strict"})
    assert strict.status_code == 400
    assert "unknown field" in strict.json()["message"]
    assert (await client.get(f"{MAPS}/a")).status_code == 404


async def test_a_collection_can_be_deleted_by_selector_and_in_a_dry_run(
    client: httpx.AsyncClient, cluster: EmbeddedCluster
) -> None:
    for name, tier in (("a", "x"), ("b", "y")):
        await cluster.create(config_map(name, labels={"tier": tier}))
    query = {"labelSelector": "tier=x"}
    tried = await client.request("DELETE", MAPS, params=query, json={"dryRun": ["All"]})
    assert [item["metadata"]["name"] for item in tried.json()["items"]] == ["a"]
    assert len((await client.get(MAPS)).json()["items"]) == 2
    await client.delete(MAPS, params=query)
    assert [item["metadata"]["name"] for item in (await client.get(MAPS)).json()["items"]] == ["b"]


async def test_discovery_names_every_kind_plain_and_aggregated(client: httpx.AsyncClient) -> None:
    found = set()
    for group in (await client.get("/apis")).json()["groups"]:
        for version in group["versions"]:
            listed = (await client.get(f"/apis/{version['groupVersion']}")).json()
            found |= {(version["groupVersion"], entry["name"]) for entry in listed["resources"]}
    found |= {("v1", entry["name"]) for entry in (await client.get("/api/v1")).json()["resources"]}
    assert {(kind.api_version, kind.plural) for kind in KINDS} <= found
    assert ("v1", "pods/log") in found
    accept = {
        "Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
    }
    aggregated = []
    for path in ("/api", "/apis"):
        for group in (await client.get(path, headers=accept)).json()["items"]:
            for version in group["versions"]:
                aggregated += [entry["responseKind"]["kind"] for entry in version["resources"]]
    assert {kind.kind for kind in KINDS} <= set(aggregated)


async def test_one_group_is_found_and_another_is_not(client: httpx.AsyncClient) -> None:
    assert (await client.get("/apis/apps")).json()["preferredVersion"]["version"] == "v1"
    for path in ("/apis/none.example", "/apis/apps/v9", "/api/v9", "/openapi/v3/apis/none/v1", "/nowhere"):
        assert (await client.get(path)).status_code == 404
        assert (await client.get(path)).json()["kind"] == "Status"


async def test_openapi_says_where_each_document_is_and_changes_its_address_with_it(
    client: httpx.AsyncClient,
) -> None:
    paths = (await client.get("/openapi/v3")).json()["paths"]
    assert "api/v1" in paths
    assert "apis/apps/v1" in paths
    document = (await client.get(paths["apis/apps/v1"]["serverRelativeURL"])).json()
    patch = document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert "application/strategic-merge-patch+json" in patch["requestBody"]["content"]
    assert {"fieldValidation", "dryRun"} <= {parameter["name"] for parameter in patch["parameters"]}
    assert (await client.get("/openapi/v2")).json()["swagger"] == "2.0"


async def test_only_metadata_is_answered_to_who_asks_for_no_more(
    client: httpx.AsyncClient, cluster: EmbeddedCluster
) -> None:
    await cluster.create(config_map("a"))
    accept = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"}
    listed = (await client.get(MAPS, headers=accept)).json()
    assert listed["kind"] == "PartialObjectMetadataList"
    assert [set(item) for item in listed["items"]] == [{"kind", "apiVersion", "metadata"}]
    protobuf_first = {"Accept": "application/vnd.kubernetes.protobuf, application/json"}
    assert (await client.get(f"{MAPS}/a", headers=protobuf_first)).json()["data"] == {"key": "value"}


async def test_a_body_may_be_yaml(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/yaml"}
    made = await client.post(
        MAPS, content="kind: ConfigMap\napiVersion: v1\nmetadata: {name: y}\n", headers=headers
    )
    assert (made.status_code, made.json()["metadata"]["name"]) == (201, "y")
    two = await client.post(MAPS, content="kind: ConfigMap\n---\nkind: ConfigMap\n", headers=headers)
    assert two.status_code == 400


async def test_server_side_apply_creates_then_changes(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/apply-patch+yaml"}
    query = {"fieldManager": "me"}
    body = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: %s}\n"
    made = await client.patch(f"{MAPS}/a", params=query, content=body % "one", headers=headers)
    changed = await client.patch(f"{MAPS}/a", params=query, content=body % "two", headers=headers)
    assert (made.status_code, changed.status_code) == (201, 200)
    refused = await client.patch(
        f"{MAPS}/a", params={"fieldManager": "other"}, content=body % "three", headers=headers
    )
    assert refused.status_code == 409
    assert refused.json()["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "me"', "field": ".data.k"}
    ]


@pytest.mark.parametrize(
    ("query", "body", "status"),
    [
        ({"propagationPolicy": "Sideways"}, None, 422),
        ({"gracePeriodSeconds": "soon"}, None, 400),
        ({}, {"gracePeriodSeconds": "soon"}, 400),
        ({"dryRun": "Some"}, None, 422),
        ({}, {"preconditions": {"uid": "another"}}, 409),
        ({}, {"orphanDependents": True}, 200),
        ({"propagationPolicy": "Foreground"}, None, 200),
    ],
)
async def test_delete_options_are_checked_wherever_they_stand(
    client: httpx.AsyncClient, cluster: EmbeddedCluster, query: dict[str, str], body: Any, status: int
) -> None:
    await cluster.create(config_map("a"))
    answer = await client.request(
        "DELETE", f"{MAPS}/a", params=query, **({} if body is None else {"json": body})
    )
    assert answer.status_code == status, answer.text
    if status == 422:
        assert answer.json()["details"]["causes"], "kubectl prints the causes of an Invalid"


async def test_a_list_from_a_version_that_is_not_there_yet_is_expired(client: httpx.AsyncClient) -> None:
    assert (await client.get(MAPS, params={"resourceVersion": "999999"})).status_code == 410


async def test_an_older_version_of_a_kind_is_read_as_the_present_one(client: httpx.AsyncClient) -> None:
    old = "/apis/serving.kserve.io/v1alpha1/namespaces/default/llminferenceservices"
    spec = {"model": {"uri": "hf://a/b", "name": "b"}}
    document = {"apiVersion": "serving.kserve.io/v1alpha1", "kind": "LLMInferenceService", "spec": spec}
    made = await client.post(old, json={**document, "metadata": {"name": "l"}})
    assert made.status_code == 201, made.text
    found = (await client.get(old.replace("v1alpha1", "v1alpha2") + "/l")).json()
    assert (found["apiVersion"], found["spec"]["model"]["name"]) == ("serving.kserve.io/v1alpha2", "b")


async def test_the_tokens_holder_may_do_everything(client: httpx.AsyncClient) -> None:
    answer = await client.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", json={"spec": {}})
    assert answer.json()["status"]["allowed"] is True
    assert (
        await client.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", content=b"{")
    ).status_code == 400


async def test_what_nobody_foresaw_is_our_fault_and_shows_no_inside(cluster: EmbeddedCluster) -> None:
    app = api(cluster)
    cluster.objects.get = lambda *_: 1 / 0  # type: ignore[assignment, method-assign, return-value]
    async with in_process(app) as client:
        answer = await client.get(f"{MAPS}/a")
    assert (answer.status_code, answer.json()["reason"]) == (500, "InternalError")
    assert "division" not in answer.text


async def test_a_change_is_answered_when_it_is_on_disk_and_a_question_at_once(
    cluster: EmbeddedCluster, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk: list[int] = []

    async def durable() -> None:
        on_disk.append(cluster.objects.store.version)

    monkeypatch.setattr(cluster.objects.store, "durable", durable)
    made = (await client.post(MAPS, json={"metadata": {"name": "a"}})).json()
    assert on_disk == [int(made["metadata"]["resourceVersion"])]
    await client.get(f"{MAPS}/a")
    assert len(on_disk) == 1
    await client.patch(
        f"{MAPS}/a", json={"data": {"k": "v"}}, headers={"Content-Type": "application/merge-patch+json"}
    )
    await client.delete(f"{MAPS}/a")
    assert len(on_disk) == 3
