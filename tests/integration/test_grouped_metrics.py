"""Metrics within groups: the summary's, `tidegate evaluate`'s and those computed here from `predict`'s scores agree."""

import collections
import json
import math
import random

import pytest
from cluster import run

K = 3
JOB = """
name: "grouped" seed: 5
data {
  format: CSV group: "user"
  train { files: "%(folder)s/train.csv" }
  valid { files: "%(folder)s/valid.csv" }
  split_bytes: 700
}
feature { name: "user" id {} table: "emb" }
feature { name: "item" id {} table: "emb" }
table { name: "emb" part { name: "w" dim: 1 adagrad { lr: 0.1 } } part { name: "v" dim: 4 init { normal: 0.1 } adagrad { lr: 0.1 } } }
model { preset { kind: FM wide: "emb.w" deep: "emb.v" }
        task { name: "like" metric: [NDCG, AUC, GAUC, HR, RECALL, RMSE] top_k: %(k)d } }
train { global_batch: 256 epochs: 2 staleness: "4" plateau {} }
cluster { servers: 2 workers: 2 }
"""


def write_rows(path, rows, seed):
    draw = random.Random(seed)
    with open(path, "w") as f:
        f.write("user,item,label\n")
        for _ in range(rows):
            user, item = draw.randrange(60), draw.randrange(40)
            f.write("u%d,i%d,%d\n" % (user, item, draw.random() < (0.8 if (user + item) % 3 == 0 else 0.2)))


def auc(rows):
    positives = [p for p, y in rows if y]
    negatives = [p for p, y in rows if not y]
    if not positives or not negatives:
        return None
    won = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives)
    return won / (len(positives) * len(negatives))


def grouped(users, scores, labels):
    by_user = collections.defaultdict(list)
    for user, p, y in zip(users, scores, labels):
        by_user[user].append((p, y))
    weight = total = 0
    hits, gains, recalls = [], [], []
    for rows in by_user.values():
        if auc(rows) is not None:
            weight += len(rows)
            total += len(rows) * auc(rows)
        rows.sort(key=lambda row: (-row[0], row[1]))  # ties: negatives first
        ranks = [i + 1 for i, (_, y) in enumerate(rows) if y]
        if not ranks:
            continue
        top = [r for r in ranks if r <= K]
        best = sum(1 / math.log2(i + 2) for i in range(min(len(ranks), K)))
        hits.append(bool(top))
        gains.append(sum(1 / math.log2(r + 1) for r in top) / best)
        recalls.append(len(top) / len(ranks))
    mean = lambda values: sum(values) / len(values)  # noqa: E731
    return {"gauc": total / weight, "hr@3": mean(hits), "ndcg@3": mean(gains), "recall@3": mean(recalls),
            "rmse": math.sqrt(mean([(p - y) ** 2 for p, y in zip(scores, labels)])),
            "auc": auc(list(zip(scores, labels))), "groups": len(by_user), "rows": len(scores)}


def test_every_grouped_metric_is_what_the_scores_say(local, tmp_path):
    write_rows(tmp_path / "train.csv", 8000, 1)
    write_rows(tmp_path / "valid.csv", 900, 2)
    config = tmp_path / "job.textproto"
    config.write_text(JOB % dict(folder=tmp_path, k=K))
    job = local(str(config))
    assert job.wait() == 0, job.log()
    summary = job.summary()
    metrics = summary["epochs"][-1]["metrics"]

    out = tmp_path / "scores.csv"
    done = run("predict", "--checkpoint=" + summary["checkpoint"], "--data=%s" % (tmp_path / "valid.csv"), "--out=%s" % out)
    assert done.returncode == 0, done.stderr
    header, *lines = out.read_text().split()
    assert header == "like"
    users, labels = [], []
    for line in (tmp_path / "valid.csv").read_text().split()[1:]:
        user, _, label = line.split(",")
        users.append(user)
        labels.append(int(label))
    expected = grouped(users, [float(line) for line in lines], labels)
    assert 0.55 < expected["gauc"] and 0 < expected["ndcg@3"] < 1
    assert {name: metrics["valid/like/" + name] for name in expected} == pytest.approx(expected, abs=1e-5)

    evaluated = run("evaluate", "--checkpoint=" + summary["checkpoint"])
    assert evaluated.returncode == 0, evaluated.stderr
    line = json.loads(evaluated.stdout)
    assert {name: line[name] for name in expected} == pytest.approx(expected, abs=1e-5)
    assert line["logloss"] > 0


def test_a_grouped_metric_without_groups_and_an_unknown_metric_are_refused(tmp_path):
    write_rows(tmp_path / "train.csv", 10, 1)
    write_rows(tmp_path / "valid.csv", 10, 2)
    config = tmp_path / "job.textproto"
    text = JOB % dict(folder=tmp_path, k=K)
    for wrong, message in ((text.replace(' group: "user"', ""), "metric GAUC needs a group id"),
                           (text.replace("RECALL", "RECAL"), 'did you mean "RECALL"?'),
                           (text.replace("top_k: 3", "top_k: 0"), "top_k is 0; from 1"),
                           (text.replace("AUC, GAUC", "LOGLOSS").replace("metric:", "loss: MSE metric:"),
                            "metric LOGLOSS needs predictions that are probabilities"),
                           (text.replace("plateau {}", 'plateau { monitor: "valid/like/hr@10" }'),
                            'did you mean "valid/like/hr@3"?')):
        config.write_text(wrong)
        done = run("config", "--check", config)
        assert done.returncode != 0 and message in done.stderr + done.stdout, (message, done.stderr + done.stdout)
