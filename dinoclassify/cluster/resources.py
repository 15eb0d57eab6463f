"""The resources of a Ray cluster, and how many of them a run uses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray

from dinoclassify.errors import UsageError

_CPUS = 2  # processors of a decoding worker where models run on processors too, like those of the local engine


@dataclass(frozen=True, slots=True)
class ResourcePlan:
    """The resources that a run uses."""

    workers: int  # tasks that decode at the same time
    cpus_per_worker: int
    replicas: int  # copies of the model
    max_replicas: int | None  # when nodes join the cluster; None for any number
    replica_options: Mapping[str, Any]  # Ray's, for each copy


def plan_resources(gpus: float | None) -> ResourcePlan:
    """Return what a run uses of the cluster in its present size; for ``gpus`` see `gpus_per_replica`.

    Raises:
        UsageError: no node has room for a worker, or for a replica.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    processors = {node["NodeID"]: int(node["Resources"].get("CPU", 0)) for node in nodes}
    counts = [count for count in processors.values() if count]
    if not counts:
        raise UsageError("no node of the cluster has a processor: start some with --num-cpus")
    share = gpus_per_replica(gpus)
    if share:
        replicas = sum(int(node["Resources"].get("GPU", 0) / share) for node in nodes)
        if not replicas:
            raise UsageError(
                f"no node of the cluster has {share:g} GPUs for one replica: lower --gpus-per-replica, or add a node"
            )
        return ResourcePlan(sum(counts), 1, replicas, None, {"num_gpus": share})
    cpus = min(_CPUS, *counts)
    heads = [node for node, count in processors.items() if not count]  # without processors they only direct others
    options = {"label_selector": {"ray.io/node-id": f"!in({','.join(heads)})"}} if heads else {}
    return ResourcePlan(sum(count // cpus for count in counts), cpus, len(counts), len(counts), options)


def gpus_per_replica(gpus: float | None) -> float:
    """Return the GPUs of each replica: ``gpus``, by default one if the cluster has any."""
    return gpus if gpus is not None else min(1, ray.cluster_resources().get("GPU", 0))
