"""An export: its features, tables and model, and the scores of rows."""

from __future__ import annotations

import difflib
import json
import os
from typing import Any, Iterable, Mapping, Sequence, Union

import numpy as np

from .blocks import Blocks, block_inputs, sigmoid
from .features import IdFeature, NumericFeature
from .tables import SparseTable
from .tensors import read_tensors
from .xxh3 import feature_key

FORMAT = 1
_BATCH = 4096
_NEAR = 0.7  # ratio of equal letters (difflib) from which a name is taken for another's misspelling
Row = Mapping[str, Any]


class ExportError(Exception):
    """The folder holds no export that this module can serve; says why."""


def _listed(names: Iterable[Any]) -> str:
    shown = [str(name) for name in names]
    return ", ".join(shown[:20]) + (", ..." if len(shown) > 20 else "")


def _transposed(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    for name, values in columns.items():
        if isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
            raise TypeError('"%s": %r is no list of values; one row is [{feature: value, ...}]' % (name, values))
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError("columns of different lengths: %s" % ", ".join("%s has %d" % item for item in lengths.items()))
    return [dict(zip(columns, values)) for values in zip(*columns.values())]


def load(directory: str) -> "Export":
    """Opens an export's folder. ExportError says what is wrong with it."""
    return Export(directory)


class Export:
    """Thread-safe once loaded, but for the cache of keys: one per thread."""

    def __init__(self, directory: str):
        path = os.path.join(directory, "spec.json")
        try:
            with open(path, encoding="utf-8") as f:
                self.spec: dict = json.load(f)
        except FileNotFoundError:
            raise ExportError("%s is no complete export: no %s" % (directory, path)) from None
        except ValueError as e:
            raise ExportError("%s: %s" % (path, e)) from None
        if self.spec.get("format") != FORMAT:
            raise ExportError("%s has format %s, this version reads %d" % (path, self.spec.get("format"), FORMAT))
        self._check_hash(path)
        self.tensors = self._read_tensors(os.path.join(directory, "model.safetensors"))
        features = self.spec["features"]
        splits = self.spec["data"]["format"] == "CSV"
        self.id_features = {f["name"]: IdFeature(f, splits) for f in features if f.get("table")}
        self.numeric_features = {f["name"]: NumericFeature(f) for f in features if not f.get("table")}
        try:
            self.tables = {t["name"]: SparseTable(t, self.tensors) for t in self.spec["tables"] if t["kind"] == "SPARSE"}
            dense = {t["name"]: np.asarray(self.tensors[t["name"]]) for t in self.spec["tables"] if t["kind"] == "DENSE"}
        except KeyError as e:
            raise ExportError("%s: model.safetensors has no tensor %s" % (directory, e)) from None
        self._blocks = Blocks(dense)
        self._graph = {b["name"]: b for b in self.spec["model"]["block"]}
        for block in self._graph.values():
            if not self._blocks.known(block):
                raise ExportError('block "%s": kind %s is not known here' % (block["name"], Blocks.kind(block)))

    def _check_hash(self, path: str) -> None:
        for vector in self.spec["hash"]["vectors"]:
            if feature_key(vector["salt"], vector["value"]) != int(vector["key"]):
                raise ExportError("%s: hash %s gives other keys here" % (path, self.spec["hash"]["name"]))

    def _read_tensors(self, path: str) -> dict[str, np.ndarray]:
        try:
            size = os.path.getsize(path)
            if size != int(self.spec["tensors_bytes"]):
                raise ExportError("%s has %d bytes, spec.json says %s" % (path, size, self.spec["tensors_bytes"]))
            return read_tensors(path)
        except (OSError, ValueError) as e:
            raise ExportError(str(e)) from None

    @property
    def tasks(self) -> list[str]:
        return [t["name"] for t in self.spec["model"]["task"]]

    def keys(self, feature: str, values: Iterable[Any]) -> np.ndarray:
        """uint64 keys of a feature's values, one each; None is a missing value."""
        if feature not in self.id_features:
            raise KeyError('no feature "%s" that looks rows up; there are %s' % (feature, ", ".join(self.id_features)))
        f = self.id_features[feature]
        return np.array([f.key(v) for v in values], np.uint64)

    def score(self, rows: Union[Sequence[Row], Mapping[str, Sequence[Any]]]) -> Union[np.ndarray, dict[str, np.ndarray]]:
        """Scores of rows: a list of {feature: value}, or {feature: list of values}. A feature that is not
        there, None, NaN and "" are missing; names of no feature are passed over, as the other columns of a file, but for one that is nearly
        that of a feature which is not there: a KeyError. A multi-valued feature takes a list (of CSV data also a text with its
        separator), one that uses values a list of (value, weight). One float32 array, or {task: array} where the
        model has several tasks.
        """
        if isinstance(rows, Mapping):
            rows = _transposed(rows)
        self._check_names({name for row in rows for name in row})
        parts = [self._score_batch(rows[i:i + _BATCH], i) for i in range(0, len(rows), _BATCH)]
        scores = {t: np.concatenate([p[t] for p in parts]) if parts else np.zeros(0, np.float32) for t in self.tasks}
        return scores if len(scores) > 1 else scores[self.tasks[0]]

    def _check_names(self, names: set[str]) -> None:
        """Of rows. A feature that is missing by mistake would cost accuracy silently."""
        features = {**self.id_features, **self.numeric_features}
        absent = {name: f for name, f in features.items() if name not in names}
        if names and len(absent) == len(features):
            raise KeyError("no feature of the model in %s; it has %s" % (_listed(names), _listed(features)))
        lower = {name.lower(): name for name in absent}
        for name in sorted(n for n in names if isinstance(n, str) and n not in features):
            of_column = [f.name for f in absent.values() if f.column == name]
            near = difflib.get_close_matches(name.lower(), lower, 1, _NEAR)
            if of_column:
                raise KeyError('no feature "%s": it is the column of feature "%s", whose name the rows have to say (read_rows does)' % (name, of_column[0]))
            if near:
                raise KeyError('no feature "%s" (did you mean "%s"?); the model has %s' % (name, lower[near[0]], _listed(features)))

    def _score_batch(self, rows: Sequence[Row], first: int) -> dict[str, np.ndarray]:
        """`first` is the place of rows[0] among all rows."""
        ids = {name: f.columns((r.get(name) for r in rows), first) for name, f in self.id_features.items()}
        numbers = {name: f.columns((r.get(name) for r in rows), first) for name, f in self.numeric_features.items()}
        values: dict[str, np.ndarray] = {}  # of the graph's nodes

        def value(name: str) -> np.ndarray:
            if name not in values:
                if name in self._graph:
                    block = self._graph[name]
                    sequences = [block["attention_pool"]["sequence"]] if "attention_pool" in block else []
                    names = [n for n in block_inputs(block) if n not in sequences]
                    inputs = [value(n) for n in names] + [self._sequence(n, ids) for n in sequences]
                    values[name] = self._blocks.forward(block, inputs)
                elif name in numbers:
                    values[name] = numbers[name].reshape(-1, 1, 1)
                else:
                    values[name] = self._look_up(name, ids, len(rows))
            return values[name]

        def output(task: dict) -> np.ndarray:
            if task.get("probability") or task["loss"] != "BCE":
                return value(task.get("probability") or task["logit"]).reshape(-1)
            return sigmoid(value(task["logit"]).reshape(-1))

        return {t["name"]: output(t) for t in self.spec["model"]["task"]}

    def _sequence(self, name: str, ids: dict) -> tuple[np.ndarray, np.ndarray]:
        """(sample of each value, [values, dim]) of "feature.part"."""
        owner, part = name.split(".", 1)
        samples, keys, weights = ids[owner]
        return samples, weights[:, None] * self.tables[self.id_features[owner].table].rows(keys, part, self.id_features[owner].oov_key)

    def _look_up(self, name: str, ids: dict, rows: int) -> np.ndarray:
        """[rows, features, dim] of "table.part" or "feature.part"."""
        owner, part = name.split(".", 1)
        features = [f for f in self.id_features.values() if (f.table if owner in self.tables else f.name) == owner]
        table = self.tables[features[0].table]
        out = np.zeros((rows, len(features), table.dim(part)), np.float32)
        for i, feature in enumerate(features):
            samples, keys, weights = ids[feature.name]
            distinct, position = np.unique(keys, return_inverse=True)
            np.add.at(out[:, i], samples, weights[:, None] * table.rows(distinct, part, feature.oov_key)[position])
        return out
