"""What a run leaves and how it is cut short: the run folder, --limit_steps, --overfit_one_batch, --profile, top."""

import json
import os
import subprocess

import pytest
from cluster import TIDEGATE, run, start_training, write_job


def finished(job):
    assert job.wait() == 0, job.log()
    return job.summary()


def test_a_run_folder_says_what_ran_and_runs_again(local, tmp_path):
    config = write_job(tmp_path / "job.textproto", rows=20000, epochs=1)
    job = local(config, "--set=train.global_batch=500", "--workers=1")
    summary = finished(job)
    names = set(os.listdir(job.run_dir))
    assert {"config.textproto", "versions.json", "summary.json", "logs", "state"} <= names, names
    with open(os.path.join(job.run_dir, "summary.json")) as f:
        assert json.load(f) == summary
    with open(os.path.join(job.run_dir, "versions.json")) as f:
        versions = json.load(f)
    assert versions["version"] == json.loads(run("version", "--json").stdout)["version"]
    assert versions["set"] == ["train.global_batch=500"] and versions["workers"] == 1 and versions["config"] == config
    # The resolved config needs neither the overrides nor the flags.
    resolved = os.path.join(job.run_dir, "config.textproto")
    with open(resolved) as f:
        text = f.read()
    assert "global_batch: 500" in text and "workers: 1" in text and 'name: "C4"' in text
    assert finished(local(resolved))["samples"] == summary["samples"]


@pytest.mark.parametrize("staleness", ["0", "4"])
def test_limit_steps_ends_the_job_early_with_a_checkpoint(local, tmp_path, staleness):
    config = write_job(tmp_path / "job.textproto", rows=40000, epochs=50, batch=1000, staleness=staleness)
    summary = finished(local(config, "--limit_steps=55", "--workers=1"))
    assert summary["samples"] == 55 * 1000 or staleness != "0"
    assert 54 * 900 <= summary["samples"] <= 55 * 1000
    assert len(summary["epochs"]) == 2 and summary["checkpoint"].endswith("epoch-00002")
    assert any("train.limit_steps" in e for e in summary["events"])


@pytest.mark.parametrize("staleness", ["0", "4"])
def test_overfit_one_batch_learns_that_batch_by_heart(local, tmp_path, staleness):
    config = write_job(tmp_path / "job.textproto", rows=100000, epochs=2, batch=256, staleness=staleness)
    plain = finished(local(config))["epochs"][-1]["metrics"]["train/loss"]
    overfitted = finished(local(config, "--overfit_one_batch"))["epochs"][-1]["metrics"]["train/loss"]
    assert overfitted < 0.05 < plain, (overfitted, plain)


def test_profile_writes_one_trace_of_all_processes_on_one_clock(local, tmp_path):
    job = local(write_job(tmp_path / "job.textproto", rows=100000, epochs=1), "--profile=12")
    finished(job)
    with open(os.path.join(job.run_dir, "trace.json")) as f:
        events = json.load(f)["traceEvents"]
    assert not [n for n in os.listdir(job.run_dir) if n.startswith("trace-")]
    names = {e["pid"]: e["args"]["name"] for e in events if e["ph"] == "M"}
    assert sorted(names.values()) == ["scheduler", "server/0", "server/1", "worker/0", "worker/1"]
    spans = [e for e in events if e["ph"] == "X"]
    assert all(0 <= e["args"]["clock"] < 12 and e["dur"] >= 0 for e in spans)
    by_role = {}
    for e in spans:
        by_role.setdefault(names[e["pid"]].split("/")[0], []).append(e)
    assert {"compute", "gather", "push", "wait for pull"} <= {e["name"] for e in by_role["worker"]}
    assert {"pull", "push"} <= {e["name"] for e in by_role["server"]}
    assert "AcquireWorkRequest" in {e["name"] for e in by_role["scheduler"]}
    for pid in [p for p, n in names.items() if n.startswith("worker")]:
        computed = sorted(e["args"]["clock"] for e in spans if e["pid"] == pid and e["name"] == "compute")
        assert computed == list(range(computed[0], 12)), computed
    # One clock: a server pulls for a step only after a worker began to gather its keys.
    first = {role: min(e["ts"] for e in by_role[role] if e["name"] in ("gather", "pull")) for role in ("worker", "server")}
    assert first["worker"] <= first["server"]


def test_top_follows_a_job_to_its_end_in_plain_lines(local, tmp_path):
    job = start_training(local, tmp_path / "job.textproto", rows=2000000)
    done = run("top", "--scheduler=" + job.address(), "--count=2", "--interval_ms=300")
    assert done.returncode == 0 and done.stdout.count("epoch 1/1") == 2 and "staleness of pulls" in done.stdout, done
    assert "\033" not in done.stdout
    top = subprocess.run([TIDEGATE, "top", "--scheduler=" + job.address(), "--interval_ms=100"], capture_output=True, text=True,
                         timeout=120)
    assert top.returncode == 0 and "samples/s" in top.stdout, top
    assert "ended" in top.stderr or "finished" in top.stderr
    finished(job)


def test_top_without_a_scheduler_says_so():
    done = run("top", "--scheduler=127.0.0.1:1", "--count=1")
    assert done.returncode == 1 and "127.0.0.1:1" in done.stderr
    assert run("top", "--scheduler=nowhere").returncode == 2
    assert run("top").returncode == 2
