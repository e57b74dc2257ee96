"""Does an inference graph keep KServe's rules?"""

from __future__ import annotations

import re

from penstock.resources.graph import InferenceGraph, InferenceRouter
from penstock.resources.validation import Denial

NAME = "[a-z]([-a-z0-9]*[a-z0-9])?"
ROUTER_TYPES = ("Sequence", "Splitter", "Ensemble", "Switch")


def deny_graph(graph: InferenceGraph) -> Denial | None:
    """The first rule that a graph breaks."""
    name = graph.metadata.name
    if not re.fullmatch(NAME, name):
        return Denial(
            "metadata.name",
            f'the InferenceGraph "{name}" is invalid: a InferenceGraph name must consist of lower case alphanumeric'
            ' characters or \'-\', and must start with alphabetical character. (e.g. "my-name" or "abc-123",'
            f" regex used for validation is '{NAME}')",
        )
    if "root" not in graph.spec.nodes:
        return Denial(
            "spec.nodes",
            "root node not found, InferenceGraph needs a node with name 'root' as the root node of the graph",
        )
    for check in (_unique_steps, _one_target, _weights):
        for node_name, node in graph.spec.nodes.items():
            denial = check(name, node_name, node)
            if denial is not None:
                return denial
    return None


def _unique_steps(graph: str, name: str, node: InferenceRouter) -> Denial | None:
    names = [step.name for step in node.steps if step.name]
    for step in names:
        if names.count(step) > 1:
            return Denial(
                f"spec.nodes[{name}].steps",
                f'Node "{name}" of InferenceGraph "{graph}" contains more than one step with name "{step}"',
            )
    return None


def _one_target(graph: str, name: str, node: InferenceRouter) -> Denial | None:
    for i, step in enumerate(node.steps):
        targets = sum(map(bool, (step.node_name, step.service_name, step.service_url)))
        if targets != 1:
            problem = "does not specify an inference target"
            if targets > 1:
                problem = "specifies more than one of nodeName, serviceName, serviceUrl"
            return Denial(
                f"spec.nodes[{name}].steps[{i}]",
                f'Step {i} ("{step.name}") in node "{name}" of InferenceGraph "{graph}" {problem}',
            )
    return None


def _weights(graph: str, name: str, node: InferenceRouter) -> Denial | None:
    if node.router_type != "Splitter":
        return None
    total = 0
    for i, step in enumerate(node.steps):
        if step.weight is None:
            target = step.service_name or step.node_name or step.service_url
            return Denial(
                f"spec.nodes[{name}].steps[{i}].weight",
                f"InferenceGraph[{graph}] Node[{name}] Route[{target}] missing the 'Weight'",
            )
        total += step.weight
    if total != 100:
        return Denial(
            f"spec.nodes[{name}].steps",
            f"InferenceGraph[{graph}] Node[{name}] splitter node: the sum of traffic weights for all routing targets"
            " should be 100",
            f"the weights sum to {total}",
        )
    return None
