import glob
import os
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cluster  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: not part of ./test.sh quick")


@pytest.fixture
def local(tmp_path):
    """local(config, *flags) -> a running cluster.Local, ended with the test."""
    running = []

    def start(config, *arguments):
        directory = tmp_path / ("cluster-%d" % len(running))
        directory.mkdir()
        running.append(cluster.Local(directory, config, *arguments))
        return running[-1]

    yield start
    for one in running:
        one.close()


@pytest.fixture
def by_hand(tmp_path):
    """by_hand(**job) -> a cluster.ByHand, ended with the test."""
    made = []

    def make(**job):
        made.append(cluster.ByHand(tmp_path, cluster.write_job(tmp_path / "job.textproto", **job)))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def stubs(tmp_path_factory):
    """Generated Python clients of both services."""
    out = str(tmp_path_factory.mktemp("stubs"))
    protos = [os.path.relpath(p, cluster.ROOT) for p in glob.glob(os.path.join(cluster.ROOT, "proto", "*.proto"))]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", "--python_out=" + out, "--grpc_python_out=" + out]
    subprocess.run(command + protos, cwd=cluster.ROOT, check=True)
    sys.path.insert(0, out)
    from proto import cluster_pb2, scheduler_messages_pb2, scheduler_service_pb2_grpc
    from proto import shard_messages_pb2, shard_service_pb2_grpc, table_pb2

    class Stubs:
        cluster, table, shard, control = cluster_pb2, table_pb2, shard_messages_pb2, scheduler_messages_pb2
        SchedulerStub = scheduler_service_pb2_grpc.SchedulerServiceStub
        ShardStub = shard_service_pb2_grpc.ShardServiceStub

    yield Stubs
    sys.path.remove(out)
