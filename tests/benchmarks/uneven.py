#!/usr/bin/env python3
"""Time to a validation AUC over staleness, on an uneven cluster: one of the workers is slowed by half.

  uneven.py [--config=configs/quickstart.textproto] [--target=0.80] [--staleness=0,1,4,16,inf] [--workers=4]
            [--seeds=3] [--out=uneven.json] [--svg=docs/images/uneven.svg] [--bin=bin]

The slow worker is stopped (SIGSTOP) for 20 ms and let go on for 20 ms in turn. Time counts from the first
sample on and includes evaluations, in the fine-grained epochs that --rows makes. Prints a table.
0-1 stands for staleness 0 with train.drop_slowest: 1.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HALF_PERIOD_S = 0.02


def worker_pids(parent):
    """{name: pid} of tidegate-worker children."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % pid) as f:
                ppid = int(f.read().rsplit(")", 1)[1].split()[1])
            with open("/proc/%s/cmdline" % pid) as f:
                words = f.read().split("\0")
        except OSError:
            continue
        if ppid == parent and words[0].endswith("tidegate-worker"):
            found[next(w.split("=")[1] for w in words if w.startswith("--name="))] = int(pid)
    return found


def slow_down(pid, ended):
    """Stops and continues the process by turns until it is gone or `ended` is set."""
    try:
        while not ended.is_set():
            os.kill(pid, signal.SIGSTOP)
            time.sleep(HALF_PERIOD_S)
            os.kill(pid, signal.SIGCONT)
            time.sleep(HALF_PERIOD_S)
    except ProcessLookupError:
        pass


def run(args, staleness, seed, uneven):
    """(seconds of training to the target AUC or None, samples per second)."""
    staleness, _, drop = staleness.partition("-")
    with tempfile.TemporaryDirectory() as folder:
        summary = os.path.join(folder, "summary.json")
        process = subprocess.Popen(
            [os.path.join(args.bin, "tidegate"), "local", "--config=" + args.config, "--servers=2", "--workers=%d" % args.workers,
             "--staleness=" + staleness, "--run_dir=" + os.path.join(folder, "run"), "--summary=" + summary, "-q",
             "--worker_arg=--compute_threads=1", "--set", "seed=%d" % seed, "--set", "train.epochs=%d" % args.epochs,
             "--set", "train.drop_slowest=" + (drop or "0"), "--set", "data.train.rows=%d" % args.rows, "--set", "data.valid.rows=20000"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        ended = threading.Event()
        slowing = None
        while uneven and slowing is None and process.poll() is None:
            pid = worker_pids(process.pid).get("worker/0")
            if pid:
                slowing = threading.Thread(target=slow_down, args=(pid, ended))
                slowing.start()
            time.sleep(0.005)
        error = process.communicate()[1]
        ended.set()
        if slowing:
            slowing.join()
        if process.returncode != 0:
            sys.exit(error)
        with open(summary) as f:
            result = json.load(f)
    seconds = 0.0
    for epoch in result["epochs"]:
        seconds += epoch["seconds"]
        if epoch["metrics"]["valid/click/auc"] >= args.target:
            return seconds, result["samples_per_second"]
    return None, result["samples_per_second"]


def svg(rows, args):
    """A bar per staleness and cluster: median seconds."""
    width, height, left, bottom = 640, 320, 60, 50
    most = max(r["seconds"] or 0 for r in rows)
    names = list(dict.fromkeys(r["staleness"] for r in rows))
    group = (width - left - 20) / len(names)
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">' % (width, height),
             '<rect width="100%" height="100%" fill="white"/>',
             '<text x="%d" y="16">seconds of training to AUC %.3f, %d workers (median of %d)</text>' % (left, args.target, args.workers, args.seeds)]
    for tick in range(5):
        value = most * tick / 4
        y = height - bottom - (height - bottom - 50) * tick / 4
        parts.append('<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%.1f</text>'
                     % (left, width - 20, y, y, left - 6, y + 4, value))
    for row in rows:
        x = left + group * names.index(row["staleness"]) + group * (0.15 if not row["uneven"] else 0.5)
        tall = (height - bottom - 50) * (row["seconds"] or 0) / most
        parts.append('<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>'
                     % (x, height - bottom - tall, group * 0.33, tall, "#d1603d" if row["uneven"] else "#5b8fb9"))
        label = "%.1f" % row["seconds"] if row["seconds"] else "not reached"
        parts.append('<text x="%.1f" y="%.1f" text-anchor="middle" font-size="10">%s</text>' % (x + group * 0.165, height - bottom - tall - 4, label))
    for i, name in enumerate(names):
        parts.append('<text x="%.1f" y="%d" text-anchor="middle">s = %s</text>' % (left + group * (i + 0.5), height - bottom + 18, name))
    parts.append('<rect x="%d" y="%d" width="10" height="10" fill="#5b8fb9"/><text x="%d" y="%d">even</text>' % (left, height - 20, left + 14, height - 11))
    parts.append('<rect x="%d" y="%d" width="10" height="10" fill="#d1603d"/><text x="%d" y="%d">one worker slowed by half</text></svg>'
                 % (left + 70, height - 20, left + 84, height - 11))
    return "\n".join(parts) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=os.path.join(ROOT, "configs", "quickstart.textproto"))
    parser.add_argument("--target", type=float, default=0.80)
    parser.add_argument("--staleness", default="0,1,4,16,inf")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=200000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--out", default="")
    parser.add_argument("--svg", default="")
    parser.add_argument("--bin", default=os.path.join(ROOT, "bin"))
    args = parser.parse_args()
    rows = []
    for staleness in args.staleness.split(","):
        for uneven in (False, True):
            results = [run(args, staleness, seed, uneven) for seed in range(1, args.seeds + 1)]
            reached = [seconds for seconds, _ in results if seconds is not None]
            rows.append({"staleness": staleness, "uneven": uneven, "reached": len(reached), "seeds": args.seeds,
                         "seconds": statistics.median(reached) if reached else None,
                         "samples_per_second": statistics.median(rate for _, rate in results)})
            print("s = %-4s %-7s %s s to AUC %g (%d of %d), %.0f samples/s" %
                  (staleness, "uneven" if uneven else "even", "%.2f" % rows[-1]["seconds"] if reached else "-", args.target,
                   len(reached), args.seeds, rows[-1]["samples_per_second"]), flush=True)
    if args.out:
        with open(args.out, "w") as f:
            json.dump(rows, f, indent=1)
    if args.svg:
        with open(args.svg, "w") as f:
            f.write(svg(rows, args))


if __name__ == "__main__":
    main()
