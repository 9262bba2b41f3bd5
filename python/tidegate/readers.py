"""Rows of data files for `Export.score`, by the columns that the export's features name, as Tidegate's readers see them."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from typing import Any, BinaryIO, Iterator

from .export import Export
from .features import IdFeature

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z", re.ASCII)
_SPACES = re.compile(r"[ \t]+")
_CRITEO = ["label"] + ["I%d" % i for i in range(1, 14)] + ["C%d" % i for i in range(1, 27)]
_BOM = b"\xef\xbb\xbf"


class DataError(Exception):
    """A file is not what the export's data was; says where and why."""


def read_rows(model: Export, path: str) -> Iterator[dict[str, Any]]:
    """{feature: value} for each line of a file in the format of the export's data (LIBSVM, LIBFFM, CRITEO_TSV, CSV), plain or gzip.
    Blank lines are passed over. DataError at a line that `tidegate predict` would refuse for its features; labels are not looked at, and may be left out.
    """
    data = model.spec["data"]
    formats = {"LIBSVM": _Libsvm, "LIBFFM": _Libffm, "CRITEO_TSV": _Criteo, "GENERATED": _Criteo, "CSV": _Csv}
    if data["format"] not in formats:
        raise DataError("%s: format %s is not read here: make rows by hand" % (path, data["format"]))
    if path.endswith(".zst"):
        raise DataError("%s: zstd is not read here: unpack it (zstd -d)" % path)
    features = list(model.id_features.values()) + list(model.numeric_features.values())
    reader = formats[data["format"]](data, features)
    with (gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb")) as f:
        number = 0
        try:
            for number, line in enumerate(_lines(f), 1):
                if not line and (number > 1 or not reader.header):
                    continue
                if number == 1 and reader.header:
                    reader.take_header(line)
                    continue
                if "\0" in line:
                    raise ValueError("a NUL byte")
                columns = reader.columns(line)
                yield {feature.name: _value(feature, columns) for feature in features}
        except ValueError as e:
            raise DataError("%s:%d: %s" % (path, number, e)) from None
        except (EOFError, gzip.BadGzipFile, zlib.error) as e:
            raise DataError("%s: %s" % (path, e)) from None
        if not number and reader.header:
            raise DataError("%s: is empty, without the header that names its columns" % path)


def _lines(f: BinaryIO) -> Iterator[str]:
    """Without line ends and byte order mark."""
    for i, line in enumerate(f):
        if i == 0 and line.startswith(_BOM):
            line = line[len(_BOM):]
        end = -2 if line.endswith(b"\r\n") else -1 if line.endswith((b"\n", b"\r")) else len(line)
        yield line[:end].decode("utf-8", "surrogateescape")


def _number(text: str) -> float:
    number = float(text) if _NUMBER.match(text) else math.nan
    if not math.isfinite(number):
        raise ValueError("%r is no number" % text)
    return number


def _value(feature: Any, columns: dict[str, Any]) -> Any:
    value = columns.get(feature.column)
    if isinstance(feature, IdFeature):
        return _id_value(feature, value)
    if isinstance(value, list):
        if len(value) > 1:
            raise ValueError("%s: %s is there twice" % (feature.name, feature.column))
        value = value[0] if value else None
    if isinstance(value, tuple):  # a token: index, value
        return value[1]
    return _number(value) if value else None


def _id_value(feature: IdFeature, value: Any) -> Any:
    if isinstance(value, tuple):
        value = [value]
    if isinstance(value, list):
        if len(value) > 1 and not feature.multi_valued:
            raise ValueError("%s: %s is there twice" % (feature.name, feature.column))
        return [number for _, number in value] if feature.bucket else value
    if feature.bucket:
        return _number(value) if value else None
    if value and feature.multi_valued:
        return [v for v in value.split(feature.separator) if v]
    return value


def _words(line: str) -> list[str]:
    """Those behind the line's label, which may be left out, without a comment."""
    words = [w for w in _SPACES.split(line) if w]
    end = next((i for i, word in enumerate(words) if word.startswith("#")), len(words))
    if end == 0:
        raise ValueError("no label")
    return words[0 if ":" in words[0] else 1:end]


class _Libsvm:
    header = False

    def __init__(self, data: dict, features: list):
        pass

    def columns(self, line: str) -> dict[str, Any]:
        tokens = [self._token(word) for word in _words(line)]
        columns: dict[str, Any] = {"#%d" % (i + 1): t for i, t in enumerate(tokens)}
        columns["*"] = tokens
        return columns

    @staticmethod
    def _token(word: str) -> tuple[str, float]:
        index, colon, number = word.partition(":")
        if not index or not _NUMBER.match(number):
            raise ValueError("%r is not index:value" % word)
        return index, _number(number)


class _Libffm:
    header = False

    def __init__(self, data: dict, features: list):
        pass

    def columns(self, line: str) -> dict[str, Any]:
        columns: dict[str, Any] = {"*": []}
        for word in _words(line):
            parts = word.split(":", 2)
            if len(parts) < 3 or not parts[0].isdecimal() or not parts[1] or not _NUMBER.match(parts[2]):
                raise ValueError("%r is not field:index:value" % word)
            token = (parts[1], _number(parts[2]))
            columns["*"].append(token)
            columns.setdefault("#%d" % int(parts[0]), []).append(token)
        return columns


class _Criteo:
    header = False

    def __init__(self, data: dict, features: list):
        pass

    def columns(self, line: str) -> dict[str, Any]:
        fields = line.split("\t")
        return _named(_CRITEO[1:] if len(fields) == len(_CRITEO) - 1 else _CRITEO, fields)


class _Csv:
    def __init__(self, data: dict, features: list):
        options = data.get("csv") or {}
        self.header: bool = options.get("header", True)
        self._delimiter: str = options.get("delimiter") or ","
        self._names: list[str] = list(options.get("column") or [])
        self._wanted = [f.column for f in features]
        if self._names and not self.header:
            self._check()

    def take_header(self, line: str) -> None:
        names = self._split(line)
        if self._names and names != self._names:
            raise ValueError("the header is %s, not %s" % (self._delimiter.join(names), self._delimiter.join(self._names)))
        self._names = names
        self._check()

    def columns(self, line: str) -> dict[str, Any]:
        return _named(self._names, self._split(line))

    def _check(self) -> None:
        absent = [c for c in self._wanted if c not in self._names]
        if absent:
            raise ValueError("no column %s; there are %s" % (", ".join(absent), ", ".join(self._names)))

    def _split(self, line: str) -> list[str]:
        """RFC 4180, without line breaks in a field."""
        if '"' not in line:
            return line.split(self._delimiter)
        fields: list[str] = []
        at = 0
        while True:
            if line.startswith('"', at):
                field, at = self._quoted(line, at + 1)
            else:
                end = line.find(self._delimiter, at)
                end = len(line) if end < 0 else end
                field, at = line[at:end], end
            fields.append(field)
            if at == len(line):
                return fields
            at += 1

    def _quoted(self, line: str, at: int) -> tuple[str, int]:
        """(field, where its delimiter is) of one whose text begins at `at`."""
        field = ""
        while True:
            quote = line.find('"', at)
            if quote < 0:
                raise ValueError("a quote is not closed (a field cannot hold a line break)")
            field += line[at:quote]
            at = quote + 1
            if not line.startswith('"', at):
                break
            field += '"'
            at += 1
        if at < len(line) and line[at] != self._delimiter:
            raise ValueError("text after a closing quote")
        return field, at


def _named(names: list[str], fields: list[str]) -> dict[str, Any]:
    if len(fields) != len(names):
        raise ValueError("%d columns, not %d" % (len(fields), len(names)))
    return dict(zip(names, fields))
