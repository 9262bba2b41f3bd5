#!/usr/bin/env python3
"""Servers that come and go under load, and hot shards that spread: what the callers of a worker see of it.

  elastic.py scale [--servers=2] [--more=2] [--rows=1000000] [--calm=10] [--bin=bin] [--load=LOAD_WORKER]
      N servers, so many more, all settled, then as many drained. Percentiles of pull latencies, calm and while shards move.
  elastic.py skew [--servers=3] [--hot=0.9] [--rebalance=1.3]
      --hot of the keys are in the shards that one server leads at the start, Zipf among them: the busiest server's share
      of the rows, at the start and at the end.

Real processes on loopback, replicas: 2, SYNC. LOAD_WORKER is `bazel build //tests/benchmarks:load_worker`. Prints JSON.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
JOB = """
name: "elastic"
data { format: GENERATED train { rows: 1000 } generator { cardinality: [10] } }
feature { name: "C{1..1}" table: "emb" }
table { name: "emb" part { name: "w" dim: 1 sgd {} } }
model { preset { kind: LR wide: "emb.w" } }
train { epochs: 1 staleness: "inf" }
cluster { servers: %d workers: 1 replicas: 2 durability: SYNC }
"""


def milliseconds():
    return time.monotonic() * 1000


class Cluster:
    def __init__(self, args, folder, scheduler_flags):
        self.args, self.folder, self.processes, self.address = args, folder, [], None
        config = os.path.join(folder, "job.textproto")
        with open(config, "w") as f:
            f.write(JOB % args.servers)
        path = os.path.join(folder, "address")
        self.start("tidegate-scheduler", "--config=" + config, "--state=" + os.path.join(folder, "state"), "--address_file=" + path,
                   "--http_port=-1", *scheduler_flags)
        while not os.path.exists(path):
            time.sleep(0.05)
        with open(path) as f:
            self.address = f.read().strip()
        for i in range(args.servers):
            self.server(i)
        while len(self.servers()) < args.servers:
            time.sleep(0.05)

    def start(self, binary, *flags):
        with open(os.path.join(self.folder, "log-%d" % len(self.processes)), "w") as log:
            self.processes.append(subprocess.Popen([os.path.join(self.args.bin, binary), "--metrics_port=-1", *flags], stdout=log, stderr=log,
                                                   stdin=subprocess.DEVNULL))

    def server(self, i):
        self.start("tidegate-server", "--scheduler=" + self.address, "--name=server/%d" % i, "--executors=1")

    def status(self):
        done = subprocess.run([os.path.join(self.args.bin, "tidegate"), "status", "--json", "--scheduler=" + self.address],
                              capture_output=True, text=True)
        return json.loads(done.stdout) if done.returncode == 0 else {"members": [], "settled": False, "events": []}

    def servers(self, status=None):
        members = (status or self.status())["members"]
        return {m["name"]: m for m in members if m["role"] == "server" and m["alive"]}

    def settle(self, count, quiet_s=3):
        """Until so many servers are there and nothing has moved for a while; when that began."""
        since, deadline = None, time.monotonic() + self.args.patience
        while time.monotonic() < deadline:
            status = self.status()
            servers = self.servers(status)
            whole = len(servers) == count and status["settled"] and all(m["shards"] > 0 for m in servers.values())
            since = (since or milliseconds()) if whole else None
            if since and milliseconds() - since > quiet_s * 1000:
                return since
            time.sleep(0.2)
        raise SystemExit("not settled after %d s: %s" % (self.args.patience, json.dumps(self.status()["events"][-10:])))

    def close(self):
        for process in self.processes:
            process.kill()
            process.wait()


class Load:
    """The load worker, and what it wrote down."""

    def __init__(self, args, address, *flags):
        self.calls, self.failed = [], []
        self.process = subprocess.Popen([args.load, "--scheduler=" + address, "--rows=%d" % args.rows, *flags], stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        self.ready = threading.Event()
        self.reader = threading.Thread(target=self.read)
        self.reader.start()
        if not self.ready.wait(args.patience):
            raise SystemExit("the load worker does not begin")

    def read(self):
        for line in self.process.stdout:
            words = line.split()
            if words[0] == "ready":
                self.ready.set()
            elif words[0] == "failed":
                self.failed.append(line.strip())
            elif words[0] in ("pull", "push"):
                self.calls.append((words[0], int(words[1]), int(words[2]) / 1000))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(30) != 0:
            self.failed.append("the load worker ended with %d" % self.process.returncode)
        self.reader.join()

    def times(self, kind, begin, end):
        return sorted(ms for what, at, ms in list(self.calls) if what == kind and begin <= at <= end)


def summary(load, begin, end):
    out = {"seconds": round((end - begin) / 1000, 1)}
    for kind in ("pull", "push"):
        times = load.times(kind, begin, end)
        out[kind + "s"] = len(times)
        for name, share in (("p50", .5), ("p99", .99)):
            out["%s_%s_ms" % (kind, name)] = round(times[min(len(times) - 1, int(share * len(times)))], 2) if times else None
        out[kind + "_max_ms"] = round(times[-1], 1) if times else None
    return out


def scale(args, cluster):
    cluster_size = args.servers + args.more
    load = Load(args, cluster.address, "--interval_ms=%d" % args.interval)
    windows = {}
    cluster.settle(args.servers)

    def calm(name):
        begin = milliseconds()
        time.sleep(args.calm)
        windows[name] = (begin, milliseconds())

    calm("calm")
    begin = milliseconds()
    for i in range(args.servers, cluster_size):
        cluster.server(i)
    windows["growing"] = (begin, cluster.settle(cluster_size))
    calm("calm_grown")
    begin = milliseconds()
    for i in range(args.servers, cluster_size):
        done = subprocess.run([os.path.join(args.bin, "tidegate"), "drain", "server/%d" % i, "--scheduler=" + cluster.address,
                               "--wait=%d" % args.patience], capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(done.stderr)
    windows["shrinking"] = (begin, cluster.settle(args.servers))
    calm("calm_again")
    load.stop()
    result = {name: summary(load, *window) for name, window in windows.items()}
    calms = [t for name in ("calm", "calm_grown", "calm_again") for t in load.times("pull", *windows[name])]
    moving = [t for name in ("growing", "shrinking") for t in load.times("pull", *windows[name])]
    p99 = [sorted(times)[int(.99 * len(times))] for times in (calms, moving)]
    result.update(pull_p99_calm_ms=round(p99[0], 2), pull_p99_moving_ms=round(p99[1], 2), ratio=round(p99[1] / p99[0], 2),
                  failed_requests=len(load.failed), failures=load.failed[:5])
    return result


def highest(before, after):
    """Rows of the busiest server between the two statuses, in means."""
    rows = [sum(m[k] - before.get(name, {k: 0})[k] for k in ("pulled_rows_total", "pushed_rows_total")) for name, m in after.items()]
    return round(max(rows) * len(rows) / sum(rows), 3) if sum(rows) > 0 else 0


def skew(args, cluster):
    load = Load(args, cluster.address, "--interval_ms=%d" % args.interval, "--hot_share=%g" % args.hot,
                "--hot_server=%d" % cluster.servers()["server/0"]["incarnation"])
    cluster.settle(args.servers, quiet_s=0)
    seen, begun = [(0, cluster.servers())], time.monotonic()
    while seen[-1][0] < args.seconds:
        time.sleep(args.window)
        seen.append((round(time.monotonic() - begun, 1), cluster.servers()))
    events = [e for e in cluster.status()["events"] if "load: " in e]
    load.stop()
    steps = [{"seconds": at, "max_over_mean": highest(before, after), "leads": [m["shards"] for m in after.values()]}
             for (_, before), (at, after) in zip(seen, seen[1:])]
    last = max(2, int(args.measured / args.window))
    return {"max_over_mean_at_start": steps[0]["max_over_mean"], "max_over_mean_at_end": highest(seen[-1 - last][1], seen[-1][1]),
            "steps": steps, "events": events, "failed_requests": len(load.failed), "failures": load.failed[:5]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", choices=["scale", "skew"])
    parser.add_argument("--servers", type=int, default=None)
    parser.add_argument("--more", type=int, default=2)
    parser.add_argument("--rows", type=int, default=1000000)
    parser.add_argument("--interval", type=int, default=5, help="ms between two pulls")
    parser.add_argument("--calm", type=float, default=10)
    parser.add_argument("--hot", type=float, default=0.9)
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--window", type=float, default=4, help="seconds of one step of skew")
    parser.add_argument("--measured", type=float, default=20, help="seconds at the end of skew")
    parser.add_argument("--rebalance", type=float, default=1.3)
    parser.add_argument("--level_after", type=int, default=3)
    parser.add_argument("--patience", type=int, default=180)
    parser.add_argument("--bin", default=os.path.join(ROOT, "bin"))
    parser.add_argument("--load", default=os.path.join(ROOT, "bazel-bin/tests/benchmarks/load_worker"))
    args = parser.parse_args()
    args.servers = args.servers or (2 if args.scenario == "scale" else 3)
    flags = ["--level_after=%d" % args.level_after] if args.scenario == "scale" else ["--rebalance_load=%g" % args.rebalance]
    folder = tempfile.mkdtemp(prefix="elastic-")
    cluster = Cluster(args, folder, flags)
    try:
        result = (scale if args.scenario == "scale" else skew)(args, cluster)
    except BaseException:
        print("logs: " + folder, file=sys.stderr)
        raise
    finally:
        cluster.close()
    shutil.rmtree(folder)
    result["machine_load"] = round(os.getloadavg()[0], 1)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
