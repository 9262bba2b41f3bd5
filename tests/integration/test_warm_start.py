"""A job that starts from another's export, with real processes."""

import json

import pytest
from cluster import run, write_job

FROZEN = ("--set=table.emb.part.w.frozen=true", "--set=table.emb.part.v.frozen=true", "--set=dense.frozen=true")


def train(folder, config, *flags):
    summary = folder / "summary.json"
    done = run("local", "--config=%s" % config, "--checkpoint_dir=%s" % (folder / "checkpoints"), "--run_dir=%s" % (folder / "run"),
               "--summary=%s" % summary, "-q", *flags)
    return done, json.loads(summary.read_text()) if summary.exists() else None


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(config, export, validation metrics) of a trained job."""
    folder = tmp_path_factory.mktemp("before")
    config = write_job(folder / "job.textproto", rows=20000, epochs=1, staleness="0")
    done, summary = train(folder, config)
    assert done.returncode == 0, done.stderr
    done = run("export", "--checkpoint=%s" % summary["checkpoint"], "--out=%s" % (folder / "export"))
    assert done.returncode == 0, done.stderr
    return config, folder / "export", valid(summary)


def valid(summary):
    return {name: value for name, value in summary["epochs"][-1]["metrics"].items() if name.startswith("valid/")}


def init(text):
    return "--set=train.init_from={%s}" % text


@pytest.mark.parametrize("servers", [1, 3])
def test_a_frozen_job_from_an_export_scores_as_the_job_before(exported, tmp_path, servers):
    config, export, metrics = exported
    done, summary = train(tmp_path, config, init('export: "%s"' % export), "--servers=%d" % servers, *FROZEN)
    assert done.returncode == 0, done.stderr
    assert valid(summary) == metrics and len(metrics) >= 3


def test_a_frozen_job_from_nothing_does_not(exported, tmp_path):
    config, _, metrics = exported
    done, summary = train(tmp_path, config, *FROZEN)
    assert done.returncode == 0, done.stderr
    assert valid(summary) != metrics


def test_training_goes_on_from_there(exported, tmp_path):
    config, export, metrics = exported
    done, summary = train(tmp_path, config, init('export: "%s"' % export))
    assert done.returncode == 0, done.stderr
    assert valid(summary)["valid/click/auc"] > metrics["valid/click/auc"]


def test_what_cannot_fill_the_job_is_refused_before_it_trains(exported, tmp_path):
    config, export, _ = exported
    for number, (text, flags, words) in enumerate([
            ('export: "%s/none"' % tmp_path, [], ["train.init_from", "no complete export"]),
            ('export: "%s"' % export, ["--set=feature.1.salt=other"], ["feature \"C1\"", "salt \"other\"", "strict: false"]),
            ('export: "%s" map { key: "emb.v" value: "emb.x" }' % export, [], ["no tensor \"emb.x\"", "it has"]),
            ('export: "%s"' % export, ["--set=table.emb.part.v.dim=4"], ["\"deep/w0\" has shape [17, 32]", "shape [33, 32]"])]):
        folder = tmp_path / str(number)
        folder.mkdir()
        done, summary = train(folder, config, init(text), *flags)
        assert done.returncode == 1, done.stderr
        for word in words:
            assert word in done.stderr, done.stderr
