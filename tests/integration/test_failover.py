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


def scheduler_log(tmp_path):
    return (tmp_path / "run" / "logs" / "scheduler.log").read_text()


def test_a_server_that_wakes_with_old_beliefs_serves_and_acknowledges_nothing(tmp_path):
    result = chaos(tmp_path, "--faults=pause-server", "--fault_count=2")
    assert [i["fault"] for i in result["injections"]] == ["pause-server"] * 2
    assert scheduler_log(tmp_path).count(" are led by their backups now") == 2


def test_servers_are_restarted_one_by_one_and_no_update_is_lost(tmp_path):
    result = chaos(tmp_path, "--faults=restart-server", "--fault_count=4", "--seed=4")
    assert [i["fault"] for i in result["injections"]] == ["restart-server"] * 4
    assert all(i["gap_ms"] >= 0 for i in result["injections"])


def test_three_copies(tmp_path):
    chaos(tmp_path, "--faults=kill-server,pause-server", "--fault_count=3", "--servers=4", "--replicas=3", "--seed=9")


def test_updates_are_acknowledged_without_a_scheduler(tmp_path):
    result = chaos(tmp_path, "--faults=no-scheduler,kill-scheduler,pause-scheduler", "--fault_count=3", "--seed=2")
    assert {i["fault"] for i in result["injections"]} & {"no-scheduler", "pause-scheduler"}


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


def test_a_zone_that_dies_loses_nothing(by_hand):
    """Both copies of no shard are in one zone."""
    cluster = by_hand(rows=3000000, epochs=1, staleness="inf")
    flags = ("--set=cluster.servers=4", "--set=cluster.workers=1", "--set=cluster.replicas=2", "--set=cluster.durability=SYNC")
    scheduler = cluster.start_scheduler("--lease_ms=2000", *flags)
    servers = {zone: [cluster.start_member("tidegate-server", "--zone=" + zone) for _ in range(2)] for zone in ("east", "west")}
    cluster.start_member("tidegate-worker")

    def whole():
        status = cluster.status()
        return status if status and status["phase"] == "training" and status["settled"] and status["degraded_shards"] == 0 else None

    status = wait_for(whole, "two copies of all shards")
    assert sorted(m["zone"] for m in status["members"] if m["role"] == "server") == ["east"] * 2 + ["west"] * 2
    for server in servers["east"]:
        server.kill()
    wait_for(lambda: (cluster.status() or {}).get("failovers_total") == 2 or scheduler.poll() is not None, "the failover")
    assert scheduler.wait(120) == 0, cluster.log_of(scheduler)
    assert [server.wait(60) for server in servers["west"]] == [0, 0]
