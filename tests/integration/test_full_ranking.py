"""data.full_ranking: the metrics of training are those of every positive among all items, written out row by row."""

import json
import random

import pytest
from cluster import run

USERS, ITEMS = 30, 25
JOB = """
name: "ranked" seed: 3
data {
  format: CSV group: "user"
  train { files: "%(folder)s/train.csv" }
  valid { files: "%(folder)s/valid.csv" }
  full_ranking { column: "item" attribute: "kind" exclude_seen: %(exclude)s }
  split_bytes: 64
}
feature { name: "user" id {} table: "emb" }
feature { name: "item" id {} table: "emb" }
feature { name: "kind" id {} table: "emb" }
table { name: "emb" part { name: "w" dim: 1 adagrad { lr: 0.1 } } part { name: "v" dim: 4 init { normal: 0.1 } adagrad { lr: 0.1 } } }
model { preset { kind: FM wide: "emb.w" deep: "emb.v" } task { name: "like" metric: [NDCG, HR, RECALL] top_k: 4 } }
train { global_batch: 32 epochs: 2 staleness: "%(staleness)s" stop { monitor: "valid/like/ndcg@4" } }
cluster { servers: 2 workers: 2 }
"""


def row(user, item, label):
    return "u%d,i%d,k%d,%d\n" % (user, item, item % 4, label)


def write_data(folder, exclude):
    """Training and held-out lines, and all that a held-out positive is ranked with."""
    draw = random.Random(1)
    seen, held_out = set(), []
    with open(folder / "train.csv", "w") as train:
        train.write("user,item,kind,label\n")
        for _ in range(400):
            user, item = draw.randrange(USERS), draw.randrange(ITEMS - 1)
            seen.add((user, item))
            train.write(row(user, item, (user + item) % 3 == 0))
    for user in range(USERS):
        fresh = [i for i in range(ITEMS) if (user, i) not in seen]
        held_out += [(user, i) for i in draw.sample(fresh, 1 + user % 3)]
    draw.shuffle(held_out)  # a user's positives are in several splits
    header = "user,item,kind,label\n"
    (folder / "valid.csv").write_text(header + "".join(row(*p, 1) for p in held_out) + row(0, 0, 0))
    items = {i for _, i in seen} | {i for _, i in held_out}
    candidates = [(u, i) for u in range(USERS) for i in sorted(items)
                  if (u, i) not in held_out and not (exclude and (u, i) in seen)]
    (folder / "candidates.csv").write_text(header + "".join(row(*p, 1) for p in held_out) +
                                           "".join(row(*p, 0) for p in candidates))
    return len(held_out)


@pytest.mark.parametrize("staleness,exclude", [("0", True), ("4", False)])
def test_training_ranks_among_all_items(local, tmp_path, staleness, exclude):
    positives = write_data(tmp_path, exclude)
    config = tmp_path / "job.textproto"
    config.write_text(JOB % dict(folder=tmp_path, staleness=staleness, exclude=str(exclude).lower()))
    job = local(str(config))
    assert job.wait(90) == 0, job.log()
    summary = job.summary()
    best = max(summary["epochs"], key=lambda epoch: epoch["metrics"]["valid/like/ndcg@4"])["metrics"]

    def evaluated(*flags):
        done = run("evaluate", "--checkpoint=" + summary["checkpoint"], *flags)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    names = ("ndcg@4", "hr@4", "recall@4", "groups")
    by_rows = evaluated("--given_rows", "--data=%s" % (tmp_path / "candidates.csv"))
    ranked = evaluated()
    assert 0 < by_rows["ndcg@4"] < 1 and by_rows["groups"] == USERS
    assert {n: ranked[n] for n in names} == {n: by_rows[n] for n in names}
    assert "auc" not in ranked and ranked["rows"] == positives
    assert {n: best["valid/like/" + n] for n in names} == pytest.approx({n: by_rows[n] for n in names}, abs=1e-6)
    assert best["valid/like/rows"] == positives


def test_a_file_of_items_that_is_missing_is_named(local, tmp_path):
    write_data(tmp_path, True)
    config = tmp_path / "job.textproto"
    config.write_text(JOB.replace("full_ranking {", 'full_ranking { files: "%s/no_items"' % tmp_path)
                      % dict(folder=tmp_path, staleness="0", exclude="true"))
    job = local(str(config))
    assert job.wait(90) == 1
    assert "no_items" in job.log()
