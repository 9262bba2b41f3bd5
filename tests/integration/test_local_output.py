"""What `tidegate local` shows: the command to go on with, where to watch, why a job failed, held-out rows that score nothing."""

import json
import os
import shlex
import subprocess

import pytest
from cluster import BIN, run, start_training, wait_for, write_job
from test_local import libsvm_job


def with_valid(path, valid):
    with open(path) as f:
        text = f.read()
    with open(path, "w") as f:
        f.write(text.replace("} }", '} valid { files: "%s" } }' % valid, 1))
    return path


def next_command(stdout):
    return [line for line in stdout.split("\n") if line.startswith("next ")][0].split(None, 1)[1]


def test_the_next_command_can_be_pasted(tmp_path):
    folder = tmp_path / "it's a folder"
    folder.mkdir()
    train = folder / "train.svm"
    train.write_text("1 3:1\n0 4:1\n" * 50)
    for config, word in ((with_valid(libsvm_job(tmp_path, train), train), " evaluate "), (libsvm_job(folder, train), " export ")):
        done = subprocess.run(["./tidegate", "local", "--config=" + config, "--run_dir=%s/run%s" % (folder, word.strip())], cwd=BIN,
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        command = next_command(done.stdout)
        assert command.startswith("./tidegate" + word), command
        done = subprocess.run(["sh", "-c", command], cwd=BIN, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, (command, done.stderr)
    assert (folder / "runexport" / "export").is_dir() and "--out=" in shlex.split(command)[-1]


def test_quiet_says_where_to_watch(local, tmp_path):
    job = start_training(local, tmp_path / "job.textproto", "-q", rows=50000000)
    line = wait_for(lambda: [x for x in job.log().split("\n") if x.startswith("watch  ")], "the line")
    assert len(line) == 1 and line[0].startswith("watch  http://127.0.0.1:")
    assert line[0].endswith("/  or  tidegate top --scheduler=" + job.address())
    job.process.terminate()
    assert job.wait(60) == 143


@pytest.mark.parametrize("flags", [[], ["-q"]])
def test_why_a_job_failed_is_said_by_who_met_it_and_at_the_end(tmp_path, flags):
    data = tmp_path / "some.svm"
    data.write_text("1 3:1\nnope\n")
    done = run("local", "--config=" + libsvm_job(tmp_path, data), "--run_dir=%s/run" % tmp_path, *flags)
    assert done.returncode == 1
    lines = [line for line in done.stderr.split("\n") if "some.svm:2" in line]
    assert len(lines) == 2, done.stderr
    assert lines[0].startswith("worker/0") and lines[1].startswith("tidegate local: the job did not finish: worker ")
    assert lines[1].count("worker ") == 1, lines[1]


@pytest.mark.parametrize("staleness", ["0", "4"])
def test_held_out_data_without_rows_fails_the_job_by_name(tmp_path, staleness):
    (tmp_path / "train.svm").write_text("1 3:1\n0 4:1\n" * 50)
    (tmp_path / "valid.svm").write_text("\n\n")
    config = with_valid(libsvm_job(tmp_path, tmp_path / "train.svm"), tmp_path / "valid.svm")
    done = run("local", "--config=" + config, "--run_dir=%s/run" % tmp_path, "--staleness=" + staleness)
    assert done.returncode == 1 and "data.valid" in done.stderr and str(tmp_path / "valid.svm") in done.stderr, done.stderr


def test_held_out_rows_of_one_class_have_no_auc(tmp_path):
    (tmp_path / "train.svm").write_text("1 3:1\n0 4:1\n" * 50)
    (tmp_path / "valid.svm").write_text("1 3:1\n" * 5)
    config = with_valid(libsvm_job(tmp_path, tmp_path / "train.svm"), tmp_path / "valid.svm")
    done = run("local", "--config=" + config, "--run_dir=%s/run" % tmp_path)
    assert done.returncode == 0, done.stderr
    assert "auc -" in done.stdout and "0.0000" not in done.stdout, done.stdout
    assert os.path.isdir(tmp_path / "run")


RAW_TIME = """data { format: CSV train { files: "%(data)s" } valid { files: "%(data)s" } %(data_more)s }
feature { name: "user" table: "emb" }
feature { name: "ts" numeric { } }
table { name: "emb" part { name: "w" dim: 1 adam { lr: 0.05 } } part { name: "v" dim: 4 init { normal: 0.05 } adam { } } }
dense { adam { lr: 0.01 } }
model { preset { kind: DEEPFM wide: "emb.w" deep: "emb.v" numeric: "ts" units: [8] } task { label: "click" } }
train { global_batch: 64 epochs: 2 staleness: "0" }
"""


@pytest.fixture
def clicks(tmp_path):
    """Writes clicks, which depend on the user, with a number each, and a config; says its path."""
    data = tmp_path / "clicks.csv"

    def write(first=0.0, step=0.001, header="click,user,ts", line="%d,u%d,%.12g\n", data_more=""):
        data.write_text(header + "\n" + "".join(line % (i % 7 < 3, i % 7, first + step * i) for i in range(1000)))
        path = tmp_path / "job.textproto"
        path.write_text(RAW_TIME % {"data": data, "data_more": data_more})
        return str(path)

    return write


def test_a_number_far_from_order_1_is_warned_of_before_and_after_training(clicks, tmp_path):
    config = clicks(1700000000, 60)
    warned = run("data", config)
    assert warned.returncode == 0 and 'warning: number "ts": mean 1.7e+09' in warned.stdout
    assert len(json.loads(run("data", config, "--json").stdout)["warnings"]) == 1
    done = run("local", "--config=" + config, "--run_dir=%s/run" % tmp_path)
    assert done.returncode == 0, done.stderr
    warning = [line for line in done.stdout.split("\n") if line.startswith("warning ")]
    assert len(warning) == 1 and "above the 0.6931 of 0.5 for every row" in warning[0], done.stdout


def test_a_sound_job_is_not_warned_of(clicks, tmp_path):
    config = clicks()
    assert "warning" not in run("data", config).stdout
    done = run("local", "--config=" + config, "--run_dir=%s/run" % tmp_path)
    assert done.returncode == 0 and "\nwarning" not in done.stdout, done.stdout


def test_a_job_past_its_epochs_says_so(clicks, tmp_path):
    command = ["local", "--config=" + clicks(), "--checkpoint_dir=%s/checkpoints" % tmp_path]
    assert run(*command, "--run_dir=%s/run" % tmp_path).returncode == 0
    done = run(*command, "--run_dir=%s/again" % tmp_path, "--set", "train.epochs=1")
    assert done.returncode == 0 and "train.epochs is 1, and the job has trained 2 already" in done.stdout, done.stdout + done.stderr


def test_scores_need_no_time_and_a_folder_of_checkpoints_names_the_newest(clicks, tmp_path):
    checkpoints = tmp_path / "checkpoints"
    config = clicks(header="click,user,ts,time", line="%d,u%d,%.12g,1700000000\n", data_more='timestamp: "time"')
    done = run("local", "--config=" + config, "--run_dir=%s/run" % tmp_path, "--checkpoint_dir=%s" % checkpoints)
    assert done.returncode == 0, done.stderr
    rows = tmp_path / "later.csv"
    rows.write_text("click,user,ts\n1,u1,1\n0,u2,1\n")
    refused = run("evaluate", "--checkpoint=%s" % checkpoints, "--data=%s" % rows)
    assert refused.returncode == 1 and "the newest complete one in it is %s/epoch-00002" % checkpoints in refused.stderr
    done = run("evaluate", "--checkpoint=%s/epoch-00002" % checkpoints, "--data=%s" % rows)
    assert done.returncode == 0 and json.loads(done.stdout)["rows"] == 2, done.stderr
