"""How `tidegate local` ends: run folders used again, deaths at the start and at the end, signals, output that is lost."""

import json
import os
import signal
import socket
import subprocess
import time

import pytest
from cluster import BIN, TIDEGATE, run, start_training, wait_for, write_job

KEPT = ("summary.json", "config.textproto", "versions.json")


def contents(folder):
    return {name: (folder / name).read_bytes() for name in KEPT}


def finished_run(tmp_path):
    config = write_job(tmp_path / "job.textproto", rows=2000, epochs=1)
    done = run("local", "--config=" + config, "--run_dir=%s/run" % tmp_path)
    assert done.returncode == 0, done.stderr
    return config, contents(tmp_path / "run")


def binaries(folder, **scripts):
    """A folder of the binaries, those named replaced by shell scripts; {BIN} is where the real ones are."""
    folder.mkdir()
    for role in ("scheduler", "server", "worker"):
        path = folder / ("tidegate-" + role)
        if role in scripts:
            path.write_text("#!/bin/sh\n" + scripts[role].replace("{BIN}", BIN) + "\n")
            path.chmod(0o755)
        else:
            path.symlink_to(os.path.join(BIN, path.name))
    return "--bin_dir=%s" % folder


def summary_of(path):
    return json.loads(path.read_text())


def test_the_folder_of_a_finished_run_tells_of_its_end_and_keeps_its_results(tmp_path):
    config, before = finished_run(tmp_path)
    done = run("local", "--config=" + config, "--run_dir=%s/run" % tmp_path, "--summary=%s/again.json" % tmp_path)
    assert done.returncode == 0, done.stderr
    assert "finished at" in done.stderr and "server/0" not in done.stderr and "held-out rows" in done.stdout
    assert contents(tmp_path / "run") == before
    assert (tmp_path / "again.json").read_bytes() == before["summary.json"]


def test_the_folder_of_a_run_of_another_config_is_refused_and_kept(tmp_path):
    config, before = finished_run(tmp_path)
    (tmp_path / "s.json").write_text('{"outcome": "finished"}')
    done = run("local", "--config=" + config, "--run_dir=%s/run" % tmp_path, "--set=train.global_batch=77",
               "--summary=%s/s.json" % tmp_path)
    assert done.returncode == 1
    assert "--run_dir=%s/run" % tmp_path in done.stderr and "name another folder" in done.stderr
    assert contents(tmp_path / "run") == before
    summary = summary_of(tmp_path / "s.json")
    assert (summary["job"], summary["outcome"]) == ("integration", "failed") and "name another folder" in summary["message"]


def test_the_folder_of_a_run_under_way_is_refused_and_that_run_goes_on(local, tmp_path):
    job = start_training(local, tmp_path / "job.textproto", rows=50000000)
    address = job.address()
    assert address
    done = run("local", "--config=%s" % (tmp_path / "job.textproto"), "--run_dir=" + job.run_dir, "--set=train.global_batch=77")
    assert done.returncode == 1
    assert "--run_dir" in done.stderr and "in use" in done.stderr and "name another folder" in done.stderr
    assert job.address() == address and job.status()["phase"] == "training"
    assert "global_batch: 77" not in open(os.path.join(job.run_dir, "config.textproto")).read()
    job.process.send_signal(signal.SIGTERM)
    assert job.wait(60) == 143


def test_a_worker_that_ends_before_the_start_stops_the_job_with_its_reason(tmp_path):
    config = write_job(tmp_path / "job.textproto")
    with socket.socket() as taken:
        for _ in range(50):
            taken.close()
            taken = socket.socket()
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            if port < 65000:
                break
        taken.listen()
        # The scheduler, a server, two workers that can listen and then the port that is taken.
        done = run("local", "--config=" + config, "--servers=1", "--workers=3", "--metrics_port=%d" % (port - 4),
                   "--run_dir=%s/run" % tmp_path)
    assert done.returncode == 1, done.stderr
    assert "goes on without it" not in done.stderr
    summary = summary_of(tmp_path / "run" / "summary.json")
    assert "ended before the job started" in summary["message"] and "--metrics_port=%d" % port in summary["message"]
    assert summary["message"] in done.stderr


