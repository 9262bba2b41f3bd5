"""docs/commands say what the binary says."""

import os
import re
import subprocess

import cluster
import pytest

FOLDER = os.path.join(cluster.ROOT, "docs", "commands")


def blocks():
    for name in sorted(os.listdir(FOLDER)):
        with open(os.path.join(FOLDER, name), encoding="utf-8") as f:
            for found in re.finditer(r"^\$ tidegate ([^\n]*--help)\n(.*?)^```", f.read(), re.DOTALL | re.MULTILINE):
                yield pytest.param(found.group(1).split(), found.group(2), id=name)


@pytest.mark.parametrize("arguments, text", blocks())
def test_the_help_in_the_docs_is_the_binarys(arguments, text):
    done = subprocess.run([os.path.join(cluster.BIN, "tidegate"), *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout == text
