"""Members come, hang, come back and leave: the job completes, every row is done, every process ends with 0."""

import json
import os
import signal

import pytest
from cluster import start_training, wait_for

ROWS = 1500000


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def workers(job):
    """{incarnation: member} of workers that the scheduler holds for alive."""
    members = (job.status() or {"members": []})["members"]
    return {m["incarnation"]: m for m in members if m["role"] == "worker" and m["alive"]}


@pytest.mark.parametrize("staleness", ["0", "4", "inf"])
def test_a_worker_that_was_stopped_beyond_its_lease_comes_back_as_a_new_one(local, tmp_path, staleness):
    job = start_training(local, tmp_path / "job.textproto", "--staleness=" + staleness, "--scheduler_arg=--lease_ms=1000",
                         rows=ROWS, samples=10000, seconds=4 if staleness == "inf" else 2)
    before = set(workers(job))
    stopped = job.kill("tidegate-worker", signal.SIGSTOP)
    try:
        wait_for(lambda: len(workers(job)) == 1, "the stopped worker's removal")
    finally:
        os.kill(stopped, signal.SIGCONT)
    back = wait_for(lambda: set(workers(job)) - before, "the worker's return")
    wait_for(lambda: any(i in back and m.get("samples_total", 0) > 0 for i, m in workers(job).items()),
             "work of the new incarnation")
    assert alive(stopped)
    assert job.wait() == 0, job.log()
    summary = job.summary()
    assert summary["outcome"] == "finished"
    assert summary["samples"] == job.rows
    assert any("worker" in e and "dead" in e for e in summary["events"]), summary["events"]
    assert summary["local"]["endings"] == []


def test_a_worker_that_pauses_within_its_lease_stays_a_member(local, tmp_path):
    job = start_training(local, tmp_path / "job.textproto", "--scheduler_arg=--lease_ms=20000", rows=ROWS, samples=10000)
    before = set(workers(job))
    stopped = job.kill("tidegate-worker", signal.SIGSTOP)
    try:
        state = wait_for(job.status, "status")
        wait_for(lambda: job.status()["members"] != state["members"], "the others' progress")
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert set(workers(job)) == before
    assert job.wait() == 0, job.log()
    assert job.summary()["samples"] == job.rows
    assert not any("dead" in e for e in job.summary()["events"])


@pytest.mark.parametrize("staleness", ["0", "4"])
def test_every_process_ends_with_0_and_none_is_left(by_hand, staleness):
    cluster = by_hand(rows=20000, epochs=1, staleness=staleness)
    cluster.start_scheduler()
    for binary in ["tidegate-server", "tidegate-worker"] * 2:
        cluster.start_member(binary)
    assert [p.wait(60) for p in cluster.processes] == [0] * 5


def test_a_worker_that_sleeps_through_the_end_of_its_job_gives_up_with_the_reason(by_hand, tmp_path):
    cluster = by_hand(rows=ROWS // 3, epochs=1)
    scheduler = cluster.start_scheduler("--lease_ms=1000")
    for binary in ["tidegate-server", "tidegate-server", "tidegate-worker"]:
        cluster.start_member(binary)
    sleeper = cluster.start_member("tidegate-worker", "--scheduler_timeout=2")
    wait_for(lambda: "shards placed" in cluster.log_of(scheduler), "the start")
    sleeper.send_signal(signal.SIGSTOP)
    try:
        assert scheduler.wait(60) == 0, cluster.log_of(scheduler)
    finally:
        sleeper.send_signal(signal.SIGCONT)
    assert sleeper.wait(60) == 1
    assert "--scheduler_timeout=2" in cluster.log_of(sleeper)
    # The scheduler of a job that has ended says so, and gives its results again.
    again = cluster.start_scheduler("--summary=%s" % (tmp_path / "again.json"))
    assert again.wait(60) == 0
    assert "finished at 20" in cluster.log_of(again)
    assert json.loads((tmp_path / "again.json").read_text())["samples"] == ROWS // 3


def test_tidegate_local_leaves_no_process(local, tmp_path):
    job = start_training(local, tmp_path / "job.textproto", rows=2000000)
    children = job.children()
    assert len(children) == 5
    assert job.wait() == 0, job.log()
    assert not [pid for pid in children if alive(pid)]
    assert job.summary()["local"]["endings"] == []
