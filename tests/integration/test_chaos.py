"""`tidegate chaos`: its own faults and verdicts. What it finds out about replicated shards is in test_failover.py."""

import contextlib
import json
import os
import signal
import struct
import subprocess

import pytest
from cluster import TIDEGATE, run, wait_for, write_job
from etcd import Etcd, needs_etcd

FAST = ("--lease_ms=1000", "--heartbeat_interval_ms=100")


def test_pushes_go_on_without_a_scheduler(tmp_path):
    done = run("chaos", "--replicas=1", "--faults=kill-scheduler,no-scheduler,pause-scheduler", "--fault_count=3", "--seed=5", "--json",
               "--run_dir=%s" % (tmp_path / "run"), *FAST)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["verdict"] == "exact" and result["faults"] == 3
    assert result["pushes"] > 100 and result["reads"] > 10
    assert result["rows_audited"] == 2 * 32 * 16
    assert not [line for line in os.listdir("/proc") if running_in(line, str(tmp_path))]


def test_async_durability_loses_at_most_a_tail_and_doubles_nothing(tmp_path):
    done = run("chaos", "--durability=ASYNC", "--faults=kill-server,pause-server", "--fault_count=4", "--seed=9", "--json",
               "--run_dir=%s" % (tmp_path / "run"), *FAST)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["verdict"] == ("exact" if result["lost_pushes"] == 0 else "bounded") and result["faults"] == 4
    assert result["pushes"] > 100 and result["lost_pushes"] < 4096 * 4
    with open(tmp_path / "run" / "logs" / "scheduler.log") as f:
        assert "its death loses at most 4096 pushes of each of its strands" in f.read()


def running_in(pid, text):
    with contextlib.suppress(OSError), open("/proc/%s/cmdline" % pid) as f:
        command = f.read()
        return "tidegate-" in command and text in command
    return False


