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
    tables = {t.id: t for t in manifest(stubs, checkpoint).tables}
    found = {t.name: {} for t in tables.values()}
    for shard in shard_rows(stubs, checkpoint, tables).values():
        for name, of_shard in shard.items():
            assert not found[name].keys() & of_shard.keys()
            found[name].update(of_shard)
    return found


def shard_rows(stubs, checkpoint, tables):
    """{file name: {table name: {key: row}}}."""
    about = manifest(stubs, checkpoint)
    base = {}
    if about.base:
        folder = os.path.join(os.path.dirname(checkpoint.rstrip("/")), about.base_folder)
        assert manifest(stubs, folder).number == about.base
        base = shard_rows(stubs, folder, tables)
    shards = {}
    for name, data in shard_bytes(checkpoint).items():
        assert data[:8] in (b"TGSHARD1", b"TGSHARD2"), name
        whole = data[:8] == b"TGSHARD1"
        found = shards[name] = {t.name: {} for t in tables.values()} if whole else base[name]
        length, = struct.unpack_from("<I", data, 8)
        header = stubs.ShardFileHeader.FromString(data[12:12 + length])
        at = 12 + length
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
    return shards
