"""Checkpoints during training, and jobs that go on from them, with real processes."""

import contextlib
import json
import os
import shutil
import struct

import checkpoint
import pytest
from cluster import run, start_training, wait_for, write_job
from test_synchronous import GLOBAL_BATCH, write_exact_job

THREADS = "--worker_arg=--compute_threads=1"


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    return checkpoint.load_stubs(tmp_path_factory.mktemp("stubs"))


def complete(folder):
    """Complete checkpoints there, oldest first."""
    if not os.path.isdir(folder):
        return []
    found = []
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):  # an old one may be on its way out
            found.append((os.path.getmtime(os.path.join(folder, name, "MANIFEST")), os.path.join(folder, name)))
    return [path for _, path in sorted(found)]


def kill_all(job):
    job.process.kill()  # the kernel kills its children
    job.process.wait()
    wait_for(lambda: not job.children(), "the children's end")


@pytest.mark.parametrize("copies", [(), ("--set=cluster.replicas=2", "--set=cluster.durability=SYNC")])
def test_the_folder_of_a_run_that_was_killed_goes_on_from_its_newest_checkpoint(local, tmp_path, copies):
    flags = ("--set=train.checkpoint.every_clocks=10", *copies)
    job = start_training(local, tmp_path / "job.textproto", *flags, rows=400000, seconds=10)
    wait_for(lambda: complete(job.checkpoints), "a checkpoint")
    kill_all(job)
    done = run("local", "--config=%s" % (tmp_path / "job.textproto"), "--run_dir=" + job.run_dir, "--checkpoint_dir=" + job.checkpoints,
               "--summary=%s" % (tmp_path / "again.json"), *flags, timeout=300)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "again.json").read_text())
    assert summary["outcome"] == "finished" and any("resumes from" in e for e in summary["events"]), summary["events"]


@pytest.mark.parametrize("full_every", [1, 4])
def test_killed_and_run_again_at_staleness_0_ends_in_the_same_bits(local, stubs, tmp_path, full_every):
    rows = 120 * GLOBAL_BATCH + 777
    config = write_exact_job(tmp_path / "job.textproto", rows, epochs=2,
                             optimizers=("momentum { lr: 0.05 }", "adam { lr: 0.01 }", "adam { lr: 0.001 }"))
    flags = (THREADS, "--set=train.checkpoint.every_clocks=10", "--set=train.checkpoint.keep=2", "--set=train.checkpoint.full_every=%d" % full_every)
    whole = local(config, *flags)
    assert whole.wait() == 0, whole.log()

    first = local(config, *flags)
    wait_for(lambda: len(complete(first.checkpoints)) >= 2, "two checkpoints")
    kill_all(first)
    assert (full_every > 1) == any(checkpoint.manifest(stubs, c).base for c in complete(first.checkpoints))
    half_written = os.path.join(first.checkpoints, "clock-000000099999")
    os.makedirs(half_written)
    second = local(config, *flags, "--checkpoint_dir=" + first.checkpoints)
    assert second.wait() == 0, second.log()
    summary = second.summary()
    assert any("resumes from" in e for e in summary["events"]), summary["events"]
    assert not os.path.exists(half_written)
    assert 2 <= len(complete(first.checkpoints)) <= 1 + full_every
    assert [e["samples"] for e in summary["epochs"]] == [rows, rows]
    assert [e["metrics"]["valid/click/auc"] for e in summary["epochs"]] == \
        [e["metrics"]["valid/click/auc"] for e in whole.summary()["epochs"]]
    expected = checkpoint.shard_bytes(whole.summary()["checkpoint"])
    got = checkpoint.shard_bytes(summary["checkpoint"])
    assert set(got) == set(expected)
    for name in expected:
        assert got[name] == expected[name], name


def test_two_servers_wrote_it_three_go_on_in_the_same_bits(local, tmp_path):
    rows = 10 * GLOBAL_BATCH + 5
    config = write_exact_job(tmp_path / "job.textproto", rows, epochs=2)
    whole = local(config, THREADS, "--servers=2")
    assert whole.wait() == 0, whole.log()
    half = local(config, THREADS, "--servers=2", "--set=train.epochs=1")
    assert half.wait() == 0, half.log()
    rest = local(config, THREADS, "--servers=3", "--checkpoint_dir=" + half.checkpoints)
    assert rest.wait() == 0, rest.log()
    assert checkpoint.shard_bytes(rest.summary()["checkpoint"]) == checkpoint.shard_bytes(whole.summary()["checkpoint"])


def test_killed_and_run_again_with_other_servers_and_workers_at_staleness_4(local, tmp_path):
    rows = 400000
    config = write_job(tmp_path / "job.textproto", rows=rows, epochs=2)
    flags = ("--set=train.checkpoint.every_s=0.05",)
    first = local(config, *flags)
    wait_for(lambda: len(complete(first.checkpoints)) >= 2, "two checkpoints")
    kill_all(first)
    second = local(config, *flags, "--checkpoint_dir=" + first.checkpoints, "--servers=3", "--workers=3",
                   "--set=cluster.shards=256")
    assert second.wait() == 0, second.log()
    assert [e["samples"] for e in second.summary()["epochs"]] == [rows, rows]
    assert second.summary()["epochs"][-1]["metrics"]["valid/click/auc"] > 0.6


