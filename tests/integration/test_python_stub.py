"""A client in another language: nothing but generated stubs, docs/wire.md and the standard library.

It joins as the job's only worker to declare tables, then pulls and pushes as a guest, by unary calls and
over the stream, at two servers, and expects the exact float32 results of SGD and AdaGrad.
"""

import math
import os
import queue
import struct
import subprocess
import threading
import time

import grpc
import pytest
from cluster import BIN, ROOT

JOB = """
name: "stub"
data { format: GENERATED train { rows: 100000 } generator { cardinality: [10] } }
feature { name: "C1" table: "t" }
table { name: "t" part { name: "w" dim: 1 sgd { lr: 0.1 } } }
model { block { name: "z" sum { in: "t.w" } } task { logit: "z" } }
train { staleness: "4" }
cluster { servers: 2 workers: 1 shards: 16 }
"""
SGD, ADAGRAD = 0, 1
LR, EPSILON, INITIAL = 0.125, 1e-6, 0.75
MASK = (1 << 64) - 1


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def pack(fmt, values):
    return struct.pack("<%d%s" % (len(values), fmt), *values)


def unpack(fmt, data):
    return list(struct.unpack("<%d%s" % (len(data) // struct.calcsize(fmt), fmt), data))


def mix64(x):
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def shard_of(table, key, shards):
    h = mix64(key ^ ((table + 1) * 0xD6E8FEB86659FD93 & MASK))
    return h >> (64 - (shards - 1).bit_length())


class Client:
    """The job with its tables open: routes each key to its server."""

    def __init__(self, stubs, scheduler):
        self.stubs = stubs
        channel = grpc.insecure_channel(scheduler)
        self.scheduler = stubs.SchedulerStub(channel)
        join = self.scheduler.Join(
            stubs.control.JoinRequest(role=stubs.cluster.WORKER, name="stub", nonce=os.getpid()), wait_for_ready=True, timeout=30)
        self.incarnation = join.incarnation
        self.scheduler.DeclareTables(
            stubs.control.DeclareTablesRequest(incarnation=join.incarnation, tables=self.tables()), timeout=30)
        self.routing = None
        self.stop = False
        self.heart = threading.Thread(target=self.beat, daemon=True)
        self.heart.start()
        deadline = time.monotonic() + 30
        while self.routing is None:
            assert time.monotonic() < deadline, "no routing table"
            time.sleep(0.02)
        address = {m.incarnation: m.address for m in self.routing.servers}
        self.servers = {i: stubs.ShardStub(grpc.insecure_channel(a)) for i, a in address.items()}
        self.wait_for_tables()

    def tables(self):
        t = self.stubs.table
        sgd = t.TableSpec(id=SGD, name="sgd", seed=5)
        sgd.parts.add(name="v", dim=3, init=t.Initializer(constant=INITIAL)).optimizer.sgd.lr = LR
        ada = t.TableSpec(id=ADAGRAD, name="adagrad", seed=5)
        part = ada.parts.add(name="v", dim=2, init=t.Initializer(constant=INITIAL))
        part.optimizer.adagrad.lr = LR
        part.optimizer.adagrad.epsilon = EPSILON
        return [sgd, ada]

    def beat(self):
        epoch = 0
        while not self.stop:
            request = self.stubs.control.HeartbeatRequest(incarnation=self.incarnation, routing_epoch=epoch)
            answer = self.scheduler.Heartbeat(request, timeout=30)
            if answer.HasField("routing") and answer.routing.epoch > epoch:
                epoch = answer.routing.epoch
                self.routing = answer.routing

    def wait_for_tables(self):
        deadline = time.monotonic() + 30
        for server in self.servers.values():
            while True:
                try:
                    server.Pull(self.stubs.shard.PullRequest(mode=self.stubs.shard.EVAL), timeout=10)
                    break
                except grpc.RpcError as e:
                    assert e.code() == grpc.StatusCode.UNAVAILABLE and time.monotonic() < deadline, e
                    time.sleep(0.05)

    def split(self, table, keys):
        by_server = {}
        for k in keys:
            by_server.setdefault(self.routing.primary[shard_of(table, k, self.routing.shards)], []).append(k)
        return by_server

    def stamp(self):
        return self.stubs.shard.Stamp(epoch=self.routing.epoch)

    def pull_request(self, table, keys):
        s = self.stubs.shard
        return s.PullRequest(stamp=self.stamp(), mode=s.EVAL, tables=[s.TableKeys(table=table, keys=pack("Q", keys))])

    def push_request(self, table, gradients, weight):
        s = self.stubs.shard
        values = [g for row in gradients.values() for g in row]
        body = s.TableGradients(table=table, keys=pack("Q", list(gradients)), values=pack("f", values))
        return s.PushRequest(stamp=self.stamp(), weight=weight, tables=[body])

    def pull(self, table, keys):
        rows = {}
        for server, mine in self.split(table, keys).items():
            answer = self.servers[server].Pull(self.pull_request(table, mine), timeout=10)
            assert not answer.refused_shards
            values = unpack("f", answer.tables[0].values)
            width = len(values) // len(mine)
            rows.update({k: values[i * width:(i + 1) * width] for i, k in enumerate(mine)})
        return rows

    def push(self, table, gradients, weight):
        for server, mine in self.split(table, gradients).items():
            request = self.push_request(table, {k: gradients[k] for k in mine}, weight)
            assert not self.servers[server].Push(request, timeout=10).refused_shards


@pytest.fixture(scope="module")
def client(stubs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stub-job")
    (folder / "job.textproto").write_text(JOB)
    address = folder / "address"
    log = open(folder / "log", "w")

    def start(binary, *flags):
        return subprocess.Popen([os.path.join(BIN, binary), "--metrics_port=-1", *flags], stdout=log, stderr=log,
                                stdin=subprocess.DEVNULL)

    processes = [start("tidegate-scheduler", "--config=%s" % (folder / "job.textproto"), "--address_file=%s" % address,
                       "--state=%s" % (folder / "state"))]
    try:
        deadline = time.monotonic() + 30
        while not address.exists():
            assert time.monotonic() < deadline and processes[0].poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        where = address.read_text().strip()
        processes += [start("tidegate-server", "--scheduler=" + where) for _ in range(2)]
        one = Client(stubs, where)
        yield one
        one.stop = True
        one.heart.join(timeout=30)
    finally:
        for p in processes:
            p.kill()
            p.wait()
        log.close()


KEYS = [0, 1, 7, 12345, 1 << 40, MASK, MASK - 1] + [mix64(i) for i in range(50)]


def gradient(key, step, width):
    return [f32(((key % 97) - 48) / 64 + step / 8 + j / 4) for j in range(width)]


def test_absent_rows_answer_with_their_initialiser_and_stay_absent(client):
    for _ in range(2):
        assert client.pull(SGD, [991, 992]) == {991: [INITIAL] * 3, 992: [INITIAL] * 3}


def test_both_servers_have_keys(client):
    assert len(client.split(SGD, KEYS)) == 2


def test_sgd_is_exact(client):
    expected = {k: [INITIAL] * 3 for k in KEYS}
    for step in range(4):
        gradients = {k: gradient(k, step, 3) for k in KEYS}
        client.push(SGD, gradients, weight=4.0)
        for k in KEYS:
            expected[k] = [f32(w - f32(f32(LR) * f32(g / 4))) for w, g in zip(expected[k], gradients[k])]
        assert client.pull(SGD, KEYS) == expected


def test_adagrad_is_exact(client):
    rows = {k: [INITIAL] * 2 for k in KEYS}
    sums = {k: [0.0] * 2 for k in KEYS}
    for step in range(4):
        gradients = {k: gradient(k, step, 2) for k in KEYS}
        client.push(ADAGRAD, gradients, weight=2.0)
        for k in KEYS:
            for j in range(2):
                g = f32(gradients[k][j] / 2)
                sums[k][j] = f32(sums[k][j] + f32(g * g))
                root = f32(f32(math.sqrt(sums[k][j])) + f32(EPSILON))
                rows[k][j] = f32(rows[k][j] - f32(f32(f32(LR) * g) / root))
        assert client.pull(ADAGRAD, KEYS) == rows


def test_the_stream_carries_the_same_messages(client):
    s = client.stubs.shard
    (server, keys), = list(client.split(SGD, [mix64(1000 + i) for i in range(40)]).items())[:1]
    requests = queue.Queue()
    answers = client.servers[server].Stream(iter(requests.get, None))
    before = client.pull(SGD, keys)
    push = client.push_request(SGD, {k: [1.0, 2.0, -4.0] for k in keys}, 1.0)
    requests.put(s.StreamRequest(call=7, push=push))
    first = next(answers)
    assert first.call == 7 and first.code == 0 and first.HasField("push")
    requests.put(s.StreamRequest(call=8, pull=client.pull_request(SGD, keys)))
    requests.put(s.StreamRequest(call=9, pull=client.pull_request(99, keys)))
    got = {a.call: a for a in (next(answers), next(answers))}
    expected = [f32(w - f32(LR * g)) for k in keys for w, g in zip(before[k], [1.0, 2.0, -4.0])]
    assert unpack("f", got[8].pull.tables[0].values) == expected
    assert got[9].code == grpc.StatusCode.NOT_FOUND.value[0] and "99" in got[9].error
    requests.put(None)


@pytest.mark.parametrize("spoil, code, words", [
    (lambda t: t.ClearField("values"), grpc.StatusCode.INVALID_ARGUMENT, "values"),
    (lambda t: setattr(t, "values", pack("f", [float("nan"), 0, 0])), grpc.StatusCode.INVALID_ARGUMENT, ""),
    (lambda t: setattr(t, "keys", b"12345"), grpc.StatusCode.INVALID_ARGUMENT, "multiple of 8"),
    (lambda t: setattr(t, "table", 50), grpc.StatusCode.NOT_FOUND, "50"),
    (lambda t: setattr(t, "counts", pack("I", [1, 2])), grpc.StatusCode.INVALID_ARGUMENT, "counts"),
])
def test_a_spoilt_push_is_refused_and_changes_nothing(client, spoil, code, words):
    key = KEYS[3]
    before = client.pull(SGD, [key])
    (server, _), = client.split(SGD, [key]).items()
    request = client.push_request(SGD, {key: [1.0, 1.0, 1.0]}, 1.0)
    spoil(request.tables[0])
    with pytest.raises(grpc.RpcError) as error:
        client.servers[server].Push(request, timeout=10)
    assert error.value.code() == code and words in error.value.details()
    assert client.pull(SGD, [key]) == before


def test_a_key_at_the_wrong_server_is_named_as_refused(client):
    key = KEYS[5]
    (owner, _), = client.split(SGD, [key]).items()
    other = next(i for i in client.servers if i != owner)
    answer = client.servers[other].Pull(client.pull_request(SGD, [key]), timeout=10)
    assert list(answer.refused_shards) == [shard_of(SGD, key, client.routing.shards)]
