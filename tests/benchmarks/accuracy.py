#!/usr/bin/env python3
"""Trains real data sets as their configs say, over seeds and staleness bounds, and prints a table.

  tests/benchmarks/accuracy.py [--configs a,b] [--seeds 1,2,3] [--staleness 0,4,inf] [--out FILE.jsonl]

Needs bin/ (./quickstart.sh or ./test.sh builds it) and the data (docs/operations.md: TIDEGATE_DATA). A line
of JSON per run goes to --out as it ends; runs that are in it already are not done again. The table has,
per config and staleness, the mean over the seeds of the best epoch's validation AUC and its log loss.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CONFIGS = "frappe_lr,frappe_fm,frappe_wide_deep,frappe_deepfm"


def run(config, seed, staleness, servers, workers):
    with tempfile.TemporaryDirectory() as folder:
        summary = os.path.join(folder, "summary.json")
        command = [os.path.join(ROOT, "bin", "tidegate"), "local", "--quiet",
                   "--config=" + os.path.join(ROOT, "configs", config + ".textproto"),
                   "--servers=%d" % servers, "--workers=%d" % workers, "--staleness=" + staleness,
                   "--set", "seed=%d" % seed, "--summary=" + summary,
                   "--checkpoint_dir=" + os.path.join(folder, "checkpoints")]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit("%s: exit status %d\n%s" % (" ".join(command), done.returncode, done.stderr[-4000:]))
        with open(summary) as f:
            report = json.load(f)
    epochs = report["epochs"]
    metrics = [e["metrics"] for e in epochs]
    best = max(range(len(metrics)), key=lambda i: metrics[i]["valid/click/auc"])
    return {"config": config, "seed": seed, "staleness": staleness, "epoch": best + 1,
            "auc": metrics[best]["valid/click/auc"], "logloss": metrics[best]["valid/click/logloss"],
            "samples_per_second": report["samples_per_second"], "seconds": report["seconds"]}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--configs", default=CONFIGS)
    p.add_argument("--seeds", default="1,2,3")
    p.add_argument("--staleness", default="0,4,inf")
    p.add_argument("--servers", type=int, default=2)
    p.add_argument("--workers", type=int, default=2)
    p.add_argument("--out")
    args = p.parse_args()
    results = []
    if args.out and os.path.exists(args.out):
        with open(args.out) as f:
            results = [json.loads(line) for line in f]
    have = {(r["config"], r["seed"], r["staleness"]) for r in results}
    for config in args.configs.split(","):
        for staleness in args.staleness.split(","):
            for seed in map(int, args.seeds.split(",")):
                if (config, seed, staleness) in have:
                    continue
                results.append(run(config, seed, staleness, args.servers, args.workers))
                line = json.dumps(results[-1])
                print(line, file=sys.stderr, flush=True)
                if args.out:
                    with open(args.out, "a") as f:
                        f.write(line + "\n")
    print("| config | staleness | seeds | AUC | log loss | samples/s |\n|---|---|---|---|---|---|")
    for config in args.configs.split(","):
        for staleness in args.staleness.split(","):
            runs = [r for r in results if r["config"] == config and r["staleness"] == staleness]
            mean = lambda name: sum(r[name] for r in runs) / len(runs)
            print("| %s | %s | %d | %.4f | %.4f | %.0fk |" % (
                config, staleness, len(runs), mean("auc"), mean("logloss"), mean("samples_per_second") / 1e3))


if __name__ == "__main__":
    main()
