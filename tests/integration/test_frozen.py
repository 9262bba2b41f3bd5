"""What is frozen keeps its initial values through a whole job; what is not, learns."""

import checkpoint
import pytest
from cluster import write_job


@pytest.mark.parametrize("what", ["part", "dense"])
def test_a_frozen_piece_is_the_same_after_one_epoch_and_after_three(local, tmp_path, what):
    stubs = checkpoint.load_stubs(tmp_path)
    config = write_job(tmp_path / "job.textproto", rows=20000, staleness="0")
    freeze = "table.emb.part.v.frozen=true" if what == "part" else "dense.frozen=true"
    found = []
    for epochs in (1, 3):
        job = local(config, "--set=train.epochs=%d" % epochs, "--set=" + freeze)
        assert job.wait() == 0, job.log()
        found.append(checkpoint.rows(stubs, job.summary()["checkpoint"]))
    one, three = found
    assert set(one) == set(three)

    def values(tables, table, first=4, end=None):
        return {key: row[first:end] for key, row in tables[table].items()}

    w, v = (4, 5), (5, 13)  # of an emb row
    shared = set(one["emb"]) & set(three["emb"])
    assert len(shared) > 1000
    frozen_v = [values(t, "emb", *v) for t in (one, three)]
    learnt_w = [values(t, "emb", *w) for t in (one, three)]
    assert sum(learnt_w[0][k] != learnt_w[1][k] for k in shared) > len(shared) // 2
    same_v = sum(frozen_v[0][k] == frozen_v[1][k] for k in shared)
    dense = [name for name in one if name != "emb" and values(one, name) != values(three, name)]
    if what == "part":
        assert same_v == len(shared)
        assert dense, "the mlp learns"
    else:
        assert same_v < len(shared) // 2
        assert not dense
        assert any(any(x != 0 for x in row) for name in one if name != "emb" for row in values(one, name).values())
