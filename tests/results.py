#!/usr/bin/env python3
"""Counts test cases from reports, truthfully.

  results.py bazel NAME EVENTS.json [EXIT_STATUS]   a `bazel test --build_event_json_file`: its targets' JUnit files
  results.py junit NAME REPORT.xml [EXIT_STATUS]    pytest --junitxml
  results.py total COUNTS                           prints "N passed, N failed" over all lines; exit 1 on failures

The first two print one line, "passed failed skipped name"; test.sh gathers these in COUNTS. A target or run
that ended badly without a failed case to show for it counts as one failure.
"""

import json
import sys
import urllib.parse
import xml.etree.ElementTree as ElementTree


def count_cases(path):
    passed = failed = skipped = 0
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        children = {child.tag for child in case}
        if children & {"failure", "error"}:
            failed += 1
        elif "skipped" in children:
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def count_report(path):
    try:
        return count_cases(path)
    except (OSError, ElementTree.ParseError):
        return 0, 0, 0


def count_bazel(events_path):
    """Sums over the tests that the event stream tells of; also prints the failed ones to stderr."""
    totals = [0, 0, 0]
    reported = set()
    broken = set()
    try:
        with open(events_path, encoding="utf-8") as f:
            events = [json.loads(line) for line in f if line.strip()]
    except (OSError, ValueError):
        return 0, 1, 0
    for event in events:
        name = event.get("id", {})
        if "testResult" in name:
            label = name["testResult"]["label"]
            result = event.get("testResult", {})
            reported.add(label)
            counts = (0, 0, 0)
            for output in result.get("testActionOutput", []):
                if output.get("name") == "test.xml" and output.get("uri", "").startswith("file://"):
                    counts = count_report(urllib.parse.unquote(output["uri"][len("file://"):]))
            if result.get("status") not in ("PASSED", "FLAKY") and counts[1] == 0:
                counts = (counts[0], 1, counts[2])
            elif sum(counts) == 0:
                counts = (0, 1, 0)  # "passed" without a report of any case
            if counts[1]:
                print("FAILED %s (%s)" % (label, result.get("status")), file=sys.stderr)
            totals = [a + b for a, b in zip(totals, counts)]
        elif "targetCompleted" in name and not event.get("completed", {}).get("success"):
            broken.add(name["targetCompleted"]["label"])
    for label in sorted(broken - reported):
        print("FAILED to build %s" % label, file=sys.stderr)
        totals[1] += 1
    return tuple(totals)


def total(path):
    sums = [0, 0, 0]
    with open(path, encoding="utf-8") as f:
        for line in f:
            words = line.split(None, 3)
            counts = [int(w) for w in words[:3]]
            sums = [a + b for a, b in zip(sums, counts)]
            print("  %-28s %5d passed  %3d failed  %3d skipped" % (words[3].strip(), *counts))
    passed, failed, skipped = sums
    print("%d passed, %d failed%s" % (passed, failed, ", %d skipped" % skipped if skipped else ""))
    return 1 if failed or not passed else 0


def main():
    kind, arguments = sys.argv[1], sys.argv[2:]
    if kind == "total":
        return total(arguments[0])
    name, path = arguments[:2]
    counts = {"bazel": count_bazel, "junit": count_report}[kind](path)
    if len(arguments) > 2 and arguments[2] != "0" and counts[1] == 0:
        counts = (counts[0], 1, counts[2])
    print("%d %d %d %s" % (*counts, name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
