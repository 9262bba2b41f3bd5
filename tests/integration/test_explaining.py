"""plan, data, explain and compare: what they say of a known job, and what they refuse."""

import json
import os
import sys

import pytest
from cluster import ROOT, run, write_job

sys.path.insert(0, os.path.join(ROOT, "python"))
from tidegate.xxh3 import feature_key, missing_key  # noqa: E402

COMMANDS = ["plan", "data", "explain", "compare"]


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return write_job(tmp_path_factory.mktemp("job") / "job.textproto", rows=20000, epochs=1, staleness="0")


@pytest.fixture(scope="module")
def runs(job, tmp_path_factory):
    """Two run folders: one and two epochs; with checkpoints."""
    folder = tmp_path_factory.mktemp("runs")
    for name, epochs in (("a", 1), ("b", 2)):
        done = run("local", "--config=" + job, "--set=train.epochs=%d" % epochs, "--checkpoint_dir=%s" % (folder / name / "checkpoints"),
                   "--run_dir=%s" % (folder / name), "-q")
        assert done.returncode == 0, done.stderr
    return folder


def answer(*arguments):
    done = run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_usage_and_help(command):
    assert run(command).returncode == 2
    assert run(command, "--no_such_flag", "x").returncode == 2
    done = run(command, "--help")
    assert done.returncode == 0 and done.stdout.startswith("tidegate %s " % command)


@pytest.mark.parametrize("command", ["plan", "data"])
def test_a_config_that_is_wrong_is_refused_with_its_line(command, tmp_path):
    done = run(command, tmp_path / "none")
    assert done.returncode == 1 and "none" in done.stderr
    config = tmp_path / "job.textproto"
    config.write_text("data { formatt: CSV }\n")
    done = run(command, config)
    assert done.returncode == 1 and "job.textproto:1" in done.stderr and 'did you mean "format"' in done.stderr


def test_data_says_what_the_generator_made(job):
    report = answer("data", job, "--limit=0")
    assert report["rows"] == 20000 and report["all"] is True
    assert 0.05 < report["labels"][0]["mean"] < 0.9 and report["labels"][0]["known"] == 1
    features = {f["name"]: f for f in report["features"]}
    assert list(features) == ["C1", "C2", "C3", "C4"]
    assert features["C1"]["distinct"] == 10 and features["C1"]["exact"] and features["C1"]["coverage"] == 1
    assert sum(t["count"] for t in features["C1"]["top"]) < 20000
    assert report["numeric"][0]["name"] == "I1"
    few = answer("data", job, "--limit=1000", "--top=1")
    assert few["rows"] == 1000 and few["all"] is False and len(few["features"][0]["top"]) == 1


def test_data_counts_what_is_missing(tmp_path):
    rows = tmp_path / "rows.libsvm"
    rows.write_text("1 a:1\n0 a:1 b:2\n0\n1 a:1 c:3\n")
    config = tmp_path / "job.textproto"
    config.write_text("""data { format: LIBSVM train { files: "%s" } }
        feature { name: "first" column: "#1" table: "t" } feature { name: "second" column: "#2" table: "t" }
        table { name: "t" part { name: "w" dim: 1 sgd {} } } model { preset { kind: LR wide: "t.w" } }""" % rows)
    report = answer("data", config)
    first, second = report["features"]
    assert (first["coverage"], first["missing"], first["distinct"]) == (0.75, 0.25, 1)
    assert first["top"] == [{"key": "%016x" % feature_key("first", "a"), "count": 3, "text": "a"}]
    assert (second["coverage"], second["distinct"]) == (0.5, 2)
    assert report["labels"][0]["mean"] == 0.5
    text = run("data", config).stdout
    assert "row 1  label 1" in text and '%016x "a"' % feature_key("first", "a") in text