@contextlib.contextmanager
def chaos(tmp_path, *flags):
    process = subprocess.Popen([TIDEGATE, "chaos", "--run_dir=%s" % (tmp_path / "run"), *FAST, *flags], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def address_of(tmp_path):
    def address():
        with contextlib.suppress(OSError), open(tmp_path / "run" / "scheduler.address") as f:
            return f.read().strip()
        return None

    return wait_for(address, "the scheduler's address")


def test_an_update_that_nobody_booked_is_found(tmp_path, stubs):
    """A guest's push to a key of an account: the audit's verdict is not always good."""
    import grpc

    with chaos(tmp_path, "--replicas=1", "--servers=1", "--shards=1", "--faults=no-scheduler", "--minutes=5") as process:
        scheduler = stubs.SchedulerStub(grpc.insecure_channel(address_of(tmp_path)))

        def routing():
            with contextlib.suppress(grpc.RpcError):
                return scheduler.GetRouting(stubs.control.GetRoutingRequest(), timeout=2).routing.servers
            return None

        server = wait_for(routing, "the routing")[0].address
        push = stubs.shard.PushRequest(weight=1, tables=[stubs.shard.TableGradients(
            table=0, keys=struct.pack("<Q", 0), values=struct.pack("<2f", 1, 1))])

        def pushed():
            with contextlib.suppress(grpc.RpcError):
                return stubs.ShardStub(grpc.insecure_channel(server)).Push(push, timeout=2)
            return None

        wait_for(pushed, "the guest's push")
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1, out + err
    assert out.startswith("WRONG: accounting worker 0: shard 0, key 0: ") and "too much by 1" in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_its_processes(tmp_path, number):
    with chaos(tmp_path, "--replicas=1", "--faults=no-scheduler", "--minutes=5") as process:
        address_of(tmp_path)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, out + err
    assert out.startswith("NOT FINISHED: stopped by a signal")
    assert not [line for line in os.listdir("/proc") if running_in(line, str(tmp_path))]


@pytest.mark.parametrize("flags,text", [
    (["--faults=kill"], 'no fault "kill": there are all, network, kill-server'),
    (["--faults=kill-server", "--replicas=1"], "need --replicas=2"),
    (["--replicas=4", "--servers=3"], "--replicas=4 needs as many servers"),
    (["--shards=12"], "--shards=12 must be a power of two"),
    (["--minutes=0"], "--minutes=0 must be above 0"),
    (["--lease_ms=300"], "--lease_ms=300 must be at least four times"),
    (["--config=nowhere.textproto"], "nowhere.textproto"),
    (["--faults=kill-worker"], "kill-worker goes with --config"),
    (["--set=cluster.shards=4"], "--set goes with --config"),
    (["--schedulers=2"], "go with --state=etcd://"),
    (["--state=/tmp/x"], "write etcd://HOST:PORT"),
    (["--state=etcd://127.0.0.1:1", "--faults=cut-pair"], "that cut no links"),
    (["word"], "usage: tidegate chaos"),
])
def test_flags_that_make_no_sense(tmp_path, flags, text):
    done = run("chaos", "--run_dir=%s" % (tmp_path / "run"), *flags)
    assert done.returncode == 2 and text in done.stderr, done.stderr
    assert not (tmp_path / "run").exists()


def test_a_job_of_ones_own_finishes_under_faults(tmp_path):
    config = write_job(tmp_path / "job.textproto", rows=1500000, epochs=1, staleness="4")
    done = run("chaos", "--config=" + config, "--servers=3", "--workers=2", "--replicas=2", "--faults=kill-server,kill-worker,kill-scheduler",
               "--fault_count=3", "--seed=3", "--json", "--run_dir=%s" % (tmp_path / "run"), *FAST, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["verdict"] == "finished" and 1 <= result["faults"] <= 3  # a fast machine is done before the third
    assert result["job"].startswith("epoch 1 of 1, 1500000 samples, ")
    assert not [line for line in os.listdir("/proc") if running_in(line, str(tmp_path))]


def test_a_job_that_fails_is_told(tmp_path):
    config = write_job(tmp_path / "job.textproto", rows=100000000, epochs=1, staleness="4")
    with chaos(tmp_path, "--config=" + config, "--servers=1", "--workers=1", "--faults=kill-scheduler", "--fault_count=2") as process:
        address_of(tmp_path)

        def server():
            found = [pid for pid in os.listdir("/proc") if running_in(pid, "tidegate-server") and running_in(pid, "server/0")
                     and parent(pid) == process.pid]
            return int(found[0]) if found else None

        pid = wait_for(server, "the server")
        wait_for(lambda: "kill-scheduler" in read_some(process), "a fault", timeout=60)
        os.kill(pid, signal.SIGKILL)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1, out + err
    assert out.startswith("NOT FINISHED: ") and "the job failed" in out


def parent(pid):
    with contextlib.suppress(OSError), open("/proc/%s/stat" % pid) as f:
        return int(f.read().rpartition(")")[2].split()[1])
    return 0


def read_some(process):
    return process.stderr.readline()


@needs_etcd
def test_leaders_killed_and_paused_under_etcd(tmp_path):
    etcd = Etcd(tmp_path)
    try:
        done = run("chaos", "--state=" + etcd.state("/chaos"), "--faults=kill-scheduler,pause-scheduler,no-scheduler", "--fault_count=6",
                   "--seed=2", "--json", "--run_dir=%s" % (tmp_path / "run"), *FAST, timeout=300)
    finally:
        etcd.close()
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["verdict"] == "exact" and result["faults"] == 6
    targets = [i["target"] for i in result["injections"] if i["fault"] == "kill-scheduler"]
    assert targets and set(targets) <= {"scheduler/0", "scheduler/1"}


def test_a_folder_of_an_earlier_run_is_kept(tmp_path):
    (tmp_path / "state").mkdir()
    done = run("chaos", "--run_dir=%s" % tmp_path)
    assert done.returncode == 2 and "holds an earlier run" in done.stderr
