"""metrics.jsonl and TensorBoard event files of a run, read back by parsers that share nothing with the writer."""

import glob
import json
import math
import os
import signal
import struct

import pytest
from cluster import write_job


def lines_of(job):
    with open(os.path.join(job.run_dir, "metrics.jsonl")) as f:
        return [json.loads(line) for line in f]


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def records(path):
    with open(path, "rb") as f:
        data = f.read()
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        assert struct.unpack_from("<I", data, at + 8)[0] == masked(data[at:at + 8])
        payload = data[at + 12:at + 12 + length]
        assert len(payload) == length
        assert struct.unpack_from("<I", data, at + 12 + length)[0] == masked(payload)
        yield payload
        at += 16 + length


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at


def fields(data):
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind == 2:
            length, at = varint(data, at)
            value, at = data[at:at + length], at + length
        else:
            size = {1: 8, 5: 4}[kind]
            (value,), at = struct.unpack_from({1: "<d", 5: "<f"}[kind], data, at), at + size
        yield key >> 3, value


def scalars(path):
    """[(step, wall_time, {tag: value})], after the header."""
    events = []
    for i, payload in enumerate(records(path)):
        event = dict(fields(payload))
        if i == 0:
            assert event[3] == b"brain.Event:2"
            continue
        values = {}
        for number, value in fields(event[5]):
            assert number == 1
            scalar = dict(fields(value))
            values[scalar[1].decode()] = scalar[2]
        events.append((event[2], event[1], values))
    return events


@pytest.mark.parametrize("staleness", ["0", "4"])
def test_a_run_writes_what_its_summary_says(local, tmp_path, staleness):
    config = write_job(tmp_path / "job.textproto", rows=60000, epochs=3, staleness=staleness)
    job = local(config, "--set=train.schedule.kind=STEP", "--set=train.schedule.every=40", "--set=train.schedule.factor=0.5")
    assert job.wait() == 0, job.log()
    summary = job.summary()
    lines = lines_of(job)
    epochs = [line for line in lines if line["kind"] == "epoch"]
    assert [line["epoch"] for line in epochs] == [1, 2, 3]
    for line, epoch in zip(epochs, summary["epochs"]):
        assert set(line["metrics"]) == set(epoch["metrics"])
        for name, value in epoch["metrics"].items():
            assert line["metrics"][name] == pytest.approx(value, rel=1e-9), name
        assert line["learning_rate_factor"] == pytest.approx(0.5 ** ((line["step"] - 1) // 40))
    assert epochs[-1]["samples"] == summary["samples"] == 180000
    assert epochs[-1]["learning_rate_factor"] < 1
    for before, after in zip(lines, lines[1:]):
        assert before["step"] <= after["step"] and before["wall_time"] <= after["wall_time"]
        assert before["seconds"] <= after["seconds"]
    for line in lines:
        if line["kind"] == "progressive":
            assert set(line["metrics"]) == {"train/click/auc", "train/click/logloss"}

    (path,) = glob.glob(os.path.join(job.run_dir, "events.out.tfevents.*"))
    events = scalars(path)
    assert len(events) == len(lines)
    for (step, wall_time, values), line in zip(events, lines):
        assert step == line["step"] and wall_time == pytest.approx(line["wall_time"], abs=0.001)
        assert values.pop("learning_rate_factor") == pytest.approx(line["learning_rate_factor"])
        assert set(values) == set(line["metrics"])
        for name, value in line["metrics"].items():
            assert values[name] == pytest.approx(value, rel=1e-6), name


def test_the_training_stream_is_scored_before_it_is_learnt(local, tmp_path):
    """One epoch over fresh rows: no sample is seen twice, so progressive and held-out figures are alike at the end."""
    job = local(write_job(tmp_path / "job.textproto", rows=2000000, epochs=1, batch=4096, split=50000))
    assert job.wait(timeout=300) == 0, job.log()
    lines = lines_of(job)
    (epoch,) = [line for line in lines if line["kind"] == "epoch"]
    windows = [line["metrics"] for line in lines if line["kind"] == "progressive"]
    assert windows, "a job of seconds has a window"
    held_out = epoch["metrics"]
    assert windows[-1]["train/click/auc"] == pytest.approx(held_out["valid/click/auc"], abs=0.03)
    assert windows[-1]["train/click/logloss"] == pytest.approx(held_out["valid/click/logloss"], abs=0.03)


def test_a_scheduler_that_comes_back_goes_on_in_the_same_file(local, tmp_path):
    job = local(write_job(tmp_path / "job.textproto", rows=400000, epochs=2))
    job.wait_for_training()
    job.kill("tidegate-scheduler", signal.SIGKILL)
    assert job.wait() == 0, job.log()
    assert [line["epoch"] for line in lines_of(job) if line["kind"] == "epoch"] == [1, 2]
    assert len(glob.glob(os.path.join(job.run_dir, "events.out.tfevents.*"))) == 2


def test_tensorboard_reads_the_events(local, tmp_path):
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader", reason="tensorboard is not installed")
    job = local(write_job(tmp_path / "job.textproto"))
    assert job.wait() == 0, job.log()
    (path,) = glob.glob(os.path.join(job.run_dir, "events.out.tfevents.*"))
    seen = {}
    for event in loader.LegacyEventFileLoader(path).Load():
        for value in event.summary.value:
            seen.setdefault(value.tag, []).append((event.step, value.simple_value))
    assert len(seen["valid/click/auc"]) == 2
    assert all(math.isfinite(value) and 0.5 < value < 1 for _, value in seen["valid/click/auc"])
