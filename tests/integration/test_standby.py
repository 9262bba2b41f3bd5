"""Schedulers with their state in etcd: one leads, others stand by; the job ends as if nothing had happened."""

import json
import os
import signal
import subprocess
import time

import pytest
from checkpoint import shard_bytes
from cluster import BIN, run, wait_for, write_job
from etcd import Etcd, needs_etcd

pytestmark = needs_etcd
ROWS, EPOCHS, TTL = 1200000, 2, 2
SAMPLES = ROWS * EPOCHS


class Schedulers:
    """Two schedulers, two servers and two workers, without `tidegate local`."""

    def __init__(self, directory, etcd):
        self.directory, self.etcd, self.started = directory, etcd, []
        self.config = write_job(directory / "job.textproto", rows=ROWS, epochs=EPOCHS, staleness="0")
        self.schedulers = []

    def start(self, binary, *flags):
        path = self.directory / ("log-%d-%s" % (len(self.started), binary))
        with open(path, "w") as log:
            process = subprocess.Popen([os.path.join(BIN, binary), "--metrics_port=-1", *flags], stdout=log, stderr=log,
                                       stdin=subprocess.DEVNULL)
        process.log = path.read_text
        self.started.append(process)
        return process

    def start_scheduler(self, *flags):
        i = len(self.schedulers)
        address = self.directory / ("address-%d" % i)
        process = self.start("tidegate-scheduler", "--config=" + self.config, "--state=" + self.etcd.state("/it/job"),
                             "--checkpoint_dir=%s" % (self.directory / "ck"), "--leader_ttl_s=%d" % TTL, "--http_port=-1",
                             "--address_file=%s" % address, "--summary=%s" % (self.directory / ("summary-%d.json" % i)), *flags)
        wait_for(lambda: address.exists() or process.poll() is not None, "the scheduler's address")
        process.address = address.read_text().strip() if address.exists() else ""
        self.schedulers.append(process)
        return process

    def start_all(self, schedulers=2, flags=()):
        for i in range(schedulers):
            self.start_scheduler(*flags)
            wait_for(lambda: "leads by" in self.schedulers[0].log() or self.schedulers[0].poll() is not None, "a leader")
        self.addresses = ",".join(s.address for s in self.schedulers)
        for binary in ["tidegate-server", "tidegate-worker"] * 2:
            self.start(binary, "--scheduler=" + self.addresses, "--name=%s-%d" % (binary, len(self.started)))
        return self

    def status(self):
        done = run("status", "--scheduler=" + self.addresses, "--json", "--timeout=2")
        return json.loads(done.stdout) if done.returncode == 0 else None

    def wait_for_samples(self, samples):
        def reached():
            status = self.status()
            if not status or status["phase"] not in ("training", "evaluating"):
                return None
            return status if status["samples_total"] >= samples else None
        found = wait_for(reached, "%d samples" % samples, timeout=120)
        assert found["samples_total"] < SAMPLES
        return found

    def leader(self):
        address = self.etcd.get("/it/job/leader")
        return next((s for s in self.schedulers if s.address == address), None)

    def finish(self, *expected):
        """Waits for all but those that were killed; the final shards' bytes."""
        for process in self.started:
            if process not in expected:
                assert process.wait(180) == 0, process.log()
        folders = sorted(f for f in os.listdir(self.directory / "ck") if f.startswith("epoch-"))
        return shard_bytes(str(self.directory / "ck" / folders[-1]))

    def summary(self, scheduler):
        with open(self.directory / ("summary-%d.json" % self.schedulers.index(scheduler))) as f:
            return json.load(f)

    def close(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.fixture
def job(tmp_path):
    made = []

    def make(nodes=1):
        etcd = Etcd(tmp_path, nodes)
        made.append(etcd)
        made.append(Schedulers(tmp_path, etcd))
        return made[-1]

    yield make
    for one in reversed(made):
        one.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The final shards of a run that nothing disturbs."""
    directory = tmp_path_factory.mktemp("undisturbed")
    config = write_job(directory / "job.textproto", rows=ROWS, epochs=EPOCHS, staleness="0")
    done = run("local", "--config=" + config, "--checkpoint_dir=%s" % (directory / "ck"), "--run_dir=%s" % (directory / "run"), "-q",
               timeout=300)
    assert done.returncode == 0, done.stderr
    return shard_bytes(str(directory / "ck" / ("epoch-%05d" % EPOCHS)))


def test_a_killed_leader_is_followed_by_a_standby_and_the_job_ends_in_the_same_bits(job, undisturbed):
    j = job().start_all()
    standby = j.schedulers[1]
    wait_for(lambda: "stands by" in standby.log(), "the standby")
    assert j.schedulers[0].address in standby.log()
    before = j.wait_for_samples(SAMPLES // 10)
    j.schedulers[0].kill()
    j.schedulers[0].wait()
    wait_for(lambda: "leads by" in standby.log(), "the new leader")
    third = j.start_scheduler()
    wait_for(lambda: standby.address in third.log(), "another standby")
    after = wait_for(j.status, "status")
    assert after["term"] == before["term"] + 1
    # A new leader renews the leases before it declares anyone dead.
    assert all(m["alive"] for m in after["members"])
    assert j.finish(j.schedulers[0]) == undisturbed
    assert j.summary(standby)["samples"] == SAMPLES
    assert "finished at 20" in third.log()  # it led last, when there was nothing left to do


def test_a_leader_that_was_stopped_for_three_leases_changes_nothing_and_stands_by(job, undisturbed):
    j = job().start_all()
    stopped, standby = j.schedulers
    j.wait_for_samples(SAMPLES // 20)
    since = time.monotonic()
    stopped.send_signal(signal.SIGSTOP)
    try:
        wait_for(lambda: "leads by" in standby.log(), "the new leader")
        time.sleep(max(0, 3 * TTL - (time.monotonic() - since)))
        revision = j.etcd.revision("/it/job/leader")
    finally:
        stopped.send_signal(signal.SIGCONT)
    wait_for(lambda: "leads no more: the lease of 2 s" in stopped.log(), "the old leader's word")
    if standby.poll() is None:  # on a machine that is so fast that the job is done, the lead has gone on
        wait_for(lambda: "stands by at" in stopped.log(), "the old leader's turn")
        assert j.leader() is standby and j.etcd.revision("/it/job/leader") == revision
    assert j.finish() == undisturbed
    # It led once more when the job had ended, and had counted no term in between.
    assert [j.summary(s)["scheduler_terms"] for s in (standby, stopped)] == [2, 3]
    assert j.summary(standby)["samples"] == SAMPLES


def test_the_job_outlives_a_node_of_etcd_and_the_leader(job, undisturbed):
    j = job(nodes=3).start_all()
    j.wait_for_samples(SAMPLES // 20)
    node = wait_for(j.etcd.leader_node, "etcd's leader") if j.etcd.leader_node() is None else j.etcd.leader_node()
    j.etcd.kill(node)
    j.wait_for_samples(SAMPLES // 10)
    j.etcd.start_again(node)
    leader = wait_for(j.leader, "the leader")
    leader.kill()
    leader.wait()
    j.wait_for_samples(SAMPLES // 5)
    assert j.finish(leader) == undisturbed


def test_etcd_may_be_away_for_longer_than_a_lease(job, undisturbed):
    j = job().start_all()
    j.wait_for_samples(SAMPLES // 20)
    j.etcd.kill()
    wait_for(lambda: all("waits for etcd" in s.log() or "leads no more" in s.log() for s in j.schedulers), "the schedulers' word")
    wait_for(lambda: "leads no more" in j.schedulers[0].log(), "the end of the lease")
    assert j.status() is None
    j.etcd.start_again()
    assert wait_for(j.status, "status")["term"] == 2
    assert j.finish() == undisturbed


def test_the_leader_compacts_the_history_of_etcd(job):
    j = job()
    leader = j.start_scheduler("--etcd_compaction_s=1")
    wait_for(lambda: '"integration" at' in leader.log(), "the job")
    revision = "--rev=%d" % j.etcd.revision("/it/job/leader")
    assert j.etcd.ctl("get", revision, "/it/job/state", check=False).returncode == 0
    wait_for(lambda: "compacted" in j.etcd.ctl("get", revision, "/it/job/state", check=False).stderr, "a compaction")


def test_sigterm_moves_the_lead_and_sigint_ends_the_job(job):
    j = job().start_all()
    first, second = j.schedulers
    j.wait_for_samples(1)
    first.send_signal(signal.SIGTERM)
    assert first.wait(30) == 143, first.log()
    wait_for(lambda: "leads by" in second.log(), "the new leader")
    j.wait_for_samples(SAMPLES // 20)
    second.send_signal(signal.SIGINT)
    assert second.wait(60) == 130, second.log()
    assert "stopped" in second.log()


@pytest.mark.parametrize("state,says", [("etcd://127.0.0.1", "HOST:PORT"), ("etcd://a:1/x//y", "no prefix"), ("http://a:1", "etcd://"),
                                        ("etcd://me@a:1", "user names")])
def test_a_wrong_address_of_etcd_is_refused(tmp_path, state, says):
    config = write_job(tmp_path / "job.textproto")
    done = subprocess.run([os.path.join(BIN, "tidegate-scheduler"), "--config=" + config, "--state=" + state, "--metrics_port=-1",
                           "--http_port=-1", "--checkpoint_dir=%s" % tmp_path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert says in done.stderr and state in done.stderr


def test_the_checkpoints_need_a_folder_that_is_named(tmp_path):
    done = subprocess.run([os.path.join(BIN, "tidegate-scheduler"), "--config=" + write_job(tmp_path / "job.textproto"),
                           "--state=etcd://127.0.0.1:1/x", "--metrics_port=-1"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "needs --checkpoint_dir" in done.stderr


def test_an_etcd_that_is_not_there_is_given_up_by_its_address(tmp_path):
    config = write_job(tmp_path / "job.textproto")
    done = subprocess.run([os.path.join(BIN, "tidegate-scheduler"), "--config=" + config, "--state=etcd://127.0.0.1:1/x", "--metrics_port=-1",
                           "--http_port=-1", "--etcd_timeout_s=1", "--checkpoint_dir=%s" % tmp_path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "127.0.0.1:1" in done.stderr and "--etcd_timeout_s" in done.stderr


def test_a_state_of_another_job_or_version_or_damaged_is_refused(job, tmp_path):
    j = job()
    first = j.start_scheduler()
    wait_for(lambda: '"integration" at' in first.log(), "the job")
    other = j.start_scheduler("--set", "train.epochs=7")
    assert other.wait(30) == 2
    assert "train.epochs" in other.log() and "/it/job" in other.log()
    first.send_signal(signal.SIGTERM)
    assert first.wait(30) == 143, first.log()
    for value, says in ((b"something else", "not a scheduler's state"), (b"TGSTATZ9 and so on", "another version")):
        j.etcd.ctl("put", "/it/job/state", text=False, input=value)
        refused = j.start_scheduler()
        assert refused.wait(30) == 2
        assert says in refused.log() and "/it/job/state" in refused.log()


def test_after_a_loss_the_job_goes_on_from_its_checkpoint_and_the_leader_may_die_then(job, undisturbed):
    cluster = job().start_all(flags=("--set=cluster.on_data_loss=RESTORE", "--set=train.checkpoint.every_clocks=40"))
    wait_for(lambda: (cluster.status() or {}).get("checkpoint"), "a checkpoint", 120)
    first, second = (p for p in cluster.started if p.args[0].endswith("tidegate-server"))
    first.kill()
    first.wait()
    wait_for(lambda: (cluster.status() or {}).get("restores_total") == 1, "the restore", 60)
    assert second.wait(60) == 4, second.log()
    for name in ("third", "fourth"):
        cluster.start("tidegate-server", "--scheduler=" + cluster.addresses, "--name=" + name)
    wait_for(lambda: (cluster.status() or {}).get("phase") in ("training", "evaluating"), "training", 60)
    leader = cluster.leader()
    leader.kill()
    leader.wait()
    assert cluster.finish(leader, first, second) == undisturbed
