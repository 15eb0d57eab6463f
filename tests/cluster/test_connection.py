"""The connection to a cluster."""

import pytest

from dinoclassify.errors import UsageError

pytest.importorskip("ray")


def test_a_cluster_that_cannot_be_reached_is_a_usage_error() -> None:
    from dinoclassify.cluster.connection import connected

    with (
        pytest.raises(UsageError, match=r"--ray-address 127\.0\.0\.1:1: no cluster answers .*check the address"),
        connected("127.0.0.1:1"),
    ):
        pass
