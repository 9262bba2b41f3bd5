#!/usr/bin/env python3
"""Trains real data sets as their configs say, over seeds and staleness bounds, and prints a table.

  tests/benchmarks/accuracy.py [--configs a,b] [--seeds 1,2,3] [--staleness 0,4,inf] [--out FILE.jsonl]

Needs bin/ (./quickstart.sh or ./test.sh builds it) and the data (docs/config.md: TIDEGATE_DATA; configs/README.md: where it is from). A line
of JSON per run goes to --out as it ends; runs that are in it already are not done again. The table has,
per config and staleness, the mean over the seeds of the best epoch's metrics: validation AUC (the best epoch's
measure) and log loss, or for ranking NDCG@10 (the measure) and HR@10.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CONFIGS = "frappe_lr,frappe_fm,frappe_wide_deep,frappe_deepfm,frappe_dcn_v2,frappe_dlrm,ml1m_neumf"
CLICKS = ("auc", "logloss")
RANKING = ("ndcg@10", "hr@10")


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
    metrics = [{name.split("/")[-1]: value for name, value in e["metrics"].items() if name.startswith("valid/")}
               for e in epochs]
    measures = RANKING if RANKING[0] in metrics[0] else CLICKS
    best = max(range(len(metrics)), key=lambda i: metrics[i][measures[0]])
    return {"config": config, "seed": seed, "staleness": staleness, "epoch": best + 1,
            **{name: metrics[best][name] for name in measures},
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
    for measures, names in ((CLICKS, "AUC | log loss"), (RANKING, "NDCG@10 | HR@10")):
        print_table([r for r in results if measures[0] in r], measures, names)


def print_table(results, measures, names):
    if not results:
        return
    print("| config | staleness | seeds | %s | samples/s |\n|---|---|---|---|---|---|" % names)
    for config, staleness in dict.fromkeys((r["config"], r["staleness"]) for r in results):
        runs = [r for r in results if r["config"] == config and r["staleness"] == staleness]
        mean = lambda name: sum(r[name] for r in runs) / len(runs)
        print("| %s | %s | %d | %.4f | %.4f | %.0fk |" % (
            config, staleness, len(runs), mean(measures[0]), mean(measures[1]), mean("samples_per_second") / 1e3))


if __name__ == "__main__":
    main()
