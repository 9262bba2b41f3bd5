"""Whatever is killed, every row of every split reaches the model: by the rows' counters in the checkpoint.

A row counts the samples that held its key, over all pushes that were applied. After a kill each counter is at
least what it is after a run that nothing disturbed; more where a split that was half done was done again.
"""

import checkpoint
import pytest
from cluster import Local, start_training, wait_for, write_job

ROWS = 500000


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    return checkpoint.load_stubs(tmp_path_factory.mktemp("stubs"))


def counters(stubs, job):
    """{key: samples} of the sparse table."""
    return {key: row[0] for key, row in checkpoint.rows(stubs, job.summary()["checkpoint"])["emb"].items()}


@pytest.fixture(scope="module")
def undisturbed(stubs, tmp_path_factory):
    """undisturbed(rows): the counters after a job with so many rows that nothing disturbed."""
    known = {}

    def count(rows):
        if rows not in known:
            folder = tmp_path_factory.mktemp("undisturbed")
            job = Local(folder, write_job(folder / "job.textproto", rows=rows, epochs=1, staleness="inf"))
            try:
                assert job.wait() == 0, job.log()
                known[rows] = counters(stubs, job)
            finally:
                job.close()
            assert sum(known[rows].values()) == 4 * rows, "four categorical fields, each sample once"
        return known[rows]

    return count


@pytest.mark.parametrize("killed", ["tidegate-worker", "tidegate-scheduler"])
@pytest.mark.parametrize("staleness", ["0", "4"])
def test_no_row_is_lost(local, stubs, undisturbed, tmp_path, staleness, killed):
    job = start_training(local, tmp_path / "job.textproto", "--staleness=" + staleness, "--scheduler_arg=--lease_ms=1500",
                         rows=ROWS, samples=20000)
    pid = job.kill(killed)
    if killed == "tidegate-scheduler":
        wait_for(lambda: [p for p in job.children(killed) if p != pid], "the scheduler's return")
    assert job.wait() == 0, job.log()
    found, expected = counters(stubs, job), undisturbed(job.rows)
    assert set(found) == set(expected)
    lost = {key: (found[key], n) for key, n in expected.items() if found[key] < n}
    assert not lost, "%d keys of %d" % (len(lost), len(found))
    # What a killed worker had done of its leases may be there twice, but not more.
    assert sum(found.values()) <= 4 * job.rows * 1.2
    assert job.summary()["samples"] >= job.rows
    says = job.summary()
    assert says["scheduler_terms"] == 2 if killed == "tidegate-scheduler" else any("dead" in e for e in says["events"])
