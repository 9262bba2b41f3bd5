"""`unadmitted: FEATURE_OOV`: keys that are not admitted read and train their feature's out-of-vocabulary row, everywhere alike."""

import json
import os
import sys

import checkpoint
import pytest
from cluster import ROOT, run, write_job

sys.path.insert(0, os.path.join(ROOT, "python"))
np = pytest.importorskip("numpy", reason="numpy is not installed")
import tidegate  # noqa: E402
from tidegate.xxh3 import out_of_vocabulary_key  # noqa: E402

ROWS = 12300


def write_oov_job(path, options="admit_after: 10 unadmitted: FEATURE_OOV", **fields):
    write_job(path, rows=ROWS, **fields)
    text = path.read_text()
    assert text.count('name: "emb"\n') == 1
    path.write_text(text.replace('name: "emb"\n', 'name: "emb" %s\n' % options))
    return str(path)


def train(local, config, *flags):
    job = local(config, *flags)
    assert job.wait() == 0, job.log()
    return job.summary()


def evaluated(folder):
    done = run("evaluate", *folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(checkpoint, export, rows that were not trained on)."""
    folder = tmp_path_factory.mktemp("oov")
    config = write_oov_job(folder / "job.textproto", epochs=2, staleness="0")
    done = run("local", "--config=" + config, "--checkpoint_dir=%s" % (folder / "c"), "--run_dir=%s" % (folder / "run"),
               "--summary=%s" % (folder / "summary"), "-q")
    assert done.returncode == 0, done.stderr
    saved = json.loads((folder / "summary").read_text())["checkpoint"]
    done = run("export", "--checkpoint=" + saved, "--out=%s" % (folder / "export"))
    assert done.returncode == 0, done.stderr
    done = run("gen", "--config=" + config, "--out=%s" % (folder / "rows.tsv"), "--rows=3000", "--first_row=90000")
    assert done.returncode == 0, done.stderr
    return saved, str(folder / "export"), str(folder / "rows.tsv")


def predicted(source, rows, out):
    done = run("predict", source, "--data=%s" % rows, "--out=%s" % out)
    assert done.returncode == 0, done.stderr
    return out.read_bytes(), np.loadtxt(out, skiprows=1)


@pytest.mark.parametrize("flags", [["--staleness=0"], ["--staleness=4"], ["--set=train.wire_dtype=BFLOAT16"]])
def test_a_checkpoint_scores_what_the_workers_said(local, tmp_path, flags):
    summary = train(local, write_oov_job(tmp_path / "job.textproto", epochs=2), *flags)
    close = 1e-3 if "BFLOAT16" in flags[0] else 1e-5  # its evaluation pulls rounded rows
    epoch = int(summary["checkpoint"].rsplit("-", 1)[1])
    metrics = [e["metrics"] for e in summary["epochs"] if e["epoch"] == epoch][0]
    scores = evaluated(["--checkpoint=" + summary["checkpoint"]])
    assert scores["auc"] > 0.6 and scores["rows"] == 5000
    assert scores["auc"] == pytest.approx(metrics["valid/click/auc"], abs=close)
    assert scores["logloss"] == pytest.approx(metrics["valid/click/logloss"], abs=close)


def test_any_number_of_servers_gives_the_same_bytes(local, tmp_path):
    config = write_oov_job(tmp_path / "job.textproto", epochs=1, staleness="0")
    one, two, four = (checkpoint.shard_bytes(train(local, config, "--servers=%d" % n, "--worker_arg=--compute_threads=1",
                                                   "--set=cluster.shards=64")["checkpoint"]) for n in (1, 2, 4))
    assert one == two == four and len(one) == 64
    zeros = write_oov_job(tmp_path / "zero.textproto", "admit_after: 10 unadmitted: ZERO", epochs=1, staleness="0")
    assert checkpoint.shard_bytes(train(local, zeros, "--worker_arg=--compute_threads=1", "--set=cluster.shards=64")["checkpoint"]) != one


def test_two_workers_admit_and_score_what_one_does(local, tmp_path):
    config = write_oov_job(tmp_path / "job.textproto", epochs=1, staleness="0")
    one, two = (train(local, config, "--workers=%d" % n)["checkpoint"] for n in (1, 2))
    assert evaluated(["--checkpoint=" + one])["logloss"] == pytest.approx(evaluated(["--checkpoint=" + two])["logloss"], abs=1e-5)

    def touches(saved, question):
        answer = json.loads(run("explain", question, "--checkpoint=" + saved, "--json").stdout)
        return answer.get("touches", answer.get("samples_before_admission", 0)), answer["row"]

    questions = ["%d" % out_of_vocabulary_key("C%d" % c) for c in range(1, 5)] + ["C4=%d" % v for v in range(1, 4000, 200)]
    counted = [touches(one, q) for q in questions]
    assert counted == [touches(two, q) for q in questions]
    assert {row for _, row in counted} == {True, False}


def test_rare_keys_score_as_the_out_of_vocabulary_row(trained, tmp_path):
    saved, export, rows = trained
    model = tidegate.load(export)
    table = model.tables["emb"]
    oov = out_of_vocabulary_key("C4")
    assert model.id_features["C4"].oov_key == oov and oov in table.keys
    with open(rows) as f:
        lines = [line.rstrip("\n").split("\t") for line in f][:300]
    column = 1 + 13 + 3 if len(lines[0]) == 40 else 1 + 1 + 3
    keys = model.keys("C4", [line[column] for line in lines])
    rare = np.flatnonzero(~np.isin(keys, table.keys))
    assert 3 < len(rare) < len(lines)
    assert (table.rows(keys[rare], "v", oov) == table.rows(np.array([oov], np.uint64), "v")).all()
    assert np.abs(table.rows(np.array([oov], np.uint64), "v")).max() > 1e-3
    (tmp_path / "as-they-are").write_text("".join("\t".join(lines[i]) + "\n" for i in rare))
    (tmp_path / "never-seen").write_text("".join("\t".join(lines[i][:column] + ["nobody-%d" % i] + lines[i][column + 1:]) + "\n" for i in rare))
    a, scores = predicted("--checkpoint=" + saved, tmp_path / "as-they-are", tmp_path / "a")
    b, _ = predicted("--checkpoint=" + saved, tmp_path / "never-seen", tmp_path / "b")
    assert a == b and np.isfinite(scores).all()


def test_checkpoint_export_and_python_score_the_same(trained, tmp_path):
    saved, export, rows = trained
    a, scores = predicted("--checkpoint=" + saved, rows, tmp_path / "a")
    b, _ = predicted("--export=" + export, rows, tmp_path / "b")
    assert a == b and len(scores) == 3000
    model = tidegate.load(export)
    assert np.abs(model.score(list(tidegate.read_rows(model, rows))) - scores).max() < 1e-5
    assert np.std(scores) > 0.01


def test_the_row_counts_the_samples_that_read_it(trained):
    saved, _, _ = trained
    def explained(question):
        done = run("explain", question, "--checkpoint=" + saved, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    # All values of C1 are frequent: its key is read by their first samples alone. Many of C4 stay rare.
    few, many = (explained("%d" % out_of_vocabulary_key(f)) for f in ("C1", "C4"))
    assert many["row"] and many["touches"] > 2000 and len(many["values"]["v"]) == 8
    assert not few["row"] or few["touches"] < many["touches"] / 4
    nobody = run("explain", "C4=nobody", "--checkpoint=" + saved)
    assert "out-of-vocabulary row is read instead" in nobody.stdout and "nan" not in nobody.stdout
    assert explained("C4=nobody")["values"] == {} and explained("C4=nobody")["reads_out_of_vocabulary"] is True


def test_without_admission_it_is_a_warning(tmp_path):
    config = write_oov_job(tmp_path / "job.textproto", "unadmitted: FEATURE_OOV")
    done = run("config", "--check", config)
    assert done.returncode == 0 and "FEATURE_OOV without admit_after" in done.stdout + done.stderr
