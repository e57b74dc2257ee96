"""Where may one ask this pod itself whether it is ready?

Only where the answer means what the kubelet's would: at the port that serves, by a plain GET or by connecting, as the pod's own probe does,
and with nothing else to wait for. Any other pod is ready when its status says so.
"""

from __future__ import annotations

from penstock.decide.replica_set import is_active, ready_since
from penstock.decide.workload import main_container, serving_port, speaks_https
from penstock.resources.pod import Container, HTTPGetAction, Pod, Probe


def probe_path(pod: Pod) -> str | None:
    """The path to GET, "" where taking a connection suffices, None where there is nobody to ask."""
    if (
        not pod.status.pod_ip
        or not is_active(pod)
        or ready_since(pod) is not None
        or pod.spec.readiness_gates
    ):
        return None
    main = main_container(pod.spec)
    statuses = {status.name: status for status in pod.status.container_statuses}
    own = statuses.pop(main.name, None)
    if own is None or own.state.running is None or not all(status.ready for status in statuses.values()):
        return None
    probe = main.readiness_probe
    if main.startup_probe is not None and not own.started and (probe is None or probe.http_get is None):
        probe = main.startup_probe
    if probe is None:
        return None
    return _path(probe, main, serving_port(pod.spec), is_tls=speaks_https(pod.spec))


def _path(probe: Probe, main: Container, port: int, *, is_tls: bool) -> str | None:
    if probe.http_get is not None:
        return probe.http_get.path or "/" if _is_plain(probe.http_get, main, port, is_tls=is_tls) else None
    if probe.tcp_socket is not None:
        return "" if not probe.tcp_socket.host and _number(probe.tcp_socket.port, main) == port else None
    return None


def _is_plain(asked: HTTPGetAction, main: Container, port: int, *, is_tls: bool) -> bool:
    return (
        not asked.host
        and not asked.http_headers
        and (asked.scheme.upper() == "HTTPS") == is_tls
        and _number(asked.port, main) == port
    )


def _number(port: int | str, main: Container) -> int:
    """Of a port that is given by number or by name; one that is not given is the container's first."""
    if isinstance(port, int) and port:
        return port
    named = [each.container_port for each in main.ports if not port or each.name == port]
    return named[0] if named else 0
