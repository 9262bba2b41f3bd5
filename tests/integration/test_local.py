"""`tidegate local` from start to end: real processes, all stalenesses, deaths, signals, bad input."""

import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest
from cluster import BIN, run, start_training, wait_for, write_job

ROWS = 40000


@pytest.mark.parametrize("staleness", ["0", "4", "inf"])
def test_a_job_trains_evaluates_saves_and_ends(local, tmp_path, staleness):
    job = local(write_job(tmp_path / "job.textproto", rows=ROWS), "--staleness=" + staleness)
    assert job.wait() == 0, job.log()
    summary = job.summary()
    assert summary["outcome"] == "finished"
    assert summary["samples"] == 2 * ROWS
    assert [e["epoch"] for e in summary["epochs"]] == [1, 2]
    assert summary["epochs"][-1]["metrics"]["valid/click/auc"] > 0.6
    assert sum(summary["staleness_histogram"]) > 0 or staleness == "inf"
    if staleness == "0":
        assert sum(summary["staleness_histogram"][1:]) == 0
    if staleness == "4":
        assert sum(summary["staleness_histogram"][5:]) == 0
    assert summary["best_attainable"]["auc"] > summary["epochs"][-1]["metrics"]["valid/click/auc"]
    # The checkpoint scores without a cluster what the job said.
    done = run("evaluate", "--checkpoint=" + summary["checkpoint"])
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)
    epoch = int(summary["checkpoint"].rsplit("-", 1)[1])
    saved = [e for e in summary["epochs"] if e["epoch"] == epoch]
    assert scores["rows"] == 5000
    assert scores["auc"] == pytest.approx(saved[0]["metrics"]["valid/click/auc"], abs=1e-6)
    assert scores["logloss"] == pytest.approx(saved[0]["metrics"]["valid/click/logloss"], abs=1e-5)


def test_the_same_seed_gives_the_same_model_with_any_number_of_servers(local, tmp_path):
    config = write_job(tmp_path / "job.textproto", rows=10300, epochs=1, staleness="0")
    scores = []
    for servers in (1, 2, 4):
        job = local(config, "--servers=%d" % servers, "--set=cluster.shards=64")
        assert job.wait() == 0, job.log()
        scores.append(run("evaluate", "--checkpoint=" + job.summary()["checkpoint"]).stdout)
    assert json.loads(scores[0])["rows"] == 5000
    assert scores[1] == scores[0] and scores[2] == scores[0]


@pytest.mark.parametrize("staleness", ["0", "4"])
def test_a_killed_worker_costs_no_data(local, tmp_path, staleness):
    job = start_training(local, tmp_path / "job.textproto", "--staleness=" + staleness, rows=1000000, samples=20000)
    job.kill("tidegate-worker")
    assert job.wait() == 0, job.log()
    summary = job.summary()
    assert summary["outcome"] == "finished"
    assert summary["samples"] == job.rows
    assert any("worker" in e and "dead" in e for e in summary["events"]), summary["events"]
    assert summary["local"]["endings"] == ["worker/0: killed by signal 9 (Killed)"] or \
        summary["local"]["endings"] == ["worker/1: killed by signal 9 (Killed)"]


@pytest.mark.parametrize("staleness", ["0", "4"])
def test_a_killed_scheduler_comes_back_and_the_job_goes_on(local, tmp_path, staleness):
    job = start_training(local, tmp_path / "job.textproto", "--staleness=" + staleness, rows=1000000, samples=20000)
    first = job.kill("tidegate-scheduler")
    wait_for(lambda: [p for p in job.children("tidegate-scheduler") if p != first], "the scheduler's return")
    assert job.wait() == 0, job.log()
    summary = job.summary()
    assert (summary["outcome"], summary["scheduler_terms"]) == ("finished", 2)
    assert summary["local"]["scheduler_restarts"] == 1
    assert summary["samples"] >= job.rows


def test_a_killed_server_fails_the_job_with_a_reason(local, tmp_path):
    job = start_training(local, tmp_path / "job.textproto", rows=5000000)
    children = job.children()
    job.kill("tidegate-server")
    assert job.wait() == 1
    message = job.summary()["message"]
    assert "is dead" in message and re.search(r"server \d+ \(server/[01]\)", message) and "shards" in message, message
    assert "the job did not finish: " + message in job.log()
    assert not [p for p in children if os.path.exists("/proc/%d" % p)]


