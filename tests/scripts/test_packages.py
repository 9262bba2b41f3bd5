"""A library that the build binds is installed by the scripts, and is one that something uses."""

import os
import re
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def read(path):
    with open(os.path.join(ROOT, path)) as f:
        return f.read()


def bound_libraries():
    """{target: Debian package} of third_party/system/system_libs.bzl."""
    table = read("third_party/system/system_libs.bzl").split("_LIBS = {")[1].split("\n}")[0]
    return dict(re.findall(r'^    "(\w+)": \([^,]+, "([^"]+)"', table, re.M))


def test_every_bound_library_is_installed():
    listed = {line.split()[0] for line in read("third_party/packages.txt").splitlines() if line and line[0] != "#"}
    libraries = bound_libraries()
    assert len(libraries) > 10
    assert sorted(set(libraries.values()) - listed) == []


def test_every_bound_library_is_used():
    files = subprocess.run(["git", "ls-files", "*BUILD", "*.bzl"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    files = files or [os.path.join(d, f) for d, _, names in os.walk(ROOT) for f in names if f == "BUILD"]
    builds = "".join(read(f) for f in files)
    libraries = bound_libraries()
    inner = set(re.findall(r'"(\w+)"', "".join(re.findall(r"\[([^\[\]]*)\]\),$", read("third_party/system/system_libs.bzl"), re.M))))
    unused = [name for name in libraries if "@system//:%s\"" % name not in builds and name not in inner]
    assert unused == []
