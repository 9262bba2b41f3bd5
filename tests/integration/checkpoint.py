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
    """{table name: {key: (samples, updates, first clock, last clock, values...)}}, float32 tables; of an incremental one with what it builds on."""
    about = manifest(stubs, checkpoint)
    tables = {t.id: t for t in about.tables}
    found = {t.name: {} for t in tables.values()}
    if about.base:
        base = os.path.join(os.path.dirname(checkpoint.rstrip("/")), about.base_folder)
        assert manifest(stubs, base).number == about.base
        found = rows(stubs, base)
    for name, data in shard_bytes(checkpoint).items():
        assert data[:8] in (b"TGSHARD1", b"TGSHARD2"), name
        length, = struct.unpack_from("<I", data, 8)
        header = stubs.ShardFileHeader.FromString(data[12:12 + length])
        at = 12 + length
        whole = data[:8] == b"TGSHARD1"
        assert not (whole and about.base), "a full file in an incremental checkpoint: its shard's keys of before are not known here"
        for section in header.sections:
            table, end = tables[section.table], at + section.bytes
            for key in struct.unpack_from("<%dQ" % section.removed, data, end):
                found[table.name].pop(key, None)
            row = struct.Struct("<4I%df" % sum(p.dim for p in table.parts))
            while at < end:
                key, kind = struct.unpack_from("<QI", data, at)
                assert kind == 0 and (key not in found[table.name] or not whole)
                found[table.name][key] = row.unpack_from(data, at + 12)
                at += 12 + section.row_bytes
            assert at == end, name
            at += 8 * section.removed
        assert at == len(data), name
    return found