@pytest.mark.parametrize("role", ["server", "worker"])
def test_members_that_end_badly_after_the_job_has_finished_do_not_fail_it(tmp_path, role):
    config = write_job(tmp_path / "job.textproto", rows=500, epochs=1)
    flags = binaries(tmp_path / "bin", **{role: '{BIN}/tidegate-%s "$@"; exit 9' % role})
    done = run("local", "--config=" + config, "--run_dir=%s/run" % tmp_path, flags)
    assert done.returncode == 0, done.stderr
    assert "ended before" not in done.stderr and "stopping the job" not in done.stderr and "goes on without" not in done.stderr
    summary = summary_of(tmp_path / "run" / "summary.json")
    assert summary["outcome"] == "finished" and summary["local"]["exit_status"] == 0
    assert sorted(summary["local"]["endings"]) == ["%s/%d: exit status 9" % (role, i) for i in range(2)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_scheduler_listens_stops(tmp_path, number):
    config = write_job(tmp_path / "job.textproto")
    flags = binaries(tmp_path / "bin", scheduler='echo here; exec sleep 1000')
    process = subprocess.Popen([TIDEGATE, "local", "--config=" + config, "--run_dir=%s/run" % tmp_path,
                                "--summary=%s/s.json" % tmp_path, flags], stderr=subprocess.PIPE, text=True)
    wait_for(lambda: os.path.exists(tmp_path / "run" / "logs" / "scheduler.log"), "the scheduler's start")
    process.send_signal(number)
    log = process.communicate(timeout=20)[1]
    assert process.returncode == 128 + number, log
    summary = summary_of(tmp_path / "s.json")
    assert summary["outcome"] == "stopped" and summary["job"] == "integration" and "signal" in summary["message"]


def test_two_signals_at_once_are_one_wish(local, tmp_path):
    job = start_training(local, tmp_path / "job.textproto", rows=50000000)
    job.process.send_signal(signal.SIGTERM)
    time.sleep(0.05)
    job.process.send_signal(signal.SIGTERM)
    assert job.wait(60) == 143
    assert "ending all processes" not in job.log()
    assert job.summary()["outcome"] == "stopped" and job.summary()["samples"] > 0


def test_a_scheduler_that_cannot_be_kept_alive_leaves_a_summary(tmp_path):
    config = write_job(tmp_path / "job.textproto")
    (tmp_path / "s.json").write_text('{"outcome": "finished"}')
    script = 'for a in "$@"; do case "$a" in --address_file=*) echo 127.0.0.1:1 > "${a#*=}";; esac; done; sleep 0.3; kill -9 $$'
    flags = binaries(tmp_path / "bin", scheduler=script, server="exec sleep 1000", worker="exec sleep 1000")
    done = run("local", "--config=" + config, "--run_dir=%s/run" % tmp_path, "--summary=%s/s.json" % tmp_path, flags)
    assert done.returncode == 1
    summary = summary_of(tmp_path / "s.json")
    assert (summary["job"], summary["outcome"]) == ("integration", "failed")
    assert summary["message"] == "the scheduler ended: killed by signal 9 (Killed)"
    assert summary["local"]["scheduler_restarts"] == 5
    assert summary_of(tmp_path / "run" / "summary.json") == summary


@pytest.mark.parametrize("flags", [["--set=no.such.field=1"], ["--checkpoint_dir=/proc/c"]])
def test_what_is_refused_before_the_start_is_in_the_summary(tmp_path, flags):
    (tmp_path / "s.json").write_text('{"outcome": "finished"}')
    done = run("local", "--config=" + write_job(tmp_path / "job.textproto"), "--run_dir=%s/run" % tmp_path,
               "--summary=%s/s.json" % tmp_path, *flags)
    assert done.returncode in (1, 2)
    summary = summary_of(tmp_path / "s.json")
    assert summary["outcome"] == "failed" and summary["message"] and summary["message"] in done.stderr


def test_results_that_cannot_be_written_fail(tmp_path):
    config = write_job(tmp_path / "job.textproto", rows=500, epochs=1)
    with open("/dev/full", "w") as full:
        for command in (["version"], ["local", "--config=" + config, "--run_dir=%s/a" % tmp_path]):
            done = subprocess.run([TIDEGATE] + command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
            assert done.returncode == 1 and "cannot write to standard output" in done.stderr, done.stderr
    (tmp_path / "b" / "summary.json").mkdir(parents=True)
    done = run("local", "--config=" + config, "--run_dir=%s/b" % tmp_path)
    assert done.returncode == 1 and "cannot write the summary" in done.stderr, done.stderr
