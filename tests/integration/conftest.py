import os
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
