"""Export, predict and the Python module: the same scores three ways, and what each refuses."""

import hashlib
import json
import os
import subprocess
import sys

import pytest
from cluster import ROOT, run, write_job

sys.path.insert(0, os.path.join(ROOT, "python"))
np = pytest.importorskip("numpy", reason="numpy is not installed")
import tidegate  # noqa: E402

DATA = os.environ.get("TIDEGATE_DATA", os.path.join(os.path.dirname(ROOT), "shared", "data"))
FILES = ["job.textproto", "model.safetensors", "spec.json"]


def digests(folder):
    found = {}
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as f:
            found[name] = hashlib.sha256(f.read()).hexdigest()
    return found


def scores_of(path):
    return np.loadtxt(path, dtype=np.float64, skiprows=1, delimiter=",", ndmin=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(checkpoint, export, file of rows) of a DeepFM job on generated rows, 2 servers."""
    folder = tmp_path_factory.mktemp("trained")
    config = write_job(folder / "job.textproto", rows=20000, epochs=1, staleness="0")
    done = run("local", "--config=" + config, "--checkpoint_dir=" + str(folder / "checkpoints"), "--run_dir=" + str(folder / "run"), "-q")
    assert done.returncode == 0, done.stderr
    checkpoint, export, rows = folder / "checkpoints" / "epoch-00001", folder / "export", folder / "rows.tsv"
    done = run("export", "--checkpoint=%s" % checkpoint, "--out=%s" % export)
    assert done.returncode == 0, done.stderr
    done = run("gen", "--config=" + config, "--out=%s" % rows, "--rows=3000", "--first_row=90000")
    assert done.returncode == 0, done.stderr
    return checkpoint, export, rows


def test_an_export_has_its_three_files(trained):
    assert sorted(os.listdir(trained[1])) == FILES
    spec = json.loads((trained[1] / "spec.json").read_text())
    assert spec["format"] == 1 and spec["hash"]["name"] == "XXH3-64"
    assert [f["name"] for f in spec["features"]] == ["I1", "C1", "C2", "C3", "C4"]
    assert int(spec["data_fingerprint"]["xxh3"]) != 0


def test_checkpoint_and_export_predict_the_same_bytes(trained, tmp_path):
    checkpoint, export, rows = trained
    for source in ("checkpoint=%s" % checkpoint, "export=%s" % export):
        done = run("predict", "--" + source, "--data=%s" % rows, "--out=%s" % (tmp_path / source.split("=")[0]))
        assert done.returncode == 0, done.stderr
    a, b = (tmp_path / "checkpoint").read_bytes(), (tmp_path / "export").read_bytes()
    assert a == b and a.count(b"\n") == 3001 and a.startswith(b"click\n")


def test_the_python_module_scores_like_predict(trained, tmp_path):
    checkpoint, export, rows = trained
    assert run("predict", "--export=%s" % export, "--data=%s" % rows, "--out=%s" % (tmp_path / "scores.csv")).returncode == 0
    model = tidegate.load(str(export))
    scores = model.score(list(tidegate.read_rows(model, str(rows))))
    assert np.abs(scores - scores_of(tmp_path / "scores.csv")).max() < 1e-5
    assert np.std(scores) > 0.01


BLOCKS = """model {
  block { name: "q" linear { in: "C1.v" units: 8 } }
  block { name: "att" attention_pool { query: "q" sequence: "C4.v" units: [6] softmax: true } }
  block { name: "x" cross { in: ["emb.v", "I1"] layers: 2 rank: 3 } }
  block { name: "xf" cross { in: "q" layers: 1 } }
  block { name: "dots" dot { in: "emb.v" self: true } }
  block { name: "m" mul { in: ["q", "att"] } }
  block { name: "bn" batch_norm { in: ["m", "dots"] } }
  block { name: "cut" slice { in: "x" begin: 3 end: 9 } }
  block { name: "cos" cosine { in: ["q", "att"] scale: 2 } }
  block { name: "act" activation { in: ["cut", "bn"] kind: TANH } }
  block { name: "drop" dropout { in: "act" rate: 0.3 } }
  block { name: "mean" pool { in: "emb.v" kind: MEAN } }
  block { name: "logit" mlp { in: ["drop", "cos", "xf", "mean"] units: [8, 1] norm: BATCH activation: SIGMOID } }
  task { name: "click" logit: "logit" label: "label" loss: BCE metric: [AUC] }
}
"""


def test_every_block_scores_the_same_in_python(trained, tmp_path):
    config = write_job(tmp_path / "job.textproto", rows=20000, epochs=1, staleness="0")
    with open(config) as f:
        text = f.read()
    with open(config, "w") as f:
        f.write(text[:text.index("model {")] + BLOCKS + text[text.index("train { global"):])
    assert run("local", "--config=" + config, "--checkpoint_dir=%s" % (tmp_path / "c"), "--run_dir=%s" % (tmp_path / "r"), "-q").returncode == 0
    done = run("export", "--checkpoint=%s" % (tmp_path / "c" / "epoch-00001"), "--out=%s" % (tmp_path / "e"))
    assert done.returncode == 0, done.stderr
    assert run("predict", "--export=%s" % (tmp_path / "e"), "--data=%s" % trained[2], "--out=%s" % (tmp_path / "s")).returncode == 0
    model = tidegate.load(str(tmp_path / "e"))
    expected = scores_of(tmp_path / "s")
    assert np.abs(model.score(list(tidegate.read_rows(model, str(trained[2])))) - expected).max() < 1e-5
    assert np.std(expected) > 0.01


def test_keys_in_python_are_those_of_the_tables(trained):
    model = tidegate.load(str(trained[1]))
    with open(trained[2]) as f:
        values = {line.rstrip("\n").split("\t")[14] for line in f}
    keys = model.keys("C1", sorted(values))
    assert np.isin(keys, model.tables["emb"].keys).all()
    assert model.keys("C1", [None])[0] == tidegate.missing_key("C1")
    with pytest.raises(KeyError, match="no feature"):
        model.keys("D1", ["a"])


def test_rows_as_columns_and_unknown_features(trained):
    model = tidegate.load(str(trained[1]))
    by_rows = model.score([{"C1": "a", "I1": 2.0}, {"C2": 7}])
    by_columns = model.score({"C1": ["a", None], "I1": [2.0, None], "C2": [None, 7]})
    assert by_rows.tolist() == by_columns.tolist() and len(by_rows) == 2
    with pytest.raises(KeyError, match="C9"):
        model.score([{"C9": 1}])
    assert len(model.score([])) == 0


def test_the_bytes_do_not_depend_on_servers_or_shards(trained, tmp_path):
    exports = []
    for servers in (1, 3):
        config = write_job(tmp_path / "job.textproto", rows=20000, epochs=1, staleness="0")
        folder = tmp_path / str(servers)
        done = run("local", "--config=" + config, "--servers=%d" % servers, "--checkpoint_dir=%s" % (folder / "c"), "--run_dir=%s" % (folder / "r"), "-q")
        assert done.returncode == 0, done.stderr
        assert run("export", "--checkpoint=%s" % (folder / "c" / "epoch-00001"), "--out=%s" % (folder / "e")).returncode == 0
        exports.append(digests(folder / "e"))
    assert exports[0] == exports[1] == digests(trained[1])


def test_safetensors_own_package_reads_the_file(trained):
    safetensors = pytest.importorskip("safetensors.numpy", reason="the safetensors package is not installed")
    tensors = safetensors.load_file(str(trained[1] / "model.safetensors"))
    ours = tidegate.load(str(trained[1])).tensors
    assert sorted(tensors) == sorted(ours)
    for name, tensor in tensors.items():
        assert tensor.dtype == ours[name].dtype and (tensor == ours[name]).all(), name


def test_predict_needs_no_labels(trained, tmp_path):
    bare = tmp_path / "bare.tsv"
    bare.write_text("".join(line.split("\t", 1)[1] for line in open(trained[2])))
    for data, out in ((trained[2], tmp_path / "with"), (bare, tmp_path / "without")):
        done = run("predict", "--export=%s" % trained[1], "--data=%s" % data, "--out=%s" % out)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "with").read_bytes() == (tmp_path / "without").read_bytes()
    model = tidegate.load(str(trained[1]))
    assert np.abs(model.score(list(tidegate.read_rows(model, str(bare)))) - scores_of(tmp_path / "without")).max() < 1e-5
    done = run("evaluate", "--checkpoint=%s" % trained[0], "--data=%s" % bare)
    assert done.returncode == 1 and "bare.tsv:1: 39 columns, not 40" in done.stderr


def test_nothing_is_overwritten_unasked(trained, tmp_path):
    checkpoint, export, rows = trained
    out = tmp_path / "scores.csv"
    out.write_text("mine")
    done = run("predict", "--export=%s" % export, "--data=%s" % rows, "--out=%s" % out)
    assert done.returncode == 1 and "--force" in done.stderr and out.read_text() == "mine"
    assert run("predict", "--export=%s" % export, "--data=%s" % rows, "--out=%s" % out, "--force").returncode == 0
    done = run("export", "--checkpoint=%s" % checkpoint, "--out=%s" % tmp_path)
    assert done.returncode == 1 and "not empty" in done.stderr


@pytest.mark.parametrize("command", ["predict", "export"])
def test_usage(command, tmp_path):
    assert run(command).returncode == 2
    assert run(command, "--checkpoint=%s" % tmp_path, "--out=%s" % (tmp_path / "out"), "stray").returncode == 2
    done = run(command, "--help")
    assert done.returncode == 0 and "--checkpoint=DIR" in done.stdout
    done = run(command, "--checkpoint=%s" % tmp_path, "--out=%s" % (tmp_path / "out"))
    assert done.returncode == 1 and "no complete checkpoint" in done.stderr


def copy(folder, to):
    subprocess.run(["cp", "-r", str(folder), str(to)], check=True)
    return to


def damage(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-4])


def newer(path):
    path.write_text(path.read_text().replace('"format": 1,', '"format": 2,', 1))


def without_keys(path):
    path.write_text(path.read_text().replace('"name": "emb"', '"name": "other"', 1))


@pytest.mark.parametrize("name,change,message,python", [
    ("spec.json", os.remove, "no complete export", "no complete export"),
    ("spec.json", newer, "has format 2", "has format 2"),
    ("spec.json", cut, "no export's spec", "spec.json"),
    ("spec.json", without_keys, 'model.safetensors: no tensor "other.keys"', "other.keys"),
    ("model.safetensors", os.remove, "is missing", "model.safetensors"),
    ("model.safetensors", cut, "bytes", "bytes"),
    ("model.safetensors", damage, "damaged", None),
    ("job.textproto", os.remove, "is missing", None),
])
def test_a_broken_export_is_refused(trained, tmp_path, name, change, message, python):
    export = copy(trained[1], tmp_path / "export")
    change(export / name)
    done = run("predict", "--export=%s" % export, "--data=%s" % trained[2], "--out=%s" % (tmp_path / "out"))
    assert done.returncode == 1 and message in done.stderr and "/export/" in done.stderr, done.stderr
    assert not (tmp_path / "out").exists()
    if python:
        with pytest.raises(tidegate.ExportError, match=python):
            tidegate.load(str(export))


def test_a_broken_checkpoint_is_not_exported(trained, tmp_path):
    checkpoint = copy(trained[0], tmp_path / "checkpoint")
    shard = sorted(p for p in checkpoint.iterdir() if p.name != "MANIFEST")[0]
    shard.unlink()
    done = run("export", "--checkpoint=%s" % checkpoint, "--out=%s" % (tmp_path / "out"))
    assert done.returncode == 1 and shard.name in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_a_newer_version_is_refused(trained, tmp_path):
    checkpoint = copy(trained[0], tmp_path / "checkpoint")
    manifest = checkpoint / "MANIFEST"
    body = bytearray(manifest.read_bytes()[:-8])
    assert body[0] == 0x08  # field 1, the format
    body[1] = 99
    manifest.write_bytes(bytes(body) + tidegate.stable_hash(bytes(body)).to_bytes(8, "little"))
    done = run("export", "--checkpoint=%s" % checkpoint, "--out=%s" % (tmp_path / "out"))
    assert done.returncode == 1 and "has format 99" in done.stderr


def test_data_of_another_schema_is_refused(trained, tmp_path):
    rows = tmp_path / "rows"
    rows.write_text("1 2:3\n" * 5)
    done = run("predict", "--export=%s" % trained[1], "--data=%s" % rows, "--out=%s" % (tmp_path / "out"))
    assert done.returncode == 1 and "columns" in done.stderr
    assert not (tmp_path / "out").exists()


MANY_VALUES = """data { format: %s train { files: "%s" } valid { files: "%s" } }
feature { name: "a" column: "%s" id { multi_valued: true max_values: 2 missing: SKIP } table: "t" }
feature { name: "b" column: "%s" id { hash_buckets: 50 } table: "t" }
feature { name: "x" column: "%s" numeric { transform: LOG1P missing_value: 3 } }
table { name: "t" part { name: "w" dim: 1 sgd { lr: 0.5 } } part { name: "v" dim: 4 init { normal: 0.5 } adagrad { lr: 0.5 } } }
model { preset { kind: DEEPFM wide: "t.w" deep: "t.v" numeric: "x" units: [4] } task { name: "click" label: "label" loss: BCE metric: [AUC] } }
train { global_batch: 64 }
"""
FORMATS = {
    "CSV": ("a", "b", "x", "label,a,b,x\n", lambda r: '%d,%s,"%s",%s\n' % (r % 2, "|".join("v%d" % (r * k % 11) for k in range(r % 4)), "" if r % 7 == 0 else "w,%d" % (r % 90), r % 5 or "")),
    "LIBFFM": ("#0", "#1", "#2", "", lambda r: "%d%s%s 2:0:%d\n" % (r % 2, "".join(" 0:%d:1" % (r * k % 11) for k in range(r % 4)), "" if r % 7 == 0 else " 1:%d:1" % (r % 90), r % 5)),
}


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_lists_buckets_and_missing_values_score_the_same_in_python(tmp_path, form):
    a, b, x, head, line = FORMATS[form]
    rows = tmp_path / "rows"
    lines = "".join(line(r) + ("\n" if r % 90 == 0 else "") for r in range(500))  # with blank ones
    rows.write_bytes(("\ufeff" + head + lines).replace("\n", "\r\n").encode())
    config = tmp_path / "job.textproto"
    config.write_text(MANY_VALUES % (form, rows, rows, a, b, x))
    done = run("local", "--config=%s" % config, "--checkpoint_dir=%s" % (tmp_path / "c"), "--run_dir=%s" % (tmp_path / "r"), "-q")
    assert done.returncode == 0, done.stderr
    assert run("export", "--checkpoint=%s" % (tmp_path / "c" / "epoch-00001"), "--out=%s" % (tmp_path / "e")).returncode == 0
    done = run("predict", "--export=%s" % (tmp_path / "e"), "--out=%s" % (tmp_path / "s"))
    assert done.returncode == 0, done.stderr
    model = tidegate.load(str(tmp_path / "e"))
    expected = scores_of(tmp_path / "s")
    assert len(expected) == 500 and np.std(expected) > 0.01
    assert np.abs(model.score(list(tidegate.read_rows(model, str(rows)))) - expected).max() < 1e-5
    unlabelled = tmp_path / "unlabelled"
    unlabelled.write_text(head.replace("label,", "") + "".join(line(r)[2:] for r in range(1, 500, 2)))
    done = run("predict", "--export=%s" % (tmp_path / "e"), "--data=%s" % unlabelled, "--out=%s" % (tmp_path / "u"))
    assert done.returncode == 0, done.stderr
    assert np.abs(model.score(list(tidegate.read_rows(model, str(unlabelled)))) - scores_of(tmp_path / "u")).max() < 1e-5
    assert np.abs(scores_of(tmp_path / "u") - expected[1::2]).max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("config,rows,count", [
    ("a9a_lr", "a9a/a9a.t", 16281),
    ("frappe_deepfm", "frappe/valid.libfm", 57722),
    ("criteo_sample", "criteo_avazu_sample/criteo.test.csv", None),
])
def test_real_data_scores_the_same_in_python(tmp_path, config, rows, count):
    path = os.path.join(DATA, rows)
    if not os.path.exists(path):
        pytest.skip("no %s under TIDEGATE_DATA" % rows)
    done = run("local", "--config=" + os.path.join(ROOT, "configs", config + ".textproto"), "--servers=2", "--workers=1", "--set=train.epochs=1",
               "--checkpoint_dir=%s" % (tmp_path / "c"), "--run_dir=%s" % (tmp_path / "r"), "-q", timeout=600)
    assert done.returncode == 0, done.stderr
    assert run("export", "--checkpoint=%s" % (tmp_path / "c" / "epoch-00001"), "--out=%s" % (tmp_path / "e")).returncode == 0
    done = run("predict", "--checkpoint=%s" % (tmp_path / "c" / "epoch-00001"), "--data=" + path, "--out=%s" % (tmp_path / "s"), timeout=300)
    assert done.returncode == 0, done.stderr
    expected = scores_of(tmp_path / "s")
    model = tidegate.load(str(tmp_path / "e"))
    scores = model.score(list(tidegate.read_rows(model, path)))
    assert count is None or len(scores) == count
    assert len(scores) == len(expected) and np.abs(scores - expected).max() < 1e-5
