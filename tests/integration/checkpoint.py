"""Reads a checkpoint's rows by docs/formats.md and generated stubs, without Tidegate's own reader."""

import glob
import os
import struct
import subprocess
import sys

from cluster import ROOT


def load_stubs(folder):
    protos = [os.path.relpath(p, ROOT) for p in glob.glob(os.path.join(ROOT, "proto", "*.proto"))]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", "-I.", "--python_out=%s" % folder] + protos, cwd=ROOT, check=True)
    sys.path.insert(0, str(folder))
    try:
        from proto import checkpoint_pb2
    finally:
        sys.path.remove(str(folder))
    return checkpoint_pb2


def shard_bytes(checkpoint):
    """{file name: content} of the shard files."""
    found = {}
    for name in sorted(os.listdir(checkpoint)):
        if name != "MANIFEST":
            with open(os.path.join(checkpoint, name), "rb") as f:
                found[name] = f.read()
    return found


def manifest(stubs, checkpoint):
    with open(os.path.join(checkpoint, "MANIFEST"), "rb") as f:
        return stubs.CheckpointManifest.FromString(f.read()[:-8])


def rows(stubs, checkpoint):
    """{table name: {key: (samples, updates, first clock, last clock, values...)}}, float32 tables."""
    tables = {t.id: t for t in manifest(stubs, checkpoint).tables}
    found = {t.name: {} for t in tables.values()}
    for name, data in shard_bytes(checkpoint).items():
        assert data[:8] == b"TGSHARD1", name
        length, = struct.unpack_from("<I", data, 8)
        header = stubs.ShardFileHeader.FromString(data[12:12 + length])
        at = 12 + length
        for section in header.sections:
            table, end = tables[section.table], at + section.bytes
            row = struct.Struct("<4I%df" % sum(p.dim for p in table.parts))
            while at < end:
                key, kind = struct.unpack_from("<QI", data, at)
                assert kind == 0 and key not in found[table.name]
                found[table.name][key] = row.unpack_from(data, at + 12)
                at += 12 + section.row_bytes
            assert at == end, name
        assert at == len(data), name
    return found