@pytest.mark.parametrize("data,lines", [
    ('format: CSV csv { delimiter: ";" }', ["label;tags;n"] + ['1;red|"a b";5', "0;red;5"] * 3),
    ('format: CSV csv { header: false column: ["label", "tags", "n"] }', ["1,red|blue,5", "0,red,5"]),
    ("format: LIBFFM", ["1 3:red:1 4:5:2", "0 3:red:1"]),
])
def test_data_shows_the_texts_of_keys(tmp_path, data, lines):
    (tmp_path / "rows").write_text("".join(line + "\n" for line in lines))
    config = tmp_path / "job.textproto"
    column = "#3" if "FFM" in data else "tags"
    config.write_text("""data { %s train { files: "%s" } } feature { name: "tags" column: "%s" id { multi_valued: true } table: "t" }
        table { name: "t" part { name: "w" dim: 1 sgd {} } } model { preset { kind: LR wide: "t.w" } }""" % (data, tmp_path / "rows", column))
    top = answer("data", config)["features"][0]["top"]
    assert top[0]["text"] == "red" and top[0]["key"] == "%016x" % feature_key("tags", "red")
    assert all("text" in t for t in top)


def test_data_counts_bad_lines_by_reason(tmp_path):
    (tmp_path / "rows").write_text("label,a\n" + "1,x\n" * 5 + "yes,x\nno,x\n1,2,3\n7,x\n")
    config = tmp_path / "job.textproto"
    config.write_text("""data { format: CSV train { files: "%s" } } feature { name: "a" table: "t" }
        table { name: "t" part { name: "w" dim: 1 sgd {} } } model { preset { kind: LR wide: "t.w" } task { label: "label" } }""" % (tmp_path / "rows"))
    report = answer("data", config)
    assert report["rows"] == 5 and report["bad_lines"] == 4
    reasons = {r["reason"]: r for r in report["bad_line_reasons"]}
    assert reasons['label: "..." is no number']["count"] == 2 and reasons['label: "..." is no number']["first"].endswith('rows:7: label: "yes" is no number')
    assert reasons["N columns, not N"]["count"] == 1 and len(reasons) == 3
    text = run("data", config).stdout
    assert "bad lines, left out: 4" in text and '2  label: "..." is no number' in text


def test_data_without_rows_and_without_files(tmp_path, job):
    done = run("data", job, "--set=data.train.rows=0")
    assert done.returncode == 1
    config = tmp_path / "job.textproto"
    config.write_text("""data { format: LIBSVM train { files: "%s" } } feature { name: "a" column: "#1" table: "t" }
        table { name: "t" part { name: "w" dim: 1 sgd {} } } model { preset { kind: LR wide: "t.w" } }""" % (tmp_path / "gone"))
    done = run("data", config)
    assert done.returncode == 1 and "gone" in done.stderr
    assert "data.valid" in run("data", config, "--valid").stderr


def test_plan_states_shapes_parameters_and_bytes(job):
    plan = answer("plan", job)
    nodes = {n["name"]: n for n in plan["graph"]}
    assert (nodes["emb.v"]["fields"], nodes["emb.v"]["dim"]) == (4, 8)
    # 33 inputs, layers of 32, 16 and 1, each with a bias
    assert nodes["deep"]["parameters"] == 33 * 32 + 32 + 32 * 16 + 16 + 16 + 1
    assert nodes["logit"]["in"] == ["wide", "fm", "deep"]
    table = plan["tables"][0]
    assert (table["name"], table["width"], table["rows_by"]) == ("emb", 9, "all rows read")
    assert table["row_bytes"] == 16 + 9 * 4 * 2  # header, values, AdaGrad's accumulators
    assert table["rows"] == table["seen"] > 1000 and table["bytes_per_server"] > table["rows"] / 2 * table["row_bytes"]
    assert plan["rows_total"] == 20000 and plan["batch"] == 512
    assert plan["limit"] in ("compute", "wire", "reader")
    assert 0 < plan["pulled_bytes_per_sample"] < plan["pushed_bytes_per_sample"]


def test_plan_extrapolates_and_takes_a_count(job):
    some = answer("plan", job, "--limit=5000")["tables"][0]
    assert some["rows_by"] == "Heaps' law" and some["rows"] > some["seen"]
    given = answer("plan", job, "--rows_of=emb=1000000")["tables"][0]
    assert given["rows"] == 1000000 and given["bytes_per_server"] > 500000 * given["row_bytes"]
    blind = answer("plan", job, "--limit=0")
    assert blind["rows_read"] == 0 and blind["tables"][0]["rows_by"] == "not known" and blind["data_note"]


@pytest.mark.parametrize("flag,message", [("embb=5", 'did you mean "emb"'), ("emb", "TABLE=ROWS"), ("emb=x", "TABLE=ROWS"), ("emb=-1", "TABLE=ROWS")])
def test_plan_refuses_counts_that_make_no_sense(job, flag, message):
    done = run("plan", job, "--rows_of=" + flag)
    assert done.returncode == 1 and message in done.stderr