def test_a_worker_may_join_late(local, tmp_path):
    job = start_training(local, tmp_path / "job.textproto", "--workers=1", "--worker_arg=--compute_threads=1", rows=2000000,
                         seconds=4)
    late = subprocess.Popen([os.path.join(BIN, "tidegate-worker"), "--scheduler=" + job.address(), "--name=late",
                             "--compute_threads=1"],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: any(m["name"] == "late" and m.get("samples_total", 0) > 0
                             for m in (job.status() or {"members": []})["members"]), "the late worker's samples")
        assert job.wait() == 0, job.log()
        assert late.wait(30) == 0
        assert job.summary()["samples"] == job.rows
    finally:
        late.kill()
        late.wait()


@pytest.mark.parametrize("number,status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_everything_cleanly(local, tmp_path, number, status):
    job = start_training(local, tmp_path / "job.textproto", rows=50000000)
    children = job.children()
    assert len(children) == 5
    job.process.send_signal(number)
    assert job.wait(60) == status
    assert job.summary()["outcome"] == "stopped"
    assert list(job.summary())[:3] == ["job", "outcome", "message"]
    noise = [line for line in job.log().split("\n") if "| E " in line or "connection to server" in line]
    assert noise == []
    assert not [p for p in children if os.path.exists("/proc/%d" % p)]


def test_children_die_with_their_parent(local, tmp_path):
    job = start_training(local, tmp_path / "job.textproto", rows=50000000)
    children = job.children()
    job.process.kill()
    job.wait()

    def gone(pid):
        try:
            with open("/proc/%d/stat" % pid) as f:
                return f.read().rsplit(")", 1)[1].split()[0] == "Z"
        except OSError:
            return True

    wait_for(lambda: all(gone(p) for p in children), "the children's end", 20)


# ---- bad input: a clear error, a non-zero exit, nothing hangs --------------------------------------


def test_a_wrong_config_is_refused_with_its_line(tmp_path):
    path = tmp_path / "job.textproto"
    write_job(path)
    path.write_text(path.read_text().replace("shuffle_window", "shuffel_window"))
    line = 1 + path.read_text().split("\n").index("  train { rows: 40000 shuffel_window: 1000 }")
    for command in (["config", "--check", path], ["local", "--config=%s" % path]):
        done = run(*command)
        assert done.returncode == 1
        assert "%s:%d:" % (path, line) in done.stderr and 'did you mean "shuffle_window"' in done.stderr


@pytest.mark.parametrize("override,word", [
    ("model.preset.deep=emb.nope", "nope"),
    ("train.staleness=-1", "staleness"),
    ("cluster.replicas=2", "replicas above 1 go with SYNC"),
    ("no.such.field=1", 'no field "no"'),
])
def test_wrong_values_are_refused(tmp_path, override, word):
    done = run("local", "--config=" + write_job(tmp_path / "job.textproto"), "--set", override)
    assert done.returncode == 1 and word in done.stderr, done.stderr


def libsvm_job(tmp_path, train):
    path = tmp_path / "files.textproto"
    path.write_text("""
data { format: LIBSVM train { files: "%s" } }
feature { name: "all" column: "*" id { multi_valued: true } table: "t" }
table { name: "t" part { name: "w" dim: 1 sgd { lr: 0.1 } } }
model { preset { kind: LR wide: "t.w" } }
""" % train)
    return str(path)


@pytest.mark.parametrize("name,content", [
    ("missing", None),
    ("empty", b""),
    ("binary", bytes(range(256)) * 40),
    ("wrong", b"0,1,2,3\n" * 500),
    ("cut.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x01\x02"),
], ids=["missing", "empty", "binary", "wrong", "truncated"])
def test_bad_data_fails_the_job_and_names_the_file(local, tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    job = local(libsvm_job(tmp_path, tmp_path / name))
    assert job.wait(90) == 1, job.log()
    assert str(tmp_path / name) in job.log()


def test_bad_lines_are_reported_with_file_and_line(local, tmp_path):
    data = tmp_path / "some.libsvm"
    data.write_text("1 3:1 4:1\n" * 50 + "what is this\n" + "0 5:1\n" * 50)
    job = local(libsvm_job(tmp_path, data), "--workers=1")
    assert job.wait(90) == 1
    assert "some.libsvm:51" in job.log()
    job = local(libsvm_job(tmp_path, data), "--workers=1", "--set=data.max_bad_lines=1")
    assert job.wait(90) == 0, job.log()
    assert job.summary()["samples"] == 100


def test_a_port_in_use_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        done = run("local", "--config=" + write_job(tmp_path / "job.textproto"), "--run_dir=%s/run" % tmp_path,
                   "--scheduler_arg=--listen=" + address)
    assert done.returncode == 1
    assert address in done.stderr and "--listen" in done.stderr


@pytest.mark.parametrize("binary", ["tidegate-server", "tidegate-worker"])
def test_a_member_without_a_scheduler_gives_up_and_says_what_it_waited_for(binary):
    started = time.monotonic()
    done = subprocess.run([os.path.join(BIN, binary), "--scheduler=127.0.0.1:1", "--join_timeout=2"],
                          capture_output=True, text=True, timeout=60)
    assert 2 <= time.monotonic() - started <= 10
    assert done.returncode == 3
    assert "127.0.0.1:1" in done.stderr and "--join_timeout" in done.stderr, done.stderr


def test_a_damaged_checkpoint_is_refused_by_name(local, tmp_path):
    job = local(write_job(tmp_path / "job.textproto", rows=5000, epochs=1))
    assert job.wait() == 0, job.log()
    checkpoint = job.summary()["checkpoint"]
    shards = sorted((os.path.getsize(os.path.join(checkpoint, f)), f) for f in os.listdir(checkpoint) if f != "MANIFEST")
    for name, change in ((shards[-1][1], lambda b: b[:-5]), (shards[-1][1], lambda b: b[:40] + bytes([b[40] ^ 1]) + b[41:]),
                         ("MANIFEST", lambda b: b[:20] + bytes([b[20] ^ 4]) + b[21:]), ("MANIFEST", lambda b: b[:9])):
        path = os.path.join(checkpoint, name)
        with open(path, "rb") as f:
            good = f.read()
        with open(path, "wb") as f:
            f.write(change(good))
        done = run("evaluate", "--checkpoint=" + checkpoint)
        assert done.returncode == 1 and name in done.stderr, done.stderr
        with open(path, "wb") as f:
            f.write(good)
    assert run("evaluate", "--checkpoint=" + checkpoint).returncode == 0


def test_the_command_line_is_checked():
    assert run().returncode == 2
    assert run("lokal").returncode == 2
    done = run("local", "--confg=x")
    assert done.returncode == 2 and "did you mean --config" in done.stderr
    for command in ("local", "gen", "status", "evaluate", "bench", "config", "version"):
        done = run(command, "--help")
        assert done.returncode == 0 and done.stdout.startswith("tidegate " + command)


@pytest.mark.parametrize("binary", ["tidegate-scheduler", "tidegate-server", "tidegate-worker"])
def test_the_daemons_take_flags_alike(binary):
    def start(*flags):
        return subprocess.run([os.path.join(BIN, binary), *flags], capture_output=True, text=True, timeout=60)

    shown = start("--help")
    assert shown.returncode == 0 and shown.stdout.startswith("usage: " + binary), shown
    assert "--metrics_port=PORT" in shown.stdout and "(default 0)" in shown.stdout and "--metrics_host=HOST" in shown.stdout
    assert "--flagfile" not in shown.stdout and "--logtostderr" not in shown.stdout
    assert start("--version").stdout == binary + " " + run("version", "--json").stdout.split('"')[3] + "\n"
    for flags, words in ((["--metrics_prot=1"], ["--metrics_prot", "did you mean --metrics_port?"]),
                         (["stray"], ['"stray"']), (["--metrics_port=65536"], ["--metrics_port=65536", "from -1 to 65535"]),
                         (["--metrics_port"], ["--metrics_port needs a value"]), ([], ["is required"]),
                         (["--logtostderr"], ["has no flag --logtostderr"])):
        done = start(*flags)
        assert done.returncode == 2 and all(w in done.stderr for w in words), (flags, done)
        assert "usage: " + binary in done.stderr
    if binary != "tidegate-scheduler":
        for flags, words in ((["--scheduler=nowhere"], ["--scheduler=nowhere", "HOST:PORT"]), (["--scheduler=a:0"], ["port 0"]),
                             (["--scheduler=a:1", "--join_timeout=-1"], ["--join_timeout=-1", "from 0"])):
            done = start(*flags)
            assert done.returncode == 2 and all(w in done.stderr for w in words), (flags, done)


@pytest.mark.parametrize("flags,words", [
    (["--servers=0"], ["--servers=0", "from 1 to 64"]), (["--workers=0"], ["--workers=0", "from 1 to 64"]),
    (["--workers=65"], ["--workers=65"]), (["--metrics_port=-2"], ["--metrics_port=-2"]),
    (["--summary=/proc/x/summary"], ["--summary", "/proc/x/summary"]), (["--run_dir=/proc/run"], ["--run_dir", "/proc/run"]),
    (["--checkpoint_dir=/proc/c"], ["--checkpoint_dir", "/proc/c"]), (["--summary=/"], ["--summary", "folder"]),
])
def test_flags_of_local_that_cannot_work_are_refused_before_anything_starts(tmp_path, flags, words):
    done = run("local", "--config=" + write_job(tmp_path / "job.textproto"), "--run_dir=%s/run" % tmp_path, *flags)
    assert done.returncode == 2 and all(w in done.stderr for w in words), done.stderr
    assert "scheduler |" not in done.stderr


def test_a_status_of_no_address_fails_at_once():
    for address in ("nowhere", "host:port", ":1", "host:70000", "::1:5"):
        done = run("status", "--scheduler=" + address, "--timeout=3600", timeout=20)
        assert done.returncode == 2 and "--scheduler=" + address in done.stderr, done.stderr


def test_gen_refuses_what_it_cannot_make_and_to_replace_what_is_no_file(tmp_path):
    for cardinalities in (",,", "10,,5", "0", "10,x"):
        done = run("gen", "--out=%s/a.tsv" % tmp_path, "--cardinalities=" + cardinalities)
        assert done.returncode == 2 and "--cardinalities=" + cardinalities in done.stderr, done.stderr
    done = run("gen", "--out=%s/a.tsv" % tmp_path, "--cardinalities=")
    assert done.returncode == 2 and "--cardinalities needs a value" in done.stderr, done.stderr
    assert run("gen", "--out=%s/a.tsv" % tmp_path, "--rows=0").returncode == 2
    (tmp_path / "folder.tsv").mkdir()
    os.mkfifo(tmp_path / "pipe.tsv")
    for out in ("folder.tsv", "pipe.tsv"):
        done = run("gen", "--out=%s/%s" % (tmp_path, out), "--rows=10")
        assert done.returncode == 1 and out in done.stderr and "no regular file" in done.stderr, done.stderr
    assert sorted(os.listdir(tmp_path)) == ["folder.tsv", "pipe.tsv"]


def test_check_notes_data_that_is_not_there_and_passes(tmp_path):
    path = libsvm_job(tmp_path, tmp_path / "later*.txt")
    done = run("config", "--check", path)
    assert done.returncode == 0 and "note: data.train.files" in done.stderr and "later*.txt" in done.stderr
    (tmp_path / "later1.txt").write_text("1 2:1\n")
    done = run("config", "--check", path)
    assert done.returncode == 0 and done.stderr == ""


def test_a_bench_whose_cluster_fails_says_so_and_names_the_logs(tmp_path):
    for name in ("tidegate-scheduler", "tidegate-worker"):
        os.symlink(os.path.join(BIN, name), tmp_path / name)
    (tmp_path / "tidegate-server").write_text("#!/bin/sh\necho no server today\nexit 7\n")
    (tmp_path / "tidegate-server").chmod(0o755)
    for what in ("wire", "train"):
        done = run("bench", what, "--quick", "--bin_dir=%s" % tmp_path, timeout=100, cwd=tmp_path)
        assert done.returncode == 1 and "/logs" in done.stderr, (what, done.stderr)


def test_gen_writes_the_same_rows_for_a_seed_and_reports_what_can_be_reached(tmp_path):
    outputs = []
    for name in ("a.tsv", "b.tsv"):
        done = run("gen", "--out=%s/%s" % (tmp_path, name), "--rows=2000", "--seed=5", "--cardinalities=50,20", "-q")
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["rows"] == 2000 and 0.5 < report["attainable_auc"] < 1
        outputs.append((tmp_path / name).read_text())
    assert outputs[0] == outputs[1] and outputs[0].count("\n") == 2000
