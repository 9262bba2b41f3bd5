"""XXH3-64 with a seed (xxhash 0.8, https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md), in plain Python."""

from __future__ import annotations

import struct

_MASK = 0xFFFFFFFFFFFFFFFF
_P32 = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)
_P64 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
_PMX = (0x165667919E3779F9, 0x9FB21C651E98DF25)
_SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221"
    "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb"
    "170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e")
_STRIPE, _SECRET_STEP = 64, 8


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at:at + 4], "little")


def _u64(data: bytes, at: int) -> int:
    return int.from_bytes(data[at:at + 8], "little")


def _swap(value: int, size: int) -> int:
    return int.from_bytes(value.to_bytes(size, "little"), "big")


def _fold(a: int, b: int) -> int:
    product = a * b
    return (product & _MASK) ^ (product >> 64)


def _avalanche(h: int) -> int:
    h ^= h >> 37
    h = h * _PMX[0] & _MASK
    return h ^ (h >> 32)


def _avalanche64(h: int) -> int:
    h ^= h >> 33
    h = h * _P64[1] & _MASK
    h ^= h >> 29
    h = h * _P64[2] & _MASK
    return h ^ (h >> 32)


def _rotate(x: int, bits: int) -> int:
    return ((x << bits) | (x >> (64 - bits))) & _MASK


def _short(data: bytes, seed: int) -> int:
    n = len(data)
    if n == 0:
        return _avalanche64(seed ^ _u64(_SECRET, 56) ^ _u64(_SECRET, 64))
    if n <= 3:
        combined = (data[0] << 16) | (data[n >> 1] << 24) | data[n - 1] | (n << 8)
        return _avalanche64(combined ^ ((_u32(_SECRET, 0) ^ _u32(_SECRET, 4)) + seed & _MASK))
    if n <= 8:
        seed ^= _swap(seed & 0xFFFFFFFF, 4) << 32
        flip = (_u64(_SECRET, 8) ^ _u64(_SECRET, 16)) - seed & _MASK
        h = ((_u32(data, n - 4)) + (_u32(data, 0) << 32)) ^ flip
        h ^= _rotate(h, 49) ^ _rotate(h, 24)
        h = h * _PMX[1] & _MASK
        h ^= (h >> 35) + n
        h = h * _PMX[1] & _MASK
        return h ^ (h >> 28)
    low = _u64(data, 0) ^ ((_u64(_SECRET, 24) ^ _u64(_SECRET, 32)) + seed & _MASK)
    high = _u64(data, n - 8) ^ ((_u64(_SECRET, 40) ^ _u64(_SECRET, 48)) - seed & _MASK)
    return _avalanche(n + _swap(low, 8) + high + _fold(low, high) & _MASK)


def _mix16(data: bytes, at: int, secret: int, seed: int) -> int:
    return _fold(_u64(data, at) ^ (_u64(_SECRET, secret) + seed & _MASK), _u64(data, at + 8) ^ (_u64(_SECRET, secret + 8) - seed & _MASK))


def _middle(data: bytes, seed: int) -> int:
    n = len(data)
    h = n * _P64[0]
    if n <= 128:
        for i in range((n - 1) // 32, -1, -1):
            h += _mix16(data, 16 * i, 32 * i, seed) + _mix16(data, n - 16 * (i + 1), 32 * i + 16, seed)
        return _avalanche(h & _MASK)
    for i in range(8):
        h += _mix16(data, 16 * i, 16 * i, seed)
    h = _avalanche(h & _MASK)
    for i in range(8, n // 16):
        h += _mix16(data, 16 * i, 16 * (i - 8) + 3, seed)
    return _avalanche(h + _mix16(data, n - 16, 136 - 17, seed) & _MASK)


def _long(data: bytes, seed: int) -> int:
    words = struct.unpack("<24Q", _SECRET)
    secret = struct.pack("<24Q", *((w - seed if i % 2 else w + seed) & _MASK for i, w in enumerate(words)))
    acc = [_P32[2], _P64[0], _P64[1], _P64[2], _P64[3], _P32[1], _P64[4], _P32[0]]

    def accumulate(at: int, key_at: int) -> None:
        values = struct.unpack_from("<8Q", data, at)
        keys = struct.unpack_from("<8Q", secret, key_at)
        for i in range(8):
            mixed = values[i] ^ keys[i]
            acc[i ^ 1] = acc[i ^ 1] + values[i] & _MASK
            acc[i] = acc[i] + (mixed & 0xFFFFFFFF) * (mixed >> 32) & _MASK

    per_block = (len(secret) - _STRIPE) // _SECRET_STEP
    stripes = (len(data) - 1) // _STRIPE
    for stripe in range(stripes):
        accumulate(stripe * _STRIPE, stripe % per_block * _SECRET_STEP)
        if stripe % per_block == per_block - 1:
            keys = struct.unpack_from("<8Q", secret, len(secret) - _STRIPE)
            for i in range(8):
                acc[i] = (acc[i] ^ (acc[i] >> 47) ^ keys[i]) * _P32[0] & _MASK
    accumulate(len(data) - _STRIPE, len(secret) - _STRIPE - 7)
    h = len(data) * _P64[0]
    for i in range(4):
        h += _fold(acc[2 * i] ^ _u64(secret, 11 + 16 * i), acc[2 * i + 1] ^ _u64(secret, 19 + 16 * i))
    return _avalanche(h & _MASK)


def stable_hash(data: bytes | str, seed: int = 0) -> int:
    """XXH3-64 of the bytes (of a text: of its UTF-8), as an int in [0, 2^64)."""
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogateescape")
    if len(data) <= 16:
        return _short(data, seed)
    return _middle(data, seed) if len(data) <= 240 else _long(data, seed)


def feature_key(salt: str, value: bytes | str) -> int:
    """The key of a feature's value: its hash, seeded by the hash of the salt."""
    return stable_hash(value, stable_hash(salt))


def missing_key(salt: str) -> int:
    """The key of a value that is missing."""
    return feature_key(salt, b"\0missing")


def out_of_vocabulary_key(salt: str) -> int:
    """The key of values that are not admitted."""
    return feature_key(salt, b"\0oov")
