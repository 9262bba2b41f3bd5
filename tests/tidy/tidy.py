"""Checks the tree against the layering and include gates of docs/design.md, section 4.

  tidy.py [ROOT]    prints one line per violation, exit status 1 where there is any

`check(path, text)` looks at one file; `check_tree(root)` at all that git tracks (or, outside of a
clone, at all source files).
"""

import os
import re
import subprocess
import sys

LINES_WARN = 500
LINES_MAX = 700
SOURCE = (".h", ".cc", ".cu", ".cuh")
PROGRAMS = ("server", "worker", "scheduler")

# Where a header or a word may be named. A path matches a pattern by fullmatch.
MAINS = r".*_main\.cc"
GATES = [
    # (what, regular expression over an #include's name, places)
    ("gRPC headers", r"grpc(pp)?/.*|.*\.grpc\.pb\.h",
     [MAINS, r"(server|worker|scheduler|common)/(.*/)?rpc/.*", r"cli/.*", r"tests/.*"]),
    ("CUDA headers", r"cuda(_runtime|_runtime_api|_bf16|_fp16)?\.h|cublas.*|cub/.*|nccl\.h", [r"cuda/.*"]),
    ("oneDNN headers", r"(oneapi/)?dnnl.*", [r"worker/model/.*", r"cli/.*", r"tests/.*"]),
    ("gflags", r"gflags/.*", [MAINS, r"cli/.*", r"(server|worker|scheduler|common)/(.*/)?wiring.*", r"tests/.*"]),
    ("glog", r"glog/.*", [r"common/logging\.cc"]),
    ("HTTP", r"httplib\.h", [r"common/metrics/.*", r"tests/.*"]),
    ("prometheus", r"prometheus/.*", [r"common/metrics/.*", r"tests/.*"]),
    ("abseil's flags", r"absl/flags/.*", []),
]
# Threads and real clocks: only where processes are wired up.
WIRING = [
    MAINS, r"(server|worker|scheduler|common)/(.*/)?rpc/.*", r"(server|worker|scheduler|common)/(.*/)?wiring.*",
    r"common/executor/.*", r"common/clock\.h", r"common/metrics/.*", r"common/file_system\.cc", r"common/logging\.cc",
    r"worker/data/(prefetch|read_stats)\..*", r"worker/pipeline/(?!staleness|policy).*", r"server/checkpoint/.*",
    r"server/table/table_bench\.cc", r"worker/client/(wire_bench|replication_bench|bench_load|raw_tcp)\.(cc|h)", r"worker/model/.*_bench\.cc",
    r"scheduler/store/.*", r"cli/.*", r"tests/.*",
    r"server/table/huge_page_pool\.(h|cc)",  # the process's memory, as malloc: locked where a table grows
]
THREADS = r"thread|mutex|shared_mutex|condition_variable|future|semaphore|latch|barrier|stop_token|pthread\.h"
CLOCKS = r"chrono|ctime|time\.h|sys/time\.h|absl/time/clock\.h"
# The cores own no thread, lock, clock, socket or file.
CORES = [
    r"server/shard/.*", r"scheduler/[^/]*(?<!_main)\.(h|cc)", r"scheduler/policy/.*",
    r"worker/client/tracker[^/]*", r"server/optimizer/.*", r"worker/pipeline/(staleness|policy)[^/]*",
]
CORE_BANNED = THREADS + "|" + CLOCKS + r"|fstream|iostream|filesystem|sys/.*|unistd\.h|fcntl\.h|random"
HASH = re.compile(r"absl::Hash\b|absl/hash/hash\.h")
INCLUDE = re.compile(r'^[ \t]*#\s*include\s+[<"]([^>"]+)[>"]', re.M)
# Absolute paths of one machine: the project must read the same everywhere.
MACHINE = re.compile(r"(?<![\w.$)}/-])/(?:home|root|work|mnt|Users)/\w[\w./-]*")
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")


def _in(path, patterns):
    return any(re.fullmatch(p, path) for p in patterns)


def _line(text, offset):
    return text.count("\n", 0, offset) + 1


