"""Staleness 0 is synchronous SGD: any number of servers gives the same bits, W workers x B is one worker x WB."""

import checkpoint
import pytest
from cluster import write_job

GLOBAL_BATCH = 2048


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    return checkpoint.load_stubs(tmp_path_factory.mktemp("stubs"))


def write_exact_job(path, rows, epochs=1, optimizers=("sgd { lr: 0.5 }", "sgd { lr: 0.5 }", "sgd { lr: 0.1 }")):
    """The harness's DeepFM with dropout and numbers, without batch norm."""
    write_job(path, rows=rows, epochs=epochs, batch=GLOBAL_BATCH, staleness="0")
    text = path.read_text()
    for old, new in (('dim: 1 adagrad { lr: 0.05 }', "dim: 1 " + optimizers[0]),
                     ('adagrad { lr: 0.05 }', optimizers[1]), ("adam { lr: 0.001 }", optimizers[2]),
                     ("units: [32, 16]", "units: [32, 16] dropout: 0.2"), ("normal: 0.01", "normal: 0.1"),
                     ("servers: 2", "servers: 2 shards: 64"), ("rows: 5000", "rows: 200")):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path.write_text(text)
    return str(path)


def train(local, config, servers, workers, samples, *flags):
    job = local(config, "--servers=%d" % servers, "--workers=%d" % workers, "--worker_arg=--compute_threads=1", *flags)
    assert job.wait() == 0, job.log()
    summary = job.summary()
    assert summary["samples"] == samples
    return summary["checkpoint"]


@pytest.mark.parametrize("optimizers", [
    ("momentum { lr: 0.05 }", "adam { lr: 0.01 }", "adam { lr: 0.001 }"),
    ("ftrl { alpha: 0.05 l1: 0.1 }", "rowwise_adagrad { lr: 0.05 }", "momentum { lr: 0.05 }"),
], ids=["momentum-adam", "ftrl-adagrad"])
def test_the_same_seed_gives_the_same_bytes_with_1_2_and_4_servers(local, tmp_path, optimizers):
    rows = 4 * GLOBAL_BATCH + 777
    config = write_exact_job(tmp_path / "job.textproto", rows, epochs=2, optimizers=optimizers)
    one, two, four = (checkpoint.shard_bytes(train(local, config, n, 2, 2 * rows)) for n in (1, 2, 4))
    assert len(one) == 64 and sum(map(len, one.values())) > 64 * 1024
    for name in one:
        assert two[name] == one[name] and four[name] == one[name], name
    assert set(two) == set(four) == set(one)


def test_a_schedule_gives_the_same_bytes_with_1_and_2_servers(local, tmp_path):
    rows = 6 * GLOBAL_BATCH + 777
    config = write_exact_job(tmp_path / "job.textproto", rows, epochs=2, optimizers=(
        "momentum { lr: 0.05 nesterov: true }", "adamw { lr: 0.01 step: GLOBAL } clip { norm: 0.01 }",
        "adamw { lr: 0.001 } clip { value: 0.001 }"))
    flags = ["--set=train.schedule.%s" % s for s in ("kind=COSINE", "every=10", "warmup_steps=3", "min_scale=0.1")]
    one, two = (checkpoint.shard_bytes(train(local, config, n, 2, 2 * rows, *flags)) for n in (1, 2))
    constant = checkpoint.shard_bytes(train(local, config, 1, 2, 2 * rows))
    assert set(one) == set(two)
    assert all(two[name] == one[name] for name in one)
    assert all(constant[name] != one[name] for name in one)


def test_another_seed_gives_other_bytes(local, tmp_path):
    config = write_exact_job(tmp_path / "job.textproto", GLOBAL_BATCH)
    first = checkpoint.shard_bytes(train(local, config, 1, 1, GLOBAL_BATCH))
    with open(config) as f:
        text = f.read()
    with open(config, "w") as f:
        f.write(text.replace("seed: 3\n", "seed: 4\n"))
    assert checkpoint.shard_bytes(train(local, config, 1, 1, GLOBAL_BATCH)) != first


@pytest.mark.parametrize("rows,steps", [
    (GLOBAL_BATCH, 1), (701, 1), (GLOBAL_BATCH + 1, 2), (5 * GLOBAL_BATCH - 1, 5), (20 * GLOBAL_BATCH + 333, 21)
], ids=["one", "one-partial", "two", "five", "epoch"])
def test_two_workers_with_half_the_batch_equal_one_worker(local, stubs, tmp_path, rows, steps):
    """Counters agree exactly; values to 1e-5 of a row's scale, which is what float32 sums in another order cost."""
    config = write_exact_job(tmp_path / "job.textproto", rows)
    one, two = (checkpoint.rows(stubs, train(local, config, 2, workers, rows)) for workers in (1, 2))
    assert set(one) == set(two) and "emb" in one and len(one) > 3
    for table in one:
        assert set(one[table]) == set(two[table]), table
        for key, expected in one[table].items():
            got = two[table][key]
            first = 0 if table == "emb" else 1  # of dense blocks the first counter counts contributions
            assert got[first:4] == expected[first:4], (table, key)
            assert 1 <= expected[1] <= steps
            assert got[4:] == pytest.approx(expected[4:], rel=1e-5, abs=1e-6), (table, key)
    dense = [r for t, found in one.items() if t != "emb" for r in found.values()]
    assert all(r[1] == steps for r in dense), "a dense block is updated once per clock"