def test_by_command_while_training_goes_on(local, tmp_path):
    job = start_training(local, tmp_path / "job.textproto", rows=3000000, samples=20000, seconds=4)
    done = run("checkpoint", "--scheduler=" + job.address(), "--json")
    assert done.returncode == 0, done.stderr
    folder = json.loads(done.stdout)["folder"]
    assert job.status()["phase"] == "training"
    scores = run("evaluate", "--checkpoint=" + folder)
    assert scores.returncode == 0 and json.loads(scores.stdout)["rows"] == 5000, scores.stderr
    assert run("checkpoint", "--scheduler=127.0.0.1:1").returncode == 1
    assert run("checkpoint").returncode == 2


def test_a_checkpoint_that_cannot_be_written_costs_nothing_else(local, tmp_path):
    config = write_exact_job(tmp_path / "job.textproto", 25 * GLOBAL_BATCH)
    blocked = tmp_path / "checkpoints"
    blocked.mkdir()
    (blocked / "clock-000000000005").write_text("in the way")
    job = local(config, THREADS, "--set=train.checkpoint.every_clocks=5", "--checkpoint_dir=%s" % blocked)
    assert job.wait() == 0, job.log()
    events = job.summary()["events"]
    assert any("clock-000000000005 could not be made" in e and "the job goes on" in e for e in events), events
    assert any("/clock-" in e and "is complete" in e for e in events), events
    assert job.summary()["checkpoint"].endswith("epoch-00001")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(config, checkpoints) of a small finished job."""
    import cluster
    directory = tmp_path_factory.mktemp("finished")
    config = write_job(directory / "job.textproto", rows=20000, epochs=1)
    job = cluster.Local(directory, config)
    assert job.wait() == 0, job.log()
    return config, job.checkpoints


def again(finished, tmp_path, *flags, keep=()):
    config, checkpoints = finished
    copy = str(tmp_path / "copy")
    shutil.copytree(checkpoints, copy)
    for change in keep:
        change(copy)
    summary = str(tmp_path / "summary.json")
    done = run("local", "--config=" + config, "--checkpoint_dir=" + copy, "--run_dir=%s" % (tmp_path / "run"),
               "--summary=" + summary, *flags)
    return done, summary, copy


def test_a_finished_job_says_so_and_trains_on_for_more_epochs(finished, tmp_path):
    done, summary, copy = again(finished, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "is finished already" in done.stderr
    with open(summary) as f:
        assert json.load(f)["outcome"] == "finished"
    done = run("local", "--config=" + finished[0], "--checkpoint_dir=" + copy, "--run_dir=%s" % (tmp_path / "more"),
               "--summary=" + summary, "--set=train.epochs=2")
    assert done.returncode == 0, done.stderr
    with open(summary) as f:
        assert [e["epoch"] for e in json.load(f)["epochs"]] == [1, 2]


def test_fresh_starts_anew(finished, tmp_path):
    done, summary, _ = again(finished, tmp_path, "--fresh")
    assert done.returncode == 0, done.stderr
    with open(summary) as f:
        assert "resumes" not in json.dumps(json.load(f)["events"])


def test_another_config_is_refused_with_the_difference(finished, tmp_path):
    done, _, _ = again(finished, tmp_path, "--set=train.global_batch=512", "--set=train.epochs=2")
    assert done.returncode != 0
    assert "train.global_batch: 1024 -> 512" in done.stderr and "--fresh" in done.stderr


def test_damaged_checkpoints_are_refused_by_name(finished, tmp_path):
    def flip(name):
        def change(copy):
            with open(os.path.join(copy, "epoch-00001", name), "r+b") as f:
                f.seek(100)
                byte = f.read(1)
                f.seek(100)
                f.write(bytes([byte[0] ^ 1]))
        return change

    def missing(copy):
        os.remove(os.path.join(copy, "epoch-00001", "shard-00003.tgs"))

    for what, change in (("MANIFEST", flip("MANIFEST")), ("shard-00002.tgs", flip("shard-00002.tgs")),
                         ("shard-00003.tgs", missing)):
        directory = tmp_path / what
        directory.mkdir()
        done, _, _ = again(finished, directory, "--set=train.epochs=2", keep=[change])
        assert done.returncode != 0, what
        assert what in done.stderr, done.stderr


def test_the_checkpoints_of_another_job_are_refused_by_folder(finished, tmp_path):
    other = tmp_path / "other.textproto"
    with open(finished[0]) as f:
        other.write_text(f.read().replace('name: "integration"', 'name: "another"').replace("dim: 8", "dim: 4"))
    before = complete(finished[1])
    done = run("local", "--config=%s" % other, "--checkpoint_dir=" + finished[1], "--run_dir=%s" % (tmp_path / "run"))
    assert done.returncode != 0
    assert before[-1] in done.stderr and "--fresh" in done.stderr and "dim: 8 -> 4" in done.stderr, done.stderr
    assert complete(finished[1]) == before


TWO_TOWERS = """
data { format: CSV train { files: "%s" } }
feature { name: "user" table: "t" } feature { name: "item" table: "t" }
table { name: "t" part { name: "v" dim: 4 init { normal: 0.1 } sgd {} } }
model { preset { kind: TWO_TOWER query: "user.v" item: "item.v" units: [4] }
        task { name: "like" loss: SOFTMAX item_feature: "item" } }
