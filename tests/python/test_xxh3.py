"""The hash in plain Python against published values and, where it is installed, the xxhash package."""

import random

import pytest
from tidegate.xxh3 import feature_key, missing_key, out_of_vocabulary_key, stable_hash


def test_published_values():
    assert stable_hash(b"") == 0x2D06800538D394C2
    assert stable_hash(b"", 0x9E3779B185EBCA8D) == 0xA8A6B918B2F0364A
    assert stable_hash(bytes(range(64)), 1) == 0x0FBA3F12B8F688F4
    assert stable_hash("é") == stable_hash("é".encode())


def test_the_two_keys_that_no_text_has_differ():
    keys = {missing_key("C1"), out_of_vocabulary_key("C1"), missing_key("C2"), feature_key("C1", ""), feature_key("C1", "missing")}
    assert len(keys) == 5


def test_every_length_class_against_the_package():
    xxhash = pytest.importorskip("xxhash", reason="the xxhash package is not installed")
    generator = random.Random(1)
    for length in list(range(300)) + [511, 512, 1023, 1024, 1025, 1088, 1089, 2048, 5000]:
        data = generator.randbytes(length)
        for seed in (0, 1, 0xDEADBEEFCAFEBABE, 2**64 - 1):
            assert stable_hash(data, seed) == xxhash.xxh3_64_intdigest(data, seed), (length, seed)
