"""examples/own_csv as docs/tutorial.md goes through it, and the jobs that the documentation shows."""

import json
import os
import re
import subprocess
import sys

import pytest
from cluster import ROOT, run

EXAMPLE = os.path.join(ROOT, "examples", "own_csv")


def test_own_csv_from_rows_to_scores(tmp_path):
    subprocess.run([sys.executable, os.path.join(EXAMPLE, "make_clicks.py"), str(tmp_path), "100000"], check=True)
    config = os.path.join(EXAMPLE, "clicks.textproto")

    def go(*arguments):
        done = run(*arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert json.loads(go("data", config, "--json"))["rows"] == 100000
    assert json.loads(go("plan", config, "--json"))["tables"][0]["width"] == 9
    go("local", "--config=" + config, "--servers=2", "--workers=2", "--checkpoint_dir=checkpoints", "--summary=summary.json", "-q")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert max(e["metrics"]["valid/click/auc"] for e in summary["epochs"]) > 0.7
    # Run again it trains on, from where it was.
    go("local", "--config=" + config, "--servers=2", "--workers=2", "--checkpoint_dir=checkpoints", "--summary=more.json", "-q", "--set", "train.epochs=4")
    more = json.loads((tmp_path / "more.json").read_text())
    assert [e["metrics"]["valid/click/auc"] for e in more["epochs"][:3]] == [e["metrics"]["valid/click/auc"] for e in summary["epochs"]]
    assert len(more["epochs"]) == 4
    go("export", "--checkpoint=" + summary["checkpoint"], "--out=export")
    go("predict", "--export=export", "--data=clicks-valid.csv", "--out=scores.csv")
    pytest.importorskip("numpy", reason="numpy is not installed")
    program = ("import tidegate; m = tidegate.load('export'); "
               "s = m.score(list(tidegate.read_rows(m, 'clicks-valid.csv'))); "
               "e = [float(x) for x in open('scores.csv').read().split()[1:]]; "
               "assert len(s) == len(e) == 10000 and abs(s - e).max() < 1e-5")
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.path.join(ROOT, "python")})


@pytest.mark.parametrize("page", ["README.md", "docs/config.md", "docs/design.md"])
def test_whole_jobs_in_the_documentation_are_jobs(tmp_path, page):
    with open(os.path.join(ROOT, page)) as f:
        blocks = [b for b in re.findall(r"^```\n(.*?)^```$", f.read(), re.M | re.S) if "data {" in b and "model {" in b and "table {" in b]
    assert blocks, "no job in " + page
    for block in blocks:
        (tmp_path / "job.textproto").write_text(block)
        done = run("config", "--check", "job.textproto", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
