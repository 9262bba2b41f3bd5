"""Servers come and go while a job trains: restarted one by one, more of them, fewer of them."""

import os
import re
import signal
import subprocess

from cluster import BIN, TIDEGATE, run, start_training, wait_for

REPLICATED = ("--set=cluster.replicas=2", "--set=cluster.durability=SYNC")


def servers(status):
    return {m["name"]: m for m in status["members"] if m["role"] == "server" and m["alive"] and m["state"] == "live"}


def settled(job, count):
    def whole():
        status = job.status()
        good = status and status["settled"] and status["degraded_shards"] == 0 and len(servers(status)) == count
        return status if good else None

    return wait_for(whole, "%d servers, and two copies of all shards" % count)


def finished_whole(job):
    assert job.wait() == 0, job.log()
    summary = job.summary()
    assert summary["outcome"] == "finished" and summary["samples"] >= job.rows
    assert summary["local"]["endings"] == []
    return summary


def test_all_servers_are_restarted_while_the_job_trains(local, tmp_path):
    job = start_training(local, tmp_path / "job.textproto", "--servers=3", *REPLICATED, rows=400000, seconds=35, samples=20000)
    before = servers(settled(job, 3))
    done = run("restart", "--rolling", "--scheduler=" + job.address(), timeout=120)
    assert done.returncode == 0, done.stderr + job.log()
    assert done.stdout.startswith("3 servers were restarted")
    assert [int(n) for n in re.findall(r"\[(\d) of 3 done\] server \d+ \(server/\d\) at \S+ has joined in its place", done.stderr)] == [1, 2, 3]
    status = job.status()
    after = servers(status)
    assert status["phase"] == "training" and status["settled"] and status["degraded_shards"] == 0 and status["failovers_total"] == 0
    assert set(after) == set(before)
    assert all(after[name]["incarnation"] > max(m["incarnation"] for m in before.values()) for name in after)
    assert job.log().count("is empty; starting it again") == 3
    finished_whole(job)


def test_a_restart_that_is_interrupted_ends_between_two_servers(local, tmp_path):
    job = start_training(local, tmp_path / "job.textproto", "--servers=3", *REPLICATED, rows=400000, seconds=20, samples=20000)
    settled(job, 3)
    process = subprocess.Popen([TIDEGATE, "restart", "--rolling", "--scheduler=" + job.address()], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    try:
        line = process.stderr.readline()
        while line and "holds" not in line:
            line = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "has joined in its place" in err and "2 servers were not restarted" in err and "on its way" not in err
    settled(job, 3)
    assert job.log().count("is empty; starting it again") == 1
    finished_whole(job)


def test_the_job_grows_to_four_servers_and_shrinks_to_two(local, tmp_path):
    job = start_training(local, tmp_path / "job.textproto", "--servers=2", *REPLICATED, "--scheduler_arg=--level_after=1", rows=400000, seconds=20,
                         samples=20000)
    before = set(servers(settled(job, 2)))
    more = [subprocess.Popen([os.path.join(BIN, "tidegate-server"), "--scheduler=" + job.address(), "--name=more/%d" % i, "--executors=1"],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for i in range(2)]
    try:
        wait_for(lambda: all(m["shards"] > 0 for m in servers(settled(job, 4)).values()), "shards led by all four")
        for i in range(2):
            done = run("drain", "more/%d" % i, "--scheduler=" + job.address(), timeout=120)
            assert done.returncode == 0, done.stderr
        assert [process.wait(30) for process in more] == [0, 0]
    finally:
        for process in more:
            process.kill()
            process.wait()
    status = settled(job, 2)
    assert status["phase"] == "training" and status["failovers_total"] == 0 and set(servers(status)) == before
    finished_whole(job)


def test_a_server_that_does_not_come_back_is_named(by_hand):
    """Nobody starts it again."""
    cluster = by_hand(rows=4000000, epochs=1)
    cluster.start_scheduler("--set=cluster.servers=3", "--set=cluster.workers=1", *REPLICATED)
    processes = [cluster.start_member("tidegate-server", "--name=server/%d" % i) for i in range(3)]
    cluster.start_member("tidegate-worker")
    numbers = {name: m["incarnation"] for name, m in servers(settled(cluster, 3)).items()}
    done = run("restart", "--rolling", "server/1", "server/2", "--scheduler=" + cluster.address.read_text().strip(), "--wait=4", timeout=60)
    assert done.returncode == 1, done.stderr
    assert "server %d (server/1) at 127.0.0.1:" % numbers["server/1"] in done.stderr and "did not come back within 4 s" in done.stderr
    assert "not restarted yet: %d" % numbers["server/2"] in done.stderr
    assert [p.poll() for p in processes] == [None, 5, None]
    assert cluster.status()["phase"] == "training"


def test_restarts_that_cannot_be_are_refused(local, tmp_path):
    job = start_training(local, tmp_path / "job.textproto", "--servers=2", rows=400000, seconds=5)
    done = run("restart", "--rolling", "--scheduler=" + job.address())
    assert done.returncode == 1 and "one copy of each shard" in done.stderr, done.stderr
    for flags in (["--scheduler=" + job.address()], ["--rolling"], ["--rolling", "--scheduler=nowhere"]):
        assert run("restart", *flags).returncode == 2
    assert run("restart", "--rolling", "--scheduler=127.0.0.1:1").returncode == 1
    finished_whole(job)
