"""Replicated shards: servers and schedulers die, stop and lose their links while updates are accounted for."""

import json
import os
import shutil
import signal
import subprocess

import pytest
from cluster import run, wait_for, start_training

FAST = ("--lease_ms=1000", "--heartbeat_interval_ms=100")


def chaos(tmp_path, *flags, timeout=300):
    done = run("chaos", "--json", "--run_dir=%s" % (tmp_path / "run"), *FAST, *flags, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["verdict"] == "exact" and result["pushes"] > 100 and result["reads"] > 10
    assert result["rows_audited"] > 0
    return result


def test_servers_are_killed_and_no_update_is_lost(tmp_path):
    result = chaos(tmp_path, "--faults=kill-server", "--fault_count=5", "--seed=3")
    assert [i["fault"] for i in result["injections"]] == ["kill-server"] * 5
    assert all(i["shards"] > 0 and i["first_ack_ms"] >= 0 for i in result["injections"])


def test_a_server_that_wakes_with_old_beliefs_serves_and_acknowledges_nothing(tmp_path):
    chaos(tmp_path, "--faults=pause-server", "--fault_count=2")


def test_servers_are_restarted_one_by_one_and_no_update_is_lost(tmp_path):
    result = chaos(tmp_path, "--faults=restart-server", "--fault_count=4", "--seed=4")
    assert [i["fault"] for i in result["injections"]] == ["restart-server"] * 4
    assert all(i["gap_ms"] >= 0 for i in result["injections"])


def test_three_copies(tmp_path):
    chaos(tmp_path, "--faults=kill-server,pause-server", "--fault_count=3", "--servers=4", "--replicas=3", "--seed=9")


def test_updates_are_acknowledged_without_a_scheduler(tmp_path):
    chaos(tmp_path, "--faults=no-scheduler,kill-scheduler,pause-scheduler", "--fault_count=3")


def links_can_be_cut():
    if os.geteuid() != 0 or not shutil.which("nft") or not shutil.which("ip"):
        return False
    probe = "ip link add probe type bridge && nft add table bridge probe"
    return subprocess.run(["unshare", "--net", "--mount", "sh", "-c", probe], capture_output=True).returncode == 0


@pytest.mark.skipif(not links_can_be_cut(), reason="links are cut by root with ip (iproute2) and nft (nftables), where network namespaces are allowed")
@pytest.mark.parametrize("fault", ["cut-pair", "cut-one-way", "isolate-server", "isolate-scheduler"])
def test_links_are_cut(tmp_path, fault):
    chaos(tmp_path, "--faults=" + fault, "--fault_count=2")


@pytest.mark.parametrize("staleness", ["0", "4"])
def test_a_training_job_outlives_its_servers(local, tmp_path, staleness):
    flags = ["--servers=3", "--set=cluster.replicas=2", "--set=cluster.durability=SYNC"]
    job = start_training(local, tmp_path / "job.textproto", *flags, rows=400000, seconds=10, samples=20000, staleness=staleness)

    def whole(failovers):
        status = job.status()
        return status and status["failovers_total"] == failovers and status["settled"] and status["degraded_shards"] == 0 and sum(m["role"] == "server" and m["state"] != "dead" for m in status["members"]) == 3

    for which in (0, 1):
        wait_for(lambda: whole(which), "%d failovers, and two copies of all shards" % which)
        job.kill("tidegate-server", signal.SIGKILL, which)
    assert job.wait() == 0, job.log()
    assert job.log().count("starting it again, empty") == 2
    summary = job.summary()
    assert summary["outcome"] == "finished" and summary["samples"] >= job.rows
