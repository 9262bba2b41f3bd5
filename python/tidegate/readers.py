"""Rows of data files for `Export.score`, by the columns that the export's features name."""

from __future__ import annotations

import csv
import gzip
from typing import Any, Iterator

from .export import Export, ExportError
from .features import IdFeature


def read_rows(model: Export, path: str) -> Iterator[dict[str, Any]]:
    """{feature: value} for each line of a file in the format of the export's data (LIBSVM, LIBFFM, CRITEO_TSV, CSV), plain or gzip."""
    data = model.spec["data"]
    formats = {"LIBSVM": _libsvm, "LIBFFM": _libffm, "CRITEO_TSV": _criteo, "GENERATED": _criteo, "CSV": _csv}
    if data["format"] not in formats:
        raise ExportError("format %s is not read here: make rows by hand" % data["format"])
    features = list(model.id_features.values()) + list(model.numeric_features.values())
    opened = gzip.open if path.endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8", errors="surrogateescape", newline="") as f:
        for columns in formats[data["format"]](f, data):
            yield {feature.name: _value(feature, columns) for feature in features}


def _value(feature: Any, columns: dict[str, Any]) -> Any:
    value = columns.get(feature.column)
    id_feature = isinstance(feature, IdFeature)
    if isinstance(value, tuple):  # a LIBSVM token: index, value
        if not id_feature or feature.bucket:
            return value[1]
        return [value] if feature.use_values else value[0]
    if isinstance(value, list) and not id_feature:
        return value[0][1] if value else None
    if isinstance(value, list) and feature.bucket:
        return [number for _, number in value]
    if isinstance(value, str) and id_feature and feature.multi_valued:
        return [v for v in value.split(feature.separator) if v]
    return value


def _words(f: Any) -> Iterator[list[str]]:
    """The words behind each line's label, without a comment."""
    for line in f:
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        comment = next((i for i, word in enumerate(words) if word.startswith("#")), len(words))
        yield words[1:comment]


def _libsvm(f: Any, data: dict) -> Iterator[dict[str, Any]]:
    for words in _words(f):
        tokens = [(index, float(number)) for index, number in (word.split(":", 1) for word in words)]
        columns: dict[str, Any] = {"#%d" % (i + 1): t for i, t in enumerate(tokens)}
        columns["*"] = tokens
        yield columns


def _libffm(f: Any, data: dict) -> Iterator[dict[str, Any]]:
    for words in _words(f):
        columns: dict[str, Any] = {"*": []}
        for field, index, number in (word.split(":", 2) for word in words):
            token = (index, float(number))
            columns["*"].append(token)
            columns.setdefault("#" + field, []).append(token)
        yield columns


def _criteo(f: Any, data: dict) -> Iterator[dict[str, Any]]:
    names = ["label"] + ["I%d" % i for i in range(1, 14)] + ["C%d" % i for i in range(1, 27)]
    for line in f:
        yield dict(zip(names, line.rstrip("\r\n").split("\t")))


def _csv(f: Any, data: dict) -> Iterator[dict[str, Any]]:
    options = data.get("csv") or {}
    reader = csv.reader(f, delimiter=options.get("delimiter", ","))
    names = next(reader, []) if options.get("header", True) else options.get("column", [])
    for row in reader:
        yield dict(zip(names, row))
