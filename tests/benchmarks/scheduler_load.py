"""A scheduler under the heartbeats of a large cluster, on loopback.

    python3 tests/benchmarks/scheduler_load.py --load=PATH_OF_scheduler_load [--servers=1000 --workers=10000]

Build the load: `bazel build --config=ci //tests/benchmarks:scheduler_load`. Prints its JSON line (scheduler_load.cc),
and one of what the scheduler says of itself: the core's milliseconds for the newest routing table (a dead server's), by the
clock and of a processor; writes of the state and its size. The machine's load average is in it too.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request

CONFIG = """name: "load"
data { format: GENERATED train { rows: 1000000000 } generator { cardinality: [10] } }
feature { name: "C{1..1}" table: "emb" }
table { name: "emb" part { name: "w" dim: 1 sgd {} } }
model { preset { kind: LR wide: "emb.w" } }
train { epochs: 1 staleness: "inf" global_batch: 1048576 }
cluster { servers: %d workers: %d shards: %d replicas: 2 durability: SYNC }
"""


def of_the_scheduler(log):
    url = None
    while url is None:
        log.seek(0)
        url = re.search(r"metrics at (http://[^,\s]+)", log.read())
    with urllib.request.urlopen(url.group(1)) as page:
        text = page.read().decode()
    names = ("routing_table_ms", "routing_table_cpu_ms", "state_writes_total", "state_bytes")
    return {name: float(re.search(r"^tidegate_%s\S* (\S+)$" % name, text, re.M).group(1)) for name in names}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", required=True)
    parser.add_argument("--bin", default=os.path.join(os.path.dirname(__file__), "..", "..", "bin"))
    parser.add_argument("--servers", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=10000)
    parser.add_argument("--shards", type=int, default=65536)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--interval_ms", type=int, default=250)
    parser.add_argument("--lease_ms", type=int, default=3000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--log", help="keeps the scheduler's log")
    parser.add_argument("--state", help="etcd://... instead of a folder")
    flags = parser.parse_args()
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    with tempfile.TemporaryDirectory() as folder:
        config, address = os.path.join(folder, "job.textproto"), os.path.join(folder, "address")
        with open(config, "w") as f:
            f.write(CONFIG % (flags.servers, flags.workers, flags.shards))
        log = open(flags.log or os.path.join(folder, "log"), "w+")
        scheduler = subprocess.Popen(
            [os.path.join(flags.bin, "tidegate-scheduler"), "--config=" + config, "--state=" + (flags.state or os.path.join(folder, "state")),
             "--checkpoint_dir=" + os.path.join(folder, "checkpoints"), "--address_file=" + address,
             "--heartbeat_interval_ms=%d" % flags.interval_ms, "--lease_ms=%d" % flags.lease_ms, "--metrics_port=0"],
            stdin=subprocess.DEVNULL, stderr=log)
        try:
            while not os.path.exists(address) and scheduler.poll() is None:
                time.sleep(0.05)
            if scheduler.poll() is not None:
                log.seek(0)
                sys.exit("the scheduler did not start: " + log.read())
            with open(address) as f:
                at = f.read().strip()
            code = subprocess.run([flags.load, at, str(scheduler.pid), str(flags.servers), str(flags.workers), str(flags.connections),
                                   str(flags.seconds)]).returncode
            print(json.dumps(dict(of_the_scheduler(log), load_average=os.getloadavg()[0])))
            sys.exit(code)
        finally:
            scheduler.kill()
            scheduler.wait()


if __name__ == "__main__":
    main()
