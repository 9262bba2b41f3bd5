"""train.drop_slowest: at staleness 0 a worker that stands still now and then does not hold up the others."""

import os
import signal
import time

from cluster import start_training

STOPS = 4


def clock(job):
    status = job.status()
    return max((m.get("clock", 0) for m in status["members"] if m.get("role") == "worker"), default=0) if status else 0


def stopped(job, pid, seconds=0.8):
    """How many clocks the others made while the worker stood still; None: the job was over."""
    try:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.4)  # what is under way, and heartbeats of before
        first = clock(job)
        time.sleep(seconds)
        last = clock(job)
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return None
    time.sleep(0.3)
    return last - first if first > 0 and last > 0 else None


def run(local, path, drop, *flags):
    job = start_training(local, path, "--workers=3", "--worker_arg=--compute_threads=1", "--scheduler_arg=--lease_ms=20000",
                         "--set=train.drop_slowest=%d" % drop, *flags, rows=200000, seconds=8, batch=512, staleness="0")
    pid = sorted(job.children("tidegate-worker"))[0]
    gained = [g for g in (stopped(job, pid) for _ in range(STOPS)) if g is not None]
    assert job.wait() == 0, job.log()
    assert gained
    return job.summary(), sum(gained) / len(gained), job.rows


def test_a_stopped_worker_is_dropped_and_the_others_go_on(local, tmp_path):
    summary, gained, rows = run(local, tmp_path / "job.textproto", 1)
    assert summary["outcome"] == "finished"
    dropped = sum(w["samples"] for w in summary["dropped"])
    assert gained > 10
    assert summary["samples"] < rows and dropped > 0
    assert summary["samples"] + dropped <= rows
    assert summary["epochs"][-1]["metrics"]["valid/click/auc"] > 0.6


def test_with_copies_of_the_shards_too(local, tmp_path):
    summary, gained, rows = run(local, tmp_path / "job.textproto", 1, "--set=cluster.replicas=2", "--set=cluster.durability=SYNC")
    assert gained > 10
    dropped = sum(w["samples"] for w in summary["dropped"])
    assert summary["samples"] < rows and summary["samples"] + dropped <= rows


def test_without_it_everyone_waits(local, tmp_path):
    summary, gained, rows = run(local, tmp_path / "job.textproto", 0)
    assert gained <= 2
    assert summary["samples"] == rows and summary["dropped"] == []
