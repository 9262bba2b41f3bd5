"""Members come, hang, come back and leave: the job completes, every row is done, every process ends with 0."""

import os
import signal
import subprocess

import pytest
from cluster import BIN, wait_for, write_job

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
    job = local(write_job(tmp_path / "job.textproto", rows=ROWS, epochs=1), "--staleness=" + staleness,
                "--scheduler_arg=--lease_ms=1000")
    job.wait_for_training(samples=10000)
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
    assert summary["samples"] == ROWS
    assert any("worker" in e and "dead" in e for e in summary["events"]), summary["events"]
    assert summary["local"]["endings"] == []


def test_a_worker_that_pauses_within_its_lease_stays_a_member(local, tmp_path):
    job = local(write_job(tmp_path / "job.textproto", rows=ROWS // 3, epochs=1), "--scheduler_arg=--lease_ms=20000")
    job.wait_for_training(samples=10000)
    before = set(workers(job))
    stopped = job.kill("tidegate-worker", signal.SIGSTOP)
    try:
        state = wait_for(job.status, "status")
        wait_for(lambda: job.status()["members"] != state["members"], "the others' progress")
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert set(workers(job)) == before
    assert job.wait() == 0, job.log()
    assert job.summary()["samples"] == ROWS // 3
    assert not any("dead" in e for e in job.summary()["events"])


@pytest.mark.parametrize("staleness", ["0", "4"])
def test_every_process_ends_with_0_and_none_is_left(tmp_path, staleness):
    """By hand, without `tidegate local` to end what would not end."""
    config = write_job(tmp_path / "job.textproto", rows=20000, epochs=1, staleness=staleness)
    address = tmp_path / "address"
    processes = []

    def start(binary, *flags):
        log = open(tmp_path / ("log-%d" % len(processes)), "w")
        processes.append(subprocess.Popen([os.path.join(BIN, binary), "--metrics_port=-1", *flags], stdout=log, stderr=log,
                                          stdin=subprocess.DEVNULL))
        log.close()

    try:
        start("tidegate-scheduler", "--config=" + config, "--address_file=%s" % address, "--state=%s" % (tmp_path / "state"))
        wait_for(address.exists, "the scheduler's address")
        for binary in ["tidegate-server", "tidegate-worker"] * 2:
            start(binary, "--scheduler=" + address.read_text().strip())
        assert [p.wait(60) for p in processes] == [0] * 5
    finally:
        for p in processes:
            p.kill()
            p.wait()


def test_tidegate_local_leaves_no_process(local, tmp_path):
    job = local(write_job(tmp_path / "job.textproto", rows=2000000, epochs=1))
    job.wait_for_training()
    children = job.children()
    assert len(children) == 5
    assert job.wait() == 0, job.log()
    assert not [pid for pid in children if alive(pid)]
    assert job.summary()["local"]["endings"] == []