dense { sgd {} }
train { global_batch: 50 epochs: 1 }
"""


def test_a_resumed_two_tower_job_says_that_item_frequencies_begin_anew(tmp_path):
    (tmp_path / "data.csv").write_text("user,item,label\n" + "".join("u%d,i%d,1\n" % (i % 20, i % 7) for i in range(400)))
    config = tmp_path / "job.textproto"
    config.write_text(TWO_TOWERS % (tmp_path / "data.csv"))
    for epochs, resumed in ((1, False), (2, True)):
        summary = tmp_path / "summary.json"
        done = run("local", config, "--set=train.epochs=%d" % epochs, "--checkpoint_dir=%s" % (tmp_path / "checkpoints"),
                   "--run_dir=%s" % (tmp_path / ("run%d" % epochs)), "--summary=%s" % summary)
        assert done.returncode == 0, done.stdout + done.stderr
        events = json.loads(summary.read_text())["events"]
        assert any("item frequencies of in-batch softmax anew" in e for e in events) == resumed, events


def test_an_incremental_checkpoint_is_used_like_a_full_one_and_a_broken_one_is_passed_over(local, stubs, tmp_path):
    rows = 200 * GLOBAL_BATCH
    config = write_exact_job(tmp_path / "job.textproto", rows, epochs=1)
    flags = (THREADS, "--set=train.checkpoint.every_clocks=10", "--set=train.checkpoint.full_every=2")
    first = local(config, *flags)

    def newest():
        found = complete(first.checkpoints)
        about = checkpoint.manifest(stubs, found[-1]) if found else None
        return found[-1] if about is not None and about.base else None

    wait_for(newest, "an incremental checkpoint")
    kill_all(first)
    incremental = [c for c in complete(first.checkpoints) if checkpoint.manifest(stubs, c).base][-1]
    assert sum(map(len, checkpoint.rows(stubs, incremental).values())) > 0
    exported = run("export", "--checkpoint=" + incremental, "--out=%s" % (tmp_path / "export"))
    assert exported.returncode == 0, exported.stderr

    damaged = os.path.join(incremental, sorted(n for n in os.listdir(incremental) if n.startswith("shard"))[0])
    os.truncate(damaged, os.path.getsize(damaged) - 1)
    for later in complete(first.checkpoints)[complete(first.checkpoints).index(incremental) + 1:]:
        shutil.rmtree(later)
    refused = run("export", "--checkpoint=" + incremental, "--out=%s" % (tmp_path / "export2"))
    assert refused.returncode != 0 and damaged in refused.stderr
    second = local(config, *flags, "--checkpoint_dir=" + first.checkpoints)
    assert second.wait() == 0, second.log()
    assert incremental + " is passed over: " + damaged in second.log()
    assert any("resumes from" in e and incremental not in e for e in second.summary()["events"]), second.summary()["events"]


def test_after_a_failover_the_shards_that_changed_hands_are_written_whole(local, stubs, tmp_path):
    job = start_training(local, tmp_path / "job.textproto", "--servers=3", "--set=cluster.replicas=2", "--set=cluster.durability=SYNC",
                         "--set=train.checkpoint.every_clocks=10", "--set=train.checkpoint.full_every=1000", "--set=train.checkpoint.keep=1000",
                         rows=400000, seconds=15, samples=20000)

    def whole_files():
        """Of the checkpoints that build on another one, oldest first."""
        found = [c for c in complete(job.checkpoints) if checkpoint.manifest(stubs, c).base]
        return [sum(data.startswith(b"TGSHARD1") for data in checkpoint.shard_bytes(c).values()) for c in found]

    wait_for(whole_files, "an incremental checkpoint")
    assert not any(whole_files())
    job.kill("tidegate-server")
    wait_for(lambda: any(whole_files()) and whole_files()[-1] == 0, "one with whole files, and one without after it", 120)
    kill_all(job)
    newest = complete(job.checkpoints)[-1]
    rows = checkpoint.rows(stubs, newest)["emb"]
    exported = run("export", "--checkpoint=" + newest, "--out=%s" % (tmp_path / "export"), "--json")
    assert exported.returncode == 0, exported.stderr
    with open(tmp_path / "export" / "model.safetensors", "rb") as f:
        length, = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(length))
        begin, end = header["emb.keys"]["data_offsets"]
        f.seek(8 + length + begin)
        keys = struct.unpack("<%dQ" % ((end - begin) // 8), f.read(end - begin))
    assert list(keys) == sorted(rows)
