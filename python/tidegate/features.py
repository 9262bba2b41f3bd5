"""From values to keys, the same as Tidegate's readers make them."""

from __future__ import annotations

import math
from typing import Any, Callable, Iterable, Iterator

import numpy as np

from .xxh3 import stable_hash


def log2_bucket(x: float) -> str:
    """The text that LOG2_BUCKET hashes: floor(log(x)^2) for x > 2, else "SP" and floor(x)."""
    if x > 2:
        log = math.log(x)
        return str(int(math.floor(log * log)))
    return "SP%d" % int(max(math.floor(x), -1e18))


def is_missing(value: Any) -> bool:
    """None, NaN and the empty text."""
    return value is None or (isinstance(value, (str, bytes)) and not value) or (isinstance(value, (float, np.floating)) and value != value)


def _text(name: str, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, bool) or not isinstance(value, (str, int, np.integer)):
        raise TypeError('feature "%s": an id is a text or an integer, not %r' % (name, value))
    return str(value).encode("utf-8", "surrogateescape")


def _finite(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError('feature "%s": %r is no finite number' % (name, value))
    return number


def _each(function: Callable[[Any], Any], values: Iterable[Any], first: int) -> Iterator[Any]:
    """Of each value; errors name its row, counted from `first`."""
    for i, value in enumerate(values, first):
        try:
            yield function(value)
        except (TypeError, ValueError) as e:
            raise type(e)("rows[%d]: %s" % (i, e)) from None


class IdFeature:
    """A feature that looks rows up: an id, or a number in LOG2_BUCKET."""

    def __init__(self, config: dict, splits: bool = True):
        """splits: whether a text of a multi-valued feature holds several, by its separator."""
        self._splits = splits
        self.name: str = config["name"]
        self.column: str = config.get("column") or self.name
        self.table: str = config["table"]
        self._seed = stable_hash(config["salt"])
        options = config.get("id") or {}
        self.use_values: bool = options.get("use_values", False)
        self.bucket = "numeric" in config
        self._skip_missing = options.get("missing") == "SKIP"
        self._max_values = int(options.get("max_values", 0))
        self._overlong = options.get("overlong", "KEEP_FIRST")
        self._hash_buckets = int(options.get("hash_buckets", 0))
        self.separator: str = options.get("separator") or "|"
        self.multi_valued: bool = options.get("multi_valued", False)
        self._known: dict[Any, int] = {}
        self.missing_key = self._key(b"\0missing")
        self.oov_key = self._key(b"\0oov")

    def _key(self, text: bytes) -> int:
        key = stable_hash(text, self._seed)
        return key % self._hash_buckets if self._hash_buckets else key

    def key(self, value: Any) -> int:
        """Of one value; None and NaN are missing ones."""
        if is_missing(value):
            return self.missing_key
        key = self._known.get(value)
        if key is None:
            if len(self._known) > 1_000_000:
                self._known.clear()
            text = log2_bucket(_finite(self.name, value)).encode() if self.bucket else _text(self.name, value)
            key = self._known[value] = self._key(text)
        return key

    def sample(self, value: Any) -> tuple[list[int], list[float]]:
        """Keys and weights of one sample's value: one, or a list of values or of (value, weight)."""
        if self.multi_valued and isinstance(value, (str, bytes)):
            value = self._split(value)
        if isinstance(value, (list, tuple, np.ndarray)):
            pairs = [v if isinstance(v, tuple) else (v, 1.0) for v in value]
            pairs = [(v, w) for v, w in pairs if not is_missing(v)]
        else:
            pairs = [] if is_missing(value) else [(value, 1.0)]
        if not pairs:
            return ([], []) if self._skip_missing else ([self.missing_key], [1.0])
        if len(pairs) > 1 and not self.multi_valued:
            raise TypeError('feature "%s" has one value a sample (id.multi_valued is false), not %r' % (self.name, value))
        if self._max_values and len(pairs) > self._max_values:
            if self._overlong == "REFUSE":
                raise ValueError('feature "%s": %d values, at most %d' % (self.name, len(pairs), self._max_values))
            pairs = pairs[-self._max_values:] if self._overlong == "KEEP_LAST" else pairs[:self._max_values]
        return [self.key(v) for v, _ in pairs], [float(w) if self.use_values else 1.0 for _, w in pairs]

    def _split(self, text: Any) -> list:
        """The values in a field of a file; only CSV has such."""
        if is_missing(text):
            return []
        if not self._splits:
            raise TypeError('feature "%s" has several values a sample: give a list, [%r]' % (self.name, text))
        return text.split(self.separator.encode() if isinstance(text, bytes) else self.separator)

    def columns(self, values: Iterable[Any], first: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(sample of each key, keys, weights)."""
        samples: list[int] = []
        keys: list[int] = []
        weights: list[float] = []
        for i, (k, w) in enumerate(_each(self.sample, values, first)):
            samples += [i] * len(k)
            keys += k
            weights += w
        return np.array(samples, np.int64), np.array(keys, np.uint64), np.array(weights, np.float32)


class NumericFeature:
    """A number that feeds blocks as it is."""

    def __init__(self, config: dict):
        self.name: str = config["name"]
        self.column: str = config.get("column") or self.name
        options = config["numeric"]
        self._transform: str = options["transform"]
        self._missing = float(options["missing_value"])

    def columns(self, values: Iterable[Any], first: int = 0) -> np.ndarray:
        values = list(values)
        missing = [is_missing(v) for v in values]
        x = np.array(list(_each(lambda v: 0.0 if is_missing(v) else _finite(self.name, v), values, first)), np.float64)
        if self._transform == "LOG1P":
            x = np.copysign(np.log1p(np.abs(x)), x)
        return np.where(missing, self._missing, x).astype(np.float32)
