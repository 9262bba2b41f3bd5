"""The tree keeps its layering, and the checker catches what it claims to."""

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tidy  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

PLANTED = [
    ("server/shard/sessions.cc", "#include <grpcpp/grpcpp.h>\n", "gRPC headers"),
    ("worker/pipeline/step.cc", '#include "proto/shard_service.grpc.pb.h"\n', "gRPC headers"),
    ("common/executor/strand.h", "#pragma once\n#include <cuda_runtime.h>\n", "CUDA headers"),
    ("worker/model/mlp.cc", "#include <cublas_v2.h>\n", "CUDA headers"),
    ("scheduler/cluster_state.cc", "#include <gflags/gflags.h>\n", "gflags"),
    ("worker/data/reader.cc", "#include <glog/logging.h>\n", "glog"),
    ("server/shard/clock_table.cc", "#include <chrono>\n", "a core includes"),
    ("server/shard/clock_table.h", "#pragma once\n#include <mutex>\n", "a core includes"),
    ("scheduler/membership.cc", "#include <thread>\n", "a core includes"),
    ("scheduler/policy/placement.cc", "#include <fstream>\n", "a core includes"),
    ("worker/client/tracker_retries.cc", "#include <chrono>\n", "a core includes"),
    ("worker/data/reader.cc", "#include <thread>\n", "threads"),
    ("server/table/table_group.cc", "#include <ctime>\n", "real clocks"),
    ("server/rpc/service.cc", '#include "worker/client/parameter_client.h"\n', "they meet in"),
    ("worker/pipeline/a.cc", '#include "scheduler/cluster_state.h"\n', "they meet in"),
    ("scheduler/rpc/a.cc", '#include "server/table/row_layout.h"\n', "they meet in"),
    ("common/rpc/a.cc", '#include "server/table/row_layout.h"\n', "above it"),
    ("server/a_main.cc", '#include "tests/fakes/file_system.h"\n', "is a test's"),
    ("worker/a.cc", '#include "../common/types.h"\n', "from the root"),
    ("server/table/big.cc", "int x;\n" * 701, "more than 700"),
    ("server/table/a.h", "int x;\n", "#pragma once"),
    ("server/table/a.cc", "auto h = absl::Hash<int>()(3);\n", "differs by process"),
    ("proto/a.proto", "package tidegate;\n", "no syntax"),
    ("proto/a.proto", 'syntax = "proto3";\n', "not in package"),
    ("proto/a.proto", 'syntax = "proto3";\npackage tidegate;\nmessage bad_name {}\n', "CamelCase"),
    ("proto/a.proto", 'syntax = "proto3";\npackage tidegate;\nmessage A {\n  uint64 myField = 1;\n}\n', "lower_case"),
    ("docs/a.md", "see /" + "home/me/notes\n", "path of one machine"),
    ("README.md", "TO" + "DO: write\n", "unfinished"),
]

ALLOWED = [
    ("server/rpc/service.cc", "#include <grpcpp/grpcpp.h>\n#include <mutex>\n#include <chrono>\n"),
    ("common/rpc/member_link.cc", '#include "proto/scheduler_service.grpc.pb.h"\n#include <thread>\n'),
    ("server/server_main.cc", "#include <gflags/gflags.h>\n#include <thread>\n"),
    ("cuda/device.cu", "#include <cuda_runtime.h>\n"),
    ("common/logging.cc", "#include <glog/logging.h>\n"),
    ("worker/data/prefetch.cc", "#include <thread>\n"),
    ("server/shard/sessions.cc", '#include <vector>\n#include "common/types.h"\n#include "server/table/row_layout.h"\n'),
    ("server/table/a.cc", "// never absl::Hash here\n"),
    ("proto/a.proto", 'syntax = "proto3";\npackage tidegate;\nmessage A {\n  uint64 my_field = 1;\n}\n'),
    ("proto/health.proto", 'syntax = "proto3";\npackage grpc.health.v1;\n'),
]


def test_the_tree_is_tidy():
    assert tidy.check_tree(ROOT) == []


@pytest.mark.parametrize("path,text,expected", PLANTED)
def test_a_planted_violation_is_caught(path, text, expected):
    found = tidy.check(path, text)
    assert any(expected in line for line in found), found


@pytest.mark.parametrize("path,text", ALLOWED)
def test_what_belongs_is_left_alone(path, text):
    assert tidy.check(path, text) == []


def test_a_violation_names_its_file_and_line():
    assert tidy.check("worker/data/reader.cc", "\n\n#include <thread>\n")[0].startswith("worker/data/reader.cc:3: ")


def test_the_tree_walk_sees_the_sources():
    paths = [path for path, _ in tidy.tree_files(ROOT)]
    assert "common/logging.cc" in paths and "proto/job.proto" in paths
