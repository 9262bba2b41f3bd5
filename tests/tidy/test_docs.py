"""docs/ keeps up with the sources."""

import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
METRIC = re.compile(r'"((?:tidegate|process)_[a-z_]+)"')


def sources():
    for top in ("common", "scheduler", "server", "worker"):
        for folder, _, names in os.walk(os.path.join(ROOT, top)):
            for name in names:
                if name.endswith((".cc", ".h")):
                    with open(os.path.join(folder, name), encoding="utf-8") as f:
                        yield f.read()


def test_docs_metrics_has_every_metric_and_no_other():
    exported = {name for text in sources() if "Gauge(" in text or "Counter(" in text for name in METRIC.findall(text)}
    with open(os.path.join(ROOT, "docs", "metrics.md"), encoding="utf-8") as f:
        told = set(re.findall(r"`((?:tidegate|process)_[a-z_]+)[`{]", f.read()))
    assert len(exported) > 50
    assert exported == told, {"not in docs/metrics.md": exported - told, "not exported": told - exported}


LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


def test_links_between_pages_lead_to_files():
    broken = []
    for folder, _, names in os.walk(ROOT):
        if os.path.relpath(folder, ROOT).split(os.sep)[0] in (".git", "bin", "work", "tidegate-run") or "bazel-" in folder:
            continue
        for name in (n for n in names if n.endswith(".md")):
            with open(os.path.join(folder, name), encoding="utf-8") as f:
                targets = LINK.findall(f.read())
            broken += ["%s: %s" % (os.path.join(folder, name), t) for t in targets
                       if "://" not in t and not os.path.exists(os.path.join(folder, t))]
    assert broken == []


def test_the_integration_tests_readme_lists_files_that_are_there():
    folder = os.path.join(ROOT, "tests", "integration")
    with open(os.path.join(folder, "README.md"), encoding="utf-8") as f:
        listed = set(re.findall(r"`(test_\w+\.py)`", f.read()))
    assert len(listed) > 10 and listed <= set(os.listdir(folder))


def test_every_command_has_a_page():
    with open(os.path.join(ROOT, "docs", "commands", "README.md"), encoding="utf-8") as f:
        listed = set(re.findall(r"\]\((\w+\.md)\)", f.read()))
    assert listed == set(os.listdir(os.path.join(ROOT, "docs", "commands"))) - {"README.md"}
