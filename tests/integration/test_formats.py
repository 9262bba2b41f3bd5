"""Jobs whose data is no plain file: arrays, streams, drawn negatives, Parquet."""

import json
import os
import subprocess
import threading

import pytest
from cluster import BIN

MODEL = """
table { name: "t" part { name: "w" dim: 1 sgd { lr: 0.1 } } }
model { preset { kind: LR wide: "t.w" } }
"""


def job_of(tmp_path, data, features, train=""):
    path = tmp_path / "job.textproto"
    path.write_text("data { %s }\n%s%s%s" % (data, features, MODEL, train))
    return str(path)


def pipe_job(tmp_path, pipe, workers=2):
    return job_of(tmp_path, 'format: LIBSVM train { files: "%s" sequential: true }' % pipe,
                  'feature { name: "all" column: "*" id { multi_valued: true } table: "t" }\n',
                  'train { staleness: "inf" global_batch: 20 } cluster { workers: %d }\n' % workers)


def feed(path, lines, hold=None):
    with open(path, "w") as out:
        out.write("".join("%d %d:1\n" % (i % 2, i) for i in range(lines)))
        out.flush()
        if hold is not None:
            hold.wait(60)


def test_a_named_pipe_trains_until_it_closes(local, tmp_path):
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    writer = threading.Thread(target=feed, args=(pipe, 5000), daemon=True)
    writer.start()
    job = local(pipe_job(tmp_path, pipe))
    assert job.wait(90) == 0, job.log()
    assert job.summary()["samples"] == 5000


def test_a_job_that_waits_for_a_pipe_can_be_stopped(local, tmp_path):
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    hold = threading.Event()
    writer = threading.Thread(target=feed, args=(pipe, 100, hold), daemon=True)
    writer.start()
    job = local(pipe_job(tmp_path, pipe))
    assert job.wait_for_training(samples=80)
    job.process.terminate()
    assert job.wait(60) == 143, job.log()
    assert job.summary()["outcome"] == "stopped" and job.summary()["samples"] >= 80
    hold.set()


def test_standard_input_is_the_workers(tmp_path):
    lines = "".join("%d %d:1\n" % (i % 2, i) for i in range(3000))
    done = subprocess.run([os.path.join(BIN, "tidegate"), "local", "--config=" + pipe_job(tmp_path, "-", 1),
                           "--run_dir=%s" % (tmp_path / "run"), "--summary=%s" % (tmp_path / "summary.json")],
                          input=lines, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "summary.json").read_text())["samples"] == 3000


@pytest.mark.parametrize("staleness", ["0", "4"])
def test_negatives_and_leave_one_out_lists(local, tmp_path, staleness):
    pairs = [(u, i) for u in range(40) for i in range(u % 7, 50, 5)]
    (tmp_path / "train.tsv").write_text("".join("%d\t%d\n" % p for p in pairs))
    (tmp_path / "test.negative").write_text(
        "".join("(%d,%d)\t%s\n" % (u, 60, "\t".join(str(70 + k) for k in range(9))) for u in range(40)))
    job = local(job_of(
        tmp_path,
        'format: CSV csv { delimiter: "\\t" header: false column: ["user", "item"] } group: "user" '
        'valid_format: NCF_NEGATIVES train { files: "%s" shuffle_window: 100 } valid { files: "%s" } '
        'negatives { column: "item" values: 100 exclude_seen_by: "user" }'
        % (tmp_path / "train.tsv", tmp_path / "test.negative"),
        'feature { name: "user" table: "t" } feature { name: "item" table: "t" }\n',
        'train { staleness: "%s" global_batch: 50 epochs: 2 }\n' % staleness))
    assert job.wait(90) == 0, job.log()
    assert job.summary()["samples"] == 2 * 5 * len(pairs)


def test_a_negative_weight_names_file_and_line(local, tmp_path):
    data = tmp_path / "weighted.csv"
    data.write_text("label,x,w\n" + "1,a,1\n0,b,0.5\n" * 20 + "1,a,-1\n")
    job = local(job_of(tmp_path, 'format: CSV weight: "w" train { files: "%s" }' % data,
                       'feature { name: "x" table: "t" }\n'))
    assert job.wait(90) == 1
    assert "weighted.csv:42" in job.log() and "weight: -1 is negative" in job.log()


def test_parquet_without_its_program_says_what_to_do(local, tmp_path, monkeypatch):
    monkeypatch.setenv("TIDEGATE_PARQUET", "/no/such/program")
    data = tmp_path / "x.parquet"
    data.write_bytes(b"PAR1")
    job = local(job_of(tmp_path, 'format: PARQUET train { files: "%s" }' % data,
                       'feature { name: "x" table: "t" }\n'))
    assert job.wait(90) == 1
    assert "tidegate-parquet" in job.log() and "docs/formats.md" in job.log()


def test_real_parquet_trains(local, tmp_path):
    data = os.path.join(os.environ.get("TIDEGATE_DATA", ""), "formats/fuxictr/tiny_parquet/train.parquet")
    if not os.path.exists(data) or not os.path.exists(os.path.join(BIN, "tidegate-parquet")):
        pytest.skip("no tidegate-parquet in bin/, or no $TIDEGATE_DATA")
    path = job_of(tmp_path, 'format: PARQUET train { files: "%s" }' % data,
                  'feature { name: "userid" table: "t" } feature { name: "brand" table: "t" }\n')
    text = open(path).read().replace('wide: "t.w" }', 'wide: "t.w" } task { label: "clk" }')
    open(path, "w").write(text)
    job = local(path)
    assert job.wait(90) == 0, job.log()
    assert job.summary()["samples"] > 0
