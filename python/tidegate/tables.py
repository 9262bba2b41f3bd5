"""Rows of a sparse table by key; a key without a row answers with its initialiser, as servers do."""

from __future__ import annotations

from typing import Optional

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_UNIT = 2.0**-53


def _mix64(x: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser."""
    x = x + _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _random_bits(seeds: np.ndarray, i: np.ndarray) -> np.ndarray:
    return _mix64(_mix64(seeds ^ np.uint64(0x5851F42D4C957F2D)) + i * _GOLDEN)


def _initial(kind: str, scale: float, seeds: np.ndarray, first: int, dim: int) -> np.ndarray:
    """[rows, dim] values of a part whose first element in the row is `first`."""
    shape = (len(seeds), dim)
    if kind == "constant":
        return np.full(shape, scale, np.float32)
    if kind not in ("normal", "uniform"):
        return np.zeros(shape, np.float32)
    element = np.arange(first, first + dim, dtype=np.uint64)[None, :] * np.uint64(2)
    a = _random_bits(seeds[:, None], element) >> np.uint64(11)
    if kind == "uniform":
        return (scale * (2 * (a.astype(np.float64) * _UNIT) - 1)).astype(np.float32)
    b = (_random_bits(seeds[:, None], element + np.uint64(1)) >> np.uint64(11)).astype(np.float64) * _UNIT
    u = (a + np.uint64(1)).astype(np.float64) * _UNIT
    return (scale * (np.sqrt(-2.0 * np.log(u)) * np.cos(6.283185307179586 * b))).astype(np.float32)


def _to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Rounded to nearest even, as float32."""
    bits = values.view(np.uint32).astype(np.uint64)
    bits = (bits + np.uint64(0x7FFF) + ((bits >> np.uint64(16)) & np.uint64(1))) & np.uint64(0xFFFF0000)
    return bits.astype(np.uint32).view(np.float32)


class SparseTable:
    """The parts of one table."""

    def __init__(self, spec: dict, tensors: dict[str, np.ndarray]):
        name = spec["name"]
        self.keys = np.asarray(tensors[name + ".keys"])
        self.parts = {p["name"]: tensors["%s.%s" % (name, p["name"])] for p in spec["parts"]}
        self._specs: dict[str, tuple[dict, int]] = {}
        first = 0
        for part in spec["parts"]:
            self._specs[part["name"]] = (part, first)
            first += part["dim"]
        self._seed = np.uint64(int(spec["seed"]))
        admission = spec.get("admission") or {}
        waits = admission.get("after", 0) > 1 or admission.get("probability", 1) < 1
        self._absent = spec["unadmitted"] if waits else "INITIALIZER"

    def dim(self, part: str) -> int:
        return self._specs[part][0]["dim"]

    def _find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(whether each key has a row, where)."""
        at = np.searchsorted(self.keys, keys)
        found = np.zeros(len(keys), bool)
        inside = at < len(self.keys)
        found[inside] = self.keys[at[inside]] == keys[inside]
        return found, at

    def rows(self, keys: np.ndarray, part: str, oov_key: Optional[int] = None) -> np.ndarray:
        """[len(keys), dim] float32. Of a table with FEATURE_OOV, keys without a row have that of oov_key: zeros
        where it has none either, NaN where none is given."""
        keys = np.asarray(keys, np.uint64)
        spec, first = self._specs[part]
        out = np.zeros((len(keys), spec["dim"]), np.float32)
        found, at = self._find(keys)
        out[found] = self.parts[part][at[found]]
        absent = ~found
        if not absent.any() or self._absent == "ZERO":
            return out
        if self._absent == "FEATURE_OOV":
            if oov_key is None:
                out[absent] = np.nan
            else:
                known, where = self._find(np.array([oov_key], np.uint64))
                if known[0]:
                    out[absent] = self.parts[part][where[0]]
            return out
        init = spec.get("init") or {}
        kind = next((k for k in ("constant", "normal", "uniform") if init.get(k)), "")
        with np.errstate(over="ignore"):
            seeds = _mix64(self._seed ^ _mix64(keys[absent]))
            values = _initial(kind, float(np.float32(init.get(kind, 0))), seeds, first, spec["dim"])
        out[absent] = _to_bfloat16(values) if spec["dtype"] == "BFLOAT16" else values
        return out