def test_explain_finds_a_row_in_a_checkpoint(runs):
    checkpoint = runs / "a" / "checkpoints" / "epoch-00001"
    by_value = answer("explain", "C1=1", "--checkpoint=%s" % checkpoint)
    key = feature_key("C1", "1")
    assert (by_value["key"], by_value["table"], by_value["shards"]) == (str(key), "emb", 128)
    if not by_value["row"]:
        pytest.skip("the generator has no value 1")
    assert by_value["touches"] >= by_value["updates"] > 0 and by_value["last_clock"] <= 20
    assert len(by_value["values"]["w"]) == 1 and len(by_value["values"]["v"]) == 8
    by_key = answer("explain", "0x%x" % key, "--checkpoint=%s" % checkpoint)
    assert {**by_value, "feature": None, "value": None} == {**by_key, "feature": None, "value": None}
    assert int(by_key["placement_hash"], 16) >> (64 - 7) == by_key["shard"]


def test_explain_of_a_key_without_a_row_says_so(runs):
    checkpoint = runs / "a" / "checkpoints" / "epoch-00001"
    found = answer("explain", "C2=", "--checkpoint=%s" % checkpoint)
    assert found["key"] == str(missing_key("C2")) and found["row"] is False
    assert "initialiser" in run("explain", "C2=never seen", "--checkpoint=%s" % checkpoint).stdout


@pytest.mark.parametrize("arguments,message", [
    (["C9=1"], 'no feature "C9"'), (["12x"], "is no key"), (["0x"], "is no key"), (["99999999999999999999"], "is no key"),
    (["1", "--table=embb"], 'did you mean "emb"'), (["5", "--table=logit/none"], "no table")])
def test_explain_refuses_by_name(runs, arguments, message):
    done = run("explain", *arguments, "--checkpoint=%s" % (runs / "a" / "checkpoints" / "epoch-00001"))
    assert done.returncode == 1 and message in done.stderr


def test_explain_in_a_running_job(local, tmp_path):
    config = write_job(tmp_path / "job.textproto", rows=50000000, epochs=1)
    job = local(config)
    job.wait_for_training(samples=20000)
    found = answer("explain", "C1=1", "--scheduler=" + job.address(), "--config=" + config)
    assert found["key"] == str(feature_key("C1", "1")) and ":" in found["server"]
    assert any(v != 0 for v in found["values"]["v"])
    done = run("explain", "C1=1", "--scheduler=" + job.address())
    assert done.returncode == 1 and "--config=FILE" in done.stderr
    assert run("explain", "7", "--scheduler=127.0.0.1:1").returncode == 1


def test_compare_shows_metrics_and_speed(runs):
    found = answer("compare", runs / "a", runs / "b")
    assert (found["a_epoch"], found["b_epoch"]) == (1, 2)
    auc = found["metrics"]["valid/click/auc"]
    assert auc["b"] > auc["a"] > 0.5
    assert found["speed"]["samples"] == {"a": 20000, "b": 40000}
    text = run("compare", runs / "a", runs / "b").stdout
    assert "valid/click/auc" in text and "+100.0%" in text


def test_compare_shows_which_fields_differ(runs, job, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text((runs / name / "summary.json").read_text())
        config = run("config", "--show", job, "--set=train.epochs=%d" % (1 if name == "a" else 2)).stdout
        (tmp_path / name / "config.textproto").write_text(config)
    assert answer("compare", tmp_path / "a", tmp_path / "b")["config"] == ["modified: train.epochs: 1 -> 2"]
    assert answer("compare", tmp_path / "a", tmp_path / "a")["config"] == []
    (tmp_path / "b" / "config.textproto").write_text("nonsense {")
    assert "config.textproto" in run("compare", tmp_path / "a", tmp_path / "b").stderr


def test_compare_refuses_what_is_no_run_folder(runs, tmp_path):
    done = run("compare", runs / "a", tmp_path)
    assert done.returncode == 1 and "no run folder" in done.stderr
    (tmp_path / "summary.json").write_text("[")
    done = run("compare", runs / "a", tmp_path)
    assert done.returncode == 1 and "summary.json" in done.stderr
