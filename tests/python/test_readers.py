"""Rows of files, as Tidegate's readers see them; what those refuse is refused here."""

import gzip
from types import SimpleNamespace

import pytest

np = pytest.importorskip("numpy", reason="numpy is not installed")

from tidegate import DataError, read_rows  # noqa: E402
from tidegate.export import Export  # noqa: E402
from tidegate.features import IdFeature, NumericFeature  # noqa: E402


def model(form, csv=None, **columns):
    """Features user (an id), tags (several values), x (a number)."""
    ids = {"user": {}, "tags": {"multi_valued": True}}
    ids = {n: IdFeature({"name": n, "column": columns.get(n, n), "table": "t", "salt": n, "id": o}) for n, o in ids.items()}
    x = NumericFeature({"name": "x", "column": columns.get("x", "x"), "numeric": {"transform": "NONE", "missing_value": 0}})
    return SimpleNamespace(spec={"data": dict({"format": form}, **({"csv": csv} if csv else {}))}, id_features=ids, numeric_features={"x": x})


def write(tmp_path, text, name="rows"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


GOOD = [{"user": "u,1", "tags": ["a", "b"], "x": 2.5}, {"user": "", "tags": [], "x": None}]


@pytest.mark.parametrize("text", [
    'user,tags,x,label\n"u,1",a|b,2.5,1\n,,,0\n',
    '\ufeffuser,tags,x,label\r\n"u,1",a||b|,+2.5e0,1\r\n\r\n,,,0',
    '\n'.join(['label,x,"user",tags', '', '1,2.5,"u,1",a|b', '', '', '0,,,', '']),
], ids=["plain", "bom-crlf-blank", "other-order-blank"])
def test_a_csv_file_gives_a_row_per_line_by_its_header(tmp_path, text):
    rows = list(read_rows(model("CSV"), write(tmp_path, text)))
    assert [dict(r, tags=r["tags"] or []) for r in rows] == GOOD


def test_a_file_without_header_by_the_columns_of_the_job(tmp_path):
    csv = {"header": False, "delimiter": "\t", "column": ["user", "tags", "x"]}
    assert list(read_rows(model("CSV", csv), write(tmp_path, '\ufeffu"1\ta\t3\n'))) == [{"user": 'u"1', "tags": ["a"], "x": 3.0}]


@pytest.mark.parametrize("text,line,words", [
    ("user;tags;x\nu;a;1\n", 1, "no column user, tags, x; there are user;tags;x"),
    ("user,x\nu,1\n", 1, "no column tags"),
    ("user,tags,x\nu,a,1\nu,a\n", 3, "2 columns, not 3"),
    ("user,tags,x\n\nu,a,1,2\n", 3, "4 columns, not 3"),
    ("user,tags,x\nu,a,many\n", 2, "'many' is no number"),
    ("user,tags,x\nu,a,nan\n", 2, "'nan' is no number"),
    ("user,tags,x\nu,a,1_0\n", 2, "'1_0' is no number"),
    ('user,tags,x\n"u,a,1\n', 2, "a quote is not closed"),
    ('user,tags,x\n"u"v,a,1\n', 2, "text after a closing quote"),
    ("user,tags,x\nu\0,a,1\n", 2, "a NUL byte"),
])
def test_a_csv_line_that_is_none_is_refused_by_file_and_line(tmp_path, text, line, words):
    path = write(tmp_path, text)
    with pytest.raises(DataError) as error:
        list(read_rows(model("CSV"), path))
    assert str(error.value).startswith("%s:%d: " % (path, line)) and words in str(error.value)


def test_a_header_other_than_the_jobs_columns_is_refused(tmp_path):
    csv = {"header": True, "column": ["user", "tags", "x"]}
    with pytest.raises(DataError, match=":1: the header is tags,user,x, not user,tags,x"):
        list(read_rows(model("CSV", csv), write(tmp_path, "tags,user,x\na,u,1\n")))


def test_compressed_files(tmp_path):
    text = b"user,tags,x\nu,a,1\n" * 1
    assert len(list(read_rows(model("CSV"), write(tmp_path, gzip.compress(text), "rows.gz")))) == 1
    for content in (gzip.compress(text)[:-9], text):
        with pytest.raises(DataError, match="rows.gz: "):
            list(read_rows(model("CSV"), write(tmp_path, content, "rows.gz")))
    with pytest.raises(DataError, match="rows.zst: .*zstd -d"):
        list(read_rows(model("CSV"), write(tmp_path, text, "rows.zst")))
    with pytest.raises(DataError, match="is empty"):
        list(read_rows(model("CSV"), write(tmp_path, "")))


def test_tokens_of_libsvm_and_libffm(tmp_path):
    svm = model("LIBSVM", user="#1", tags="*", x="#2")
    assert list(read_rows(svm, write(tmp_path, "1\t7:1  8:.5 # c\n\n-1\n"))) == [
        {"user": [("7", 1.0)], "tags": [("7", 1.0), ("8", 0.5)], "x": 0.5}, {"user": None, "tags": [], "x": None}]
    ffm = model("LIBFFM", user="#0", tags="#3", x="#1")
    assert list(read_rows(ffm, write(tmp_path, "1 00:7:1 3:8:1 3:9:1 1:0:4\n"))) == [
        {"user": [("7", 1.0)], "tags": [("8", 1.0), ("9", 1.0)], "x": 4.0}]


@pytest.mark.parametrize("form,line,columns,row", [
    ("LIBSVM", " 7:1 8:2", dict(user="#1", tags="*", x="#2"), {"user": [("7", 1.0)], "tags": [("7", 1.0), ("8", 2.0)], "x": 2.0}),
    ("LIBFFM", " 0:7:1 1:0:4", dict(user="#0", tags="#3", x="#1"), {"user": [("7", 1.0)], "tags": None, "x": 4.0}),
    ("CRITEO_TSV", "\t3" + "\t" * 12 + "\ta\tb" + "\t" * 24, dict(user="C1", tags="C2", x="I1"), {"user": "a", "tags": ["b"], "x": 3.0}),
])
def test_labels_may_be_left_out(tmp_path, form, line, columns, row):
    path = write(tmp_path, "any%s\n%s\n" % (line, line[1:]))
    assert list(read_rows(model(form, **columns), path)) == [row, row]


@pytest.mark.parametrize("form,text,words", [
    ("LIBSVM", "1 7:1 8\n", "'8' is not index:value"), ("LIBSVM", "# c\n", "no label"),
    ("LIBSVM", "1 :1\n", "':1' is not index:value"), ("LIBFFM", "1 7:1\n", "'7:1' is not field:index:value"),
    ("LIBFFM", "1 0:7:1 0:8:1\n", "user: #0 is there twice"), ("LIBFFM", "1 1:7:1 1:8:1\n", "x: #1 is there twice"),
    ("CRITEO_TSV", "1\t2\t3\n", "3 columns, not 40"),
])
def test_tokens_that_are_none_are_refused_by_file_and_line(tmp_path, form, text, words):
    columns = dict(user="#0", tags="#3", x="#1") if form == "LIBFFM" else dict(user="C1", tags="C2", x="I1")
    path = write(tmp_path, text)
    with pytest.raises(DataError) as error:
        list(read_rows(model(form, **columns), path))
    assert str(error.value) == "%s:1: %s" % (path, words)


@pytest.mark.parametrize("columns,error,words", [
    ({"campaign": "c001"}, TypeError, "'c001' is no list of values"),
    ({"user": ["a", "b"], "x": 3.5}, TypeError, "3.5 is no list of values"),
    ({"user": ["a", "b"], "x": [1]}, ValueError, "user has 2, x has 1"),
])
def test_one_row_or_uneven_columns_given_as_columns_are_refused(columns, error, words):
    with pytest.raises(error, match=words):
        Export.score(model("CSV"), columns)
