"""What a Ray cluster has, and what of it is used."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray

from dinoclassify.errors import UsageError

_CPUS = 2  # processors of a worker that decodes where models run on processors too, as those of the local engine have


@dataclass(frozen=True, slots=True)
class ResourcePlan:
    """What of a cluster is used: so many ``workers`` that decode at once, and ``replicas`` of the model.

    ``most`` is how many replicas there may be when nodes come; None for any number. ``cpus`` and ``replica`` are what
    Ray is told of a worker and of a replica.
    """

    workers: int
    replicas: int
    most: int | None
    cpus: int
    replica: Mapping[str, Any]


def use_of_cluster(gpus: float | None) -> ResourcePlan:
    """What of the cluster is used, as it is now.

    Args:
        gpus: see `cluster.engine.completed_chunks`.

    Raises:
        UsageError: there is no place for a worker, or for a replica.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    processors = {node["NodeID"]: int(node["Resources"].get("CPU", 0)) for node in nodes}
    able = [count for count in processors.values() if count]
    if not able:
        raise UsageError("no node of the cluster has a processor: start some with --num-cpus")
    share = gpus_of_replica(gpus)
    if share:
        replicas = sum(int(node["Resources"].get("GPU", 0) / share) for node in nodes)
        if not replicas:
            raise UsageError(f"no node of the cluster has {share:g} GPUs, which a replica is to have")
        return ResourcePlan(sum(able), replicas, None, 1, {"num_gpus": share})
    cpus = min(_CPUS, *able)
    unable = [node for node, count in processors.items() if not count]  # they only direct the others
    replica = {"label_selector": {"ray.io/node-id": f"!in({','.join(unable)})"}} if unable else {}
    return ResourcePlan(sum(count // cpus for count in able), len(able), len(able), cpus, replica)


def gpus_of_replica(gpus: float | None) -> float:
    """How many GPUs each replica has; by default one, if the cluster has any."""
    return gpus if gpus is not None else min(1, ray.cluster_resources().get("GPU", 0))
