"""Bad input at real processes: a clear error, a status that is not 0 or OK, nothing lost, nothing hung.

README.md lists for each item of bad input the tests that show it.
"""

import gzip
import os
import re
import socket
import subprocess
import urllib.request

import grpc
import pytest
from cluster import BIN, run, start_training, wait_for, write_job
from test_python_stub import INITIAL, SGD, Client, mix64, pack

# ---- configs and flags ------------------------------------------------------------------------------

TABLES = """
data { format: GENERATED train { rows: 1000 } generator { cardinality: [10] } }
feature { name: "C1" table: "t" }
table { name: "t" part { name: "w" dim: 1 sgd { lr: 0.1 } } }
"""


@pytest.mark.parametrize("model,words", [
    ('block { name: "z" sum { in: "C2.w" } } task { logit: "z" }', ["C2.w"]),
    ('block { name: "z" sum { in: "t.w" } } task { logit: "y" }', ['"y"']),
    ('block { name: "a" add { in: "b" } } block { name: "b" add { in: "a" } } task { logit: "a" }', ["a <- b <- a"]),
], ids=["feature", "block", "cycle"])
def test_a_model_that_makes_no_sense_is_refused_by_check_and_by_the_job(local, tmp_path, model, words):
    path = tmp_path / "job.textproto"
    path.write_text(TABLES + "model { %s }\n" % model)
    done = run("config", "--check", path)
    assert done.returncode == 1 and all(w in done.stderr for w in words), done.stderr
    job = local(str(path))
    assert job.wait(60) == 1
    assert all(w in job.log() for w in words), job.log()


