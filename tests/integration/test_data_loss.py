"""The last copies of shards die: the job goes on from its newest checkpoint, by itself or by command, or fails and says from where."""

import json
import os
import re
import signal

import pytest
from cluster import run, start_training, wait_for

EVERY = ("--set=train.checkpoint.every_clocks=10", "--scheduler_arg=--lease_ms=2000")
TWO_COPIES = ("--set=cluster.replicas=2", "--set=cluster.durability=SYNC")


def lose(job, servers):
    """Once there is a checkpoint, kills so many servers at once; the status of before."""
    status = wait_for(lambda: (lambda s: s if s and s["checkpoint"] and s["phase"] == "training" else None)(job.status()), "a checkpoint", 120)
    for pid in list(job.children("tidegate-server"))[:servers]:
        os.kill(pid, signal.SIGKILL)
    return status


@pytest.mark.parametrize("servers,flags,staleness", [(1, (), "4"), (2, TWO_COPIES + ("--set=train.checkpoint.full_every=3",), "0")])
def test_a_job_goes_on_from_its_newest_checkpoint_by_itself(local, tmp_path, servers, flags, staleness):
    job = start_training(local, tmp_path / "job.textproto", "--servers=%d" % servers, "--set=cluster.on_data_loss=RESTORE", *EVERY, *flags,
                         rows=400000, seconds=15, samples=20000, staleness=staleness)
    lose(job, servers)
    restored = wait_for(lambda: (lambda s: s if s and s["restores_total"] == 1 and s["phase"] == "training" else None)(job.status()), "the restore", 120)
    assert restored["lost_shards"] == []
    assert job.wait(300) == 0, job.log()
    summary = job.summary()
    assert summary["outcome"] == "finished" and summary["samples"] >= job.rows
    events = "\n".join(summary["events"])
    assert "goes on from " in events and ("what was acknowledged there is lost" in events) == (servers == 2), events


@pytest.mark.parametrize("copies,die", [(TWO_COPIES, 2), ((), 1)])
def test_a_job_stands_still_until_it_is_told_to_go_on(local, tmp_path, copies, die):
    job = start_training(local, tmp_path / "job.textproto", "--servers=2", *EVERY, *copies, "--scheduler_arg=--restore_wait_s=300", rows=400000,
                         seconds=15, samples=20000)
    early = run("restore", "--scheduler=" + job.address())
    assert early.returncode == 1 and "lost no shard" in early.stderr
    lose(job, die)
    wait_for(lambda: (job.status() or {}).get("lost_shards"), "the loss", 120)
    assert job.status()["message"].startswith("stands still")
    done = run("restore", "--scheduler=" + job.address(), "--json")
    assert done.returncode == 0, done.stderr
    restored = json.loads(done.stdout)
    assert os.path.exists(os.path.join(restored["folder"], "MANIFEST")) and restored["clock"] >= 9
    assert job.wait(300) == 0, job.log()
    assert job.summary()["outcome"] == "finished"


def test_without_a_word_the_job_fails_and_says_from_where_it_resumes(local, tmp_path):
    job = start_training(local, tmp_path / "job.textproto", "--servers=1", *EVERY, rows=400000, seconds=10, samples=20000)
    lose(job, 1)
    assert job.wait(120) == 1
    message = job.summary()["message"]
    assert "resumes from " + job.checkpoints in message, message
    clock = int(re.search(r"after clock (-?\d+)", message).group(1))
    assert clock >= 9, message


def test_restore_without_a_checkpoint_is_warned_of_and_fails(local, tmp_path):
    job = start_training(local, tmp_path / "job.textproto", "--servers=1", "--set=cluster.on_data_loss=RESTORE", "--scheduler_arg=--lease_ms=2000", rows=400000,
                         seconds=10, samples=20000)
    job.kill("tidegate-server")
    assert job.wait(120) == 1
    assert "on_data_loss is RESTORE without train.checkpoint.every_s" in job.log()
    assert "no complete checkpoint to go on from" in job.summary()["message"]


def test_restore_takes_an_address_and_nothing_else():
    for arguments in ([], ["server"], ["--scheduler=nowhere"]):
        done = run("restore", *arguments)
        assert done.returncode == 2, done.stderr