def check_includes(path, text):
    program = path.split("/")[0]
    for match in INCLUDE.finditer(text):
        name = match.group(1)
        at = "%s:%d" % (path, _line(text, match.start()))
        for what, pattern, places in GATES:
            if re.fullmatch(pattern, name) and not _in(path, places):
                yield "%s: %s (%s) do not belong here" % (at, what, name)
        if _in(path, CORES):
            if re.fullmatch(CORE_BANNED, name):
                yield "%s: a core includes <%s>: time, threads and files are injected" % (at, name)
        elif re.fullmatch(THREADS, name) and not _in(path, WIRING):
            yield "%s: threads (<%s>) live in wiring, rpc and executors" % (at, name)
        elif re.fullmatch(CLOCKS, name) and not _in(path, WIRING):
            yield "%s: real clocks (<%s>) live in wiring; cores are told the time" % (at, name)
        top = name.split("/")[0]
        if program in PROGRAMS and top in PROGRAMS and top != program:
            yield "%s: %s includes %s: they meet in proto/ and common/" % (at, program, name)
        if program in ("common", "cuda") and top in PROGRAMS + ("cli",):
            yield "%s: %s/ includes %s, which is above it" % (at, program, name)
        if program in PROGRAMS and top == "cli":
            yield "%s: %s includes %s, which is above it" % (at, program, name)
        if program != "tests" and top == "tests":
            yield "%s: %s is a test's, and production includes it" % (at, name)
        if name.startswith("../") or "/../" in name:
            yield "%s: include from the root of the tree, not %s" % (at, name)


# Protocols that are not ours, but spoken here.
OTHERS_PROTOCOLS = {"proto/health.proto": "grpc.health.v1"}


def check_proto(path, text):
    if not re.search(r'^syntax = "proto[23]";$', text, re.M):
        yield "%s: no syntax line" % path
    package = OTHERS_PROTOCOLS.get(path, "tidegate")
    if not re.search(r"^package %s;$" % re.escape(package), text, re.M):
        yield "%s: not in package tidegate" % path
    for match in re.finditer(r"^\s*(?:message|enum|service)\s+(\w+)", text, re.M):
        if not re.fullmatch(r"[A-Z][A-Za-z0-9]*", match.group(1)):
            yield "%s:%d: %s is not CamelCase" % (path, _line(text, match.start(1)), match.group(1))
    fields = r"^\s*(?:optional |repeated )?[A-Za-z_.0-9]+\s+(\w+)\s*=\s*\d+\s*(?:\[.*\])?;"
    for match in re.finditer(fields, text, re.M):
        if not re.fullmatch(r"[a-z][a-z0-9_]*", match.group(1)):
            yield "%s:%d: field %s is not lower_case" % (path, _line(text, match.start(1)), match.group(1))


def check(path, text):
    """Violations of one file, as lines "path:line: what"."""
    out = []
    if path.startswith("third_party/shims/"):
        return out
    if path.endswith(SOURCE):
        lines = text.count("\n")
        if lines > LINES_MAX:
            out.append("%s: %d lines: more than %d; it holds two ideas" % (path, lines, LINES_MAX))
        out += check_includes(path, text)
        if path.endswith((".h", ".cuh")) and not text.startswith("#pragma once\n"):
            out.append("%s: a header begins with #pragma once" % path)
        code = re.sub(r"//[^\n]*", "", text)
        for match in HASH.finditer(code):
            out.append("%s:%d: %s: it differs by process" % (path, _line(code, match.start()), match.group(0)))
    if path.endswith(".proto") and not path.startswith("third_party/"):
        out += check_proto(path, text)
    if not path.startswith("tests/tidy/"):
        for match in MACHINE.finditer(text):
            out.append("%s:%d: names a path of one machine: %s" % (path, _line(text, match.start()), match.group(0)))
        for match in UNFINISHED.finditer(text):
            out.append("%s:%d: unfinished: %s" % (path, _line(text, match.start()), match.group(0)))
    return out


def long_files(files):
    return ["%s: %d lines" % (path, text.count("\n")) for path, text in files
            if path.endswith(SOURCE) and text.count("\n") > LINES_WARN]


def tree_files(root):
    """(path, text) of every text file of the tree, sorted."""
    try:
        listed = subprocess.run(["git", "-C", root, "ls-files", "-z"], check=True, capture_output=True).stdout
        paths = [p for p in listed.decode().split("\0") if p]
    except (OSError, subprocess.CalledProcessError):
        paths = []
        for folder, folders, names in os.walk(root):
            folders[:] = [f for f in folders if not f.startswith((".", "bazel-")) and f not in ("bin", "data")]
            paths += [os.path.relpath(os.path.join(folder, n), root) for n in names]
    for path in sorted(paths):
        full = os.path.join(root, path)
        if not os.path.isfile(full):
            continue
        try:
            with open(full, encoding="utf-8") as f:
                yield path, f.read()
        except UnicodeDecodeError:
            continue


def check_tree(root):
    out = []
    for path, text in tree_files(root):
        out += check(path, text)
    return out


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else "."
    violations = check_tree(root)
    for line in long_files(tree_files(root)):
        print("note: " + line)
    for line in violations:
        print(line)
    print("%d violations" % len(violations))
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