@pytest.mark.parametrize("change", [
    ("dim: 8", "dim: 0", "dim is 0"), ("epochs: 2", "epochs: 0", "train.epochs is 0"),
    ('staleness: "4"', 'staleness: "many"', "train.staleness"), ("dim: 8", "dim: eight", ":16:"),
    ("model {", "model", ":20:"), ("rows: 40000", "rows: -1", ":6:"),
], ids=lambda c: c[1])
def test_values_out_of_range_are_refused_by_field_or_line(tmp_path, change):
    path = tmp_path / "job.textproto"
    write_job(path)
    assert change[0] in path.read_text()
    path.write_text(path.read_text().replace(change[0], change[1]))
    for command in (["config", "--check", path], ["local", "--config=%s" % path]):
        done = run(*command, cwd=tmp_path)
        assert done.returncode == 1
        assert str(path) in done.stderr and change[2] in done.stderr, done.stderr


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe{{{", None], ids=["empty", "binary", "missing"])
def test_a_config_that_is_no_text_is_refused_by_name(tmp_path, content):
    path = tmp_path / "job.textproto"
    if content is not None:
        path.write_bytes(content)
    for command in (["config", "--check", path], ["local", "--config=%s" % path]):
        done = run(*command, cwd=tmp_path)
        assert done.returncode == 1 and str(path) in done.stderr, done.stderr


# ---- data -------------------------------------------------------------------------------------------

CRITEO = """
data { format: CRITEO_TSV train { files: "%s" } %s }
feature { name: "I{1..2}" numeric { transform: LOG1P } }
feature { name: "C{1..3}" table: "t" }
table { name: "t" part { name: "w" dim: 1 adagrad { lr: 0.1 } } }
model { preset { kind: LR wide: "t.w" numeric: "I{1..2}" } task { logit: "" metric: [AUC] } }
train { global_batch: 100 epochs: 1 staleness: "%s" }
cluster { servers: 1 workers: 2 }
"""


def criteo_line(i, number=b"3"):
    return b"%d\t%s\t5" % (i % 2, number) + b"\t" * 12 + b"a%d\tb%d\t\xff\xfe" % (i % 7, i % 3) + b"\t" * 23 + b"\n"


def criteo_job(tmp_path, data, more="", staleness="4"):
    path = tmp_path / "criteo.textproto"
    text = CRITEO % (data, more, staleness)
    path.write_text(text.replace(' logit: ""', "").replace(' numeric: "I{1..2}"', "").replace(
        'feature { name: "I{1..2}" numeric { transform: LOG1P } }', 'feature { name: "I{1..2}" numeric { transform: LOG2_BUCKET } table: "t" }'))
    return str(path)


@pytest.mark.parametrize("staleness", ["0", "4"])
def test_bytes_that_are_not_utf8_are_categories_but_no_numbers(local, tmp_path, staleness):
    data = tmp_path / "clicks.tsv"
    data.write_bytes(b"".join(criteo_line(i) for i in range(500)))
    job = local(criteo_job(tmp_path, data, staleness=staleness))
    assert job.wait(60) == 0, job.log()
    assert job.summary()["samples"] == 500
    with open(data, "ab") as f:
        f.write(criteo_line(0, b"\xff\xfe1"))
    job = local(criteo_job(tmp_path, data, staleness=staleness))
    assert job.wait(60) == 1
    assert "clicks.tsv" in job.log() and "\\xff\\xfe1" in job.log(), job.log()
    assert "\\xff\\xfe1" in job.summary()["message"]


@pytest.mark.parametrize("staleness", ["0", "4"])
def test_bad_lines_are_counted_over_all_workers_up_to_the_limit(local, tmp_path, staleness):
    data = tmp_path / "clicks.tsv"
    bad = 6
    lines = [criteo_line(i) for i in range(2000)]
    for i in range(bad):
        lines.insert(100 + 300 * i, b"1\tnonsense\n")
    data.write_bytes(b"".join(lines))
    split = "split_bytes: 8000 max_bad_lines: %d"
    job = local(criteo_job(tmp_path, data, split % bad, staleness))
    assert job.wait(60) == 0, job.log()
    assert job.summary()["samples"] == 2000
    job = local(criteo_job(tmp_path, data, split % (bad - 1), staleness))
    assert job.wait(60) == 1
    assert "clicks.tsv" in job.summary()["message"] and "max_bad_lines" in job.summary()["message"]


def zstd(text):
    return subprocess.run(["zstd", "-q", "-c"], input=text, capture_output=True, check=True).stdout


@pytest.mark.parametrize("staleness", ["0", "4"])
@pytest.mark.parametrize("suffix,compress", [("gz", gzip.compress), ("zst", zstd)])
def test_a_compressed_file_that_was_cut_fails_the_job_by_name(local, tmp_path, suffix, compress, staleness):
    data = tmp_path / ("clicks.tsv." + suffix)
    whole = compress(b"".join(criteo_line(i * 7919 % 1009) for i in range(3000)))
    data.write_bytes(whole)
    job = local(criteo_job(tmp_path, data, staleness=staleness))
    assert job.wait(60) == 0, job.log()
    assert job.summary()["samples"] == 3000
    data.write_bytes(whole[:len(whole) * 2 // 3])
    job = local(criteo_job(tmp_path, data, staleness=staleness))
    assert job.wait(60) == 1
    assert str(data) in job.summary()["message"], job.summary()["message"]


@pytest.mark.parametrize("staleness", ["0", "4"])
@pytest.mark.parametrize("name", ["missing.tsv", "empty.tsv", "folder", "cut.tsv.gz", "other.tsv"])
def test_held_out_data_that_is_bad_fails_the_job_by_name(local, tmp_path, name, staleness):
    train, valid = tmp_path / "clicks.tsv", tmp_path / name
    text = b"".join(criteo_line(i * 7919 % 1009) for i in range(3000))
    train.write_bytes(b"".join(criteo_line(i) for i in range(300)))
    whole = gzip.compress(text)
    contents = {"empty.tsv": b"", "other.tsv": b"1 3:1\n" * 10, "cut.tsv.gz": whole[:len(whole) * 2 // 3]}
    if name in contents:
        valid.write_bytes(contents[name])
    if name == "folder":
        valid.mkdir()
    job = local(criteo_job(tmp_path, train, 'valid { files: "%s" }' % valid, staleness))
    assert job.wait(60) == 1, job.log()
    assert str(valid) in job.log() and str(train) not in job.log(), job.log()
    if name in ("cut.tsv.gz", "other.tsv"):  # found by a worker
        assert job.summary()["outcome"] == "failed" and str(valid) in job.summary()["message"], job.summary()


def test_evaluate_refuses_bad_data_by_name(local, tmp_path):
    data = tmp_path / "clicks.tsv"
    data.write_bytes(b"".join(criteo_line(i) for i in range(200)))
    job = local(criteo_job(tmp_path, data))
    assert job.wait(60) == 0, job.log()
    checkpoint = "--checkpoint=" + job.summary()["checkpoint"]
    assert run("evaluate", checkpoint, "--data=%s" % data).returncode == 0
    (tmp_path / "empty.tsv").write_bytes(b"")
    (tmp_path / "other.tsv").write_bytes(b"1 3:1\n" * 10)
    for name in ("empty.tsv", "other.tsv", "missing.tsv"):
        done = run("evaluate", checkpoint, "--data=%s/%s" % (tmp_path, name))
        assert done.returncode == 1 and name in done.stderr, done.stderr


# ---- one scheduler, one job -------------------------------------------------------------------------


def scheduler(config, tmp_path, *flags):
    command = [os.path.join(BIN, "tidegate-scheduler"), "--metrics_port=-1", "--config=" + config]
    return subprocess.run(command + list(flags), capture_output=True, text=True, timeout=60, cwd=tmp_path)


def test_a_state_directory_of_another_job_is_refused(local, tmp_path):
    config = write_job(tmp_path / "job.textproto", rows=2000, epochs=1)
    job = local(config)
    assert job.wait() == 0, job.log()
    state = [os.path.join(d, "state") for d, folders, _ in os.walk(job.run_dir) if "state" in folders]
    assert state, "no state directory under " + job.run_dir
    done = scheduler(config, tmp_path, "--state=" + state[0], "--set=seed=99", "--set=cluster.servers=3")
    assert done.returncode not in (0, 3) and "--state" in done.stderr and state[0] in done.stderr, done.stderr
    assert "seed: " in done.stderr and " -> 99" in done.stderr and "cluster.servers: 2 -> 3" in done.stderr, done.stderr


@pytest.mark.parametrize("flag", ["--address_file=/proc/nowhere/a", "--state=/proc/nowhere"])
def test_a_path_that_cannot_be_written_is_named_by_its_flag(tmp_path, flag):
    done = scheduler(write_job(tmp_path / "job.textproto"), tmp_path, *([flag] if "state" in flag else [flag, "--state=%s/state" % tmp_path]))
    assert done.returncode not in (0, 3) and flag.split("=")[0] in done.stderr and "/proc/nowhere" in done.stderr, done.stderr


@pytest.mark.parametrize("content", [b"", b"no protobuf"])
def test_a_binary_config_that_is_none_is_named_by_its_flag(tmp_path, content):
    (tmp_path / "job.pb").write_bytes(content)
    done = scheduler(str(tmp_path / "job.pb"), tmp_path, "--state=%s/state" % tmp_path)
    assert done.returncode == 2 and "--config=%s/job.pb: " % tmp_path in done.stderr, done.stderr


def test_two_schedulers_share_neither_port_nor_state(tmp_path):
    config = write_job(tmp_path / "job.textproto")
    address = tmp_path / "address"
    first = subprocess.Popen(
        [os.path.join(BIN, "tidegate-scheduler"), "--metrics_port=-1", "--config=" + config, "--state=%s/state" % tmp_path,
         "--address_file=%s" % address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: address.exists() and address.read_text().strip(), "the scheduler's address")
        done = scheduler(config, tmp_path, "--state=%s/other" % tmp_path, "--listen=" + address.read_text().strip())
        assert done.returncode != 0 and address.read_text().strip() in done.stderr and "--listen" in done.stderr
        assert "in use" in done.stderr and "UNKNOWN" not in done.stderr and "No address added" not in done.stderr, done.stderr
        done = scheduler(config, tmp_path, "--state=%s/state" % tmp_path)
        assert done.returncode != 0 and "%s/state" % tmp_path in done.stderr, done.stderr
        done = subprocess.run([os.path.join(BIN, "tidegate-server"), "--scheduler=" + address.read_text().strip(),
                               "--listen=" + address.read_text().strip()], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and "--listen" in done.stderr and "UNKNOWN" not in done.stderr, done.stderr
        assert first.poll() is None
    finally:
        first.kill()
        first.wait()


@pytest.fixture
def taken():
    """A port of the loopback where somebody listens and says nothing."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        yield one.getsockname()[1]


@pytest.mark.parametrize("binary,flag", [("tidegate-scheduler", "--metrics_port"), ("tidegate-scheduler", "--http_port"),
                                         ("tidegate-server", "--metrics_port"), ("tidegate-worker", "--metrics_port")])
def test_a_taken_port_of_pages_or_metrics_is_refused_by_flag_and_address(tmp_path, taken, binary, flag):
    port = "%s=%d" % (flag, taken)
    if binary == "tidegate-scheduler":
        done = scheduler(write_job(tmp_path / "job.textproto"), tmp_path, "--state=%s/state" % tmp_path, port)
    else:
        done = subprocess.run([os.path.join(BIN, binary), "--scheduler=127.0.0.1:1", port], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert port in done.stderr and "127.0.0.1:%d" % taken in done.stderr, done.stderr


@pytest.mark.parametrize("command", [["status"], ["status", "--json"], ["top", "--count=1"], ["checkpoint"]], ids=" ".join)
@pytest.mark.parametrize("port", ["nobody", "silent"])
def test_commands_at_an_address_without_a_scheduler_end_and_name_it(taken, command, port):
    address = "127.0.0.1:%d" % (1 if port == "nobody" else taken)
    done = run(*command, "--scheduler=" + address, timeout=30)
    assert done.returncode == 1 and done.stdout == ""
    assert "no scheduler answers at " + address in done.stderr, done.stderr


def test_a_job_finishes_undisturbed_by_others_at_its_address_state_and_checkpoints(local, tmp_path):
    first = start_training(local, tmp_path / "job.textproto", rows=3000000, seconds=4)
    other = write_job(tmp_path / "other.textproto", batch=512)
    state = os.path.join(first.run_dir, "state")
    for flags, words in ((["--listen=" + first.address(), "--state=%s/s" % tmp_path], first.address()),
                         (["--state=" + state], state),
                         (["--state=%s/s" % tmp_path, "--checkpoint_dir=" + first.checkpoints], first.checkpoints)):
        done = scheduler(other, tmp_path, *flags)
        assert done.returncode not in (0, 3) and words in done.stderr, done.stderr
    member = subprocess.run([os.path.join(BIN, "tidegate-server"), "--metrics_port=-1", "--scheduler=" + first.address()],
                            capture_output=True, text=True, timeout=60)
    assert member.returncode != 0 and "2 servers already" in member.stderr, member.stderr
    assert first.process.poll() is None, first.log()
    assert first.wait() == 0, first.log()
    assert first.summary()["outcome"] == "finished" and first.summary()["samples"] == first.rows


# ---- messages ---------------------------------------------------------------------------------------

JOB = """
name: "refusals"
data { format: GENERATED train { rows: 100000 } generator { cardinality: [10] } }
feature { name: "C1" table: "t" }
table { name: "t" part { name: "w" dim: 1 sgd { lr: 0.1 } } }
model { block { name: "z" sum { in: "t.w" } } task { logit: "z" } }
train { staleness: "4" }
cluster { servers: 1 workers: 1 shards: 16 message_limit_bytes: 1048576 }
"""


@pytest.fixture(scope="module")
def one_server(stubs, tmp_path_factory):  # noqa: F811
    """A guest client, with the metrics' address of the only server as `metrics`."""
    folder = tmp_path_factory.mktemp("refusals")
    (folder / "job.textproto").write_text(JOB)
    log = open(folder / "log", "w")

    def start(binary, *flags):
        return subprocess.Popen([os.path.join(BIN, binary), *flags], stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    processes = [start("tidegate-scheduler", "--metrics_port=-1", "--config=%s/job.textproto" % folder,
                       "--address_file=%s/address" % folder, "--state=%s/state" % folder)]
    try:
        wait_for((folder / "address").exists, "the scheduler's address")
        processes.append(start("tidegate-server", "--metrics_port=0", "--scheduler=" + (folder / "address").read_text().strip()))
        client = Client(stubs, (folder / "address").read_text().strip())
        client.metrics = "http://127.0.0.1:%s/metrics" % wait_for(
            lambda: re.findall(r"metrics\D*(?:127\.0\.0\.1:)?(\d+)", (folder / "log").read_text()), "the metrics' port")[0]
        yield client
        client.stop = True
        client.heart.join(timeout=30)
    finally:
        for p in processes:
            p.kill()
            p.wait()
        log.close()


def refused(client):
    """{reason: messages refused} by the server's metrics."""
    text = urllib.request.urlopen(client.metrics, timeout=10).read().decode()
    found = re.findall(r'^tidegate_server_refused_pushes_total\{.*?reason="(\w+)".*?\} (\S+)', text, re.M)
    found += re.findall(r"^tidegate_server_(malformed|too_large)_messages_total\S* (\S+)", text, re.M)
    return {reason: float(count) for reason, count in found}


def push(client, request):
    return list(client.servers.values())[0].Push(request, timeout=10)


KEYS = [1, 2, 3]
GOOD = [1.0] * 9


@pytest.mark.parametrize("change,code,reason", [
    (lambda r, t: setattr(t, "values", pack("f", [1.0] * 8 + [float("nan")])), "INVALID_ARGUMENT", "non_finite"),
    (lambda r, t: setattr(t, "values", pack("f", [float("-inf")] + [1.0] * 8)), "INVALID_ARGUMENT", "non_finite"),
    (lambda r, t: setattr(t, "values", pack("f", [1.0] * 8)), "INVALID_ARGUMENT", "shape"),
    (lambda r, t: setattr(t, "values", pack("f", [1.0] * 6)), "INVALID_ARGUMENT", "shape"),
    (lambda r, t: setattr(t, "keys", pack("Q", KEYS[:2])), "INVALID_ARGUMENT", "shape"),
    (lambda r, t: setattr(t, "keys", b"odd"), "INVALID_ARGUMENT", "malformed"),
    (lambda r, t: setattr(t, "table", 77), "NOT_FOUND", "unknown_table"),
    (lambda r, t: setattr(r, "weight", -1.0), "INVALID_ARGUMENT", "header"),
    (lambda r, t: setattr(r, "weight", float("nan")), "INVALID_ARGUMENT", "header"),
    (lambda r, t: setattr(r.stamp, "generation", 99), "FAILED_PRECONDITION", "generation"),
    (lambda r, t: setattr(r.stamp, "epoch", 99), "UNAVAILABLE", "routing"),
    (lambda r, t: (setattr(t, "keys", pack("Q", list(range(1 << 17)))), setattr(t, "values", bytes(12 << 17))),
     "RESOURCE_EXHAUSTED", "too_large"),
], ids=["nan", "infinity", "length", "width", "keys", "odd", "table", "weight", "nan-weight", "generation", "newer-epoch", "limit"])
def test_a_bad_push_is_refused_whole_and_counted(one_server, change, code, reason):
    before, count = one_server.pull(SGD, KEYS), refused(one_server)
    request = one_server.push_request(SGD, {k: [1.0] * 3 for k in KEYS}, 1.0)
    # A sound table in front: of a refused push nothing may be applied.
    body = request.tables.add()
    body.CopyFrom(request.tables[0])
    change(request, body)
    with pytest.raises(grpc.RpcError) as error:
        push(one_server, request)
    assert error.value.code().name == code and len(error.value.details()) > 10, error.value
    assert one_server.pull(SGD, KEYS) == before
    after = refused(one_server)
    assert sum(after.values()) == sum(count.values()) + 1, (count, after)
    assert after[reason] == count[reason] + 1, (count, after)


def test_an_older_epoch_is_served_by_the_shard_that_is_there(one_server):
    key = mix64(77)
    request = one_server.push_request(SGD, {key: [8.0] * 3}, 1.0)
    request.stamp.epoch = 0
    assert not push(one_server, request).refused_shards
    assert one_server.pull(SGD, [key]) == {key: [INITIAL - 1.0] * 3}


def test_a_member_with_another_config_is_refused_with_both_named(one_server, stubs):  # noqa: F811
    join = stubs.control.JoinRequest(role=stubs.cluster.WORKER, name="stranger", nonce=1, config_fingerprint=0xabcdef)
    with pytest.raises(grpc.RpcError) as error:
        one_server.scheduler.Join(join, timeout=10)
    assert error.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "abcdef" in error.value.details() and "config" in error.value.details()


def test_other_tables_than_the_jobs_are_refused(one_server, stubs):  # noqa: F811
    join = one_server.scheduler.Join(
        stubs.control.JoinRequest(role=stubs.cluster.WORKER, name="late", nonce=2), timeout=10)
    tables = one_server.tables()
    tables[0].parts[0].dim = 7
    with pytest.raises(grpc.RpcError) as error:
        one_server.scheduler.DeclareTables(
            stubs.control.DeclareTablesRequest(incarnation=join.incarnation, tables=tables), timeout=10)
    assert error.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    one_server.scheduler.Leave(stubs.control.LeaveRequest(incarnation=join.incarnation), timeout=10)


def test_a_server_that_nobody_needs_is_refused_with_a_reason(one_server, stubs):  # noqa: F811
    join = stubs.control.JoinRequest(role=stubs.cluster.SERVER, name="third", nonce=3, address="127.0.0.1:1")
    with pytest.raises(grpc.RpcError) as error:
        one_server.scheduler.Join(join, timeout=10)
    assert error.value.code() == grpc.StatusCode.FAILED_PRECONDITION and len(error.value.details()) > 10


# ---- memory -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("staleness", ["0", "4"])
def test_a_memory_limit_that_is_too_small_fails_the_job_and_says_so(local, tmp_path, staleness):
    job = local(write_job(tmp_path / "job.textproto", rows=20000, epochs=1), "--staleness=" + staleness,
                "--server_arg=--memory_limit_bytes=100000")
    assert job.wait(60) == 1
    assert "--memory_limit_bytes=100000" in job.summary()["message"], job.summary()["message"]
