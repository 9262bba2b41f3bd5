"""Values to keys and numbers, by feature configs as spec.json has them."""

import pytest

np = pytest.importorskip("numpy", reason="numpy is not installed")

from tidegate.export import Export  # noqa: E402
from tidegate.features import IdFeature, NumericFeature, log2_bucket  # noqa: E402
from tidegate.tables import SparseTable  # noqa: E402
from tidegate.xxh3 import feature_key, missing_key, out_of_vocabulary_key  # noqa: E402


def feature(**options):
    return IdFeature({"name": "f", "column": "f", "table": "t", "salt": "f", "id": options})


def test_a_value_that_is_missing_has_a_key_of_its_own_or_none():
    samples, keys, weights = feature().columns(["a", None, ""])
    assert keys.tolist() == [feature_key("f", "a"), missing_key("f"), missing_key("f")]
    samples, keys, weights = feature(missing="SKIP").columns([None, "a", []])
    assert samples.tolist() == [1] and keys.tolist() == [feature_key("f", "a")]


def test_values_and_weights_keep_their_order_and_are_cut():
    pairs = [("a", 2.0), ("b", 3.0), ("c", 4.0)]
    keys, weights = feature(use_values=True, multi_valued=True).sample(pairs)
    assert keys == [feature_key("f", v) for v in "abc"] and weights == [2, 3, 4]
    assert feature(multi_valued=True, max_values=2).sample(["a", "b", "c"])[0] == [feature_key("f", v) for v in "ab"]
    assert feature(multi_valued=True, max_values=2, overlong="KEEP_LAST").sample(["a", "b", "c"])[0] == [feature_key("f", v) for v in "bc"]
    with pytest.raises(ValueError, match="3 values, at most 2"):
        feature(multi_valued=True, max_values=2, overlong="REFUSE").sample(["a", "b", "c"])


def test_nan_is_missing_as_in_files():
    for nan in (float("nan"), np.float32("nan"), np.float64("nan")):
        assert feature().sample(nan) == ([missing_key("f")], [1.0])
        assert feature().key(nan) == missing_key("f")
        assert feature(multi_valued=True, missing="SKIP").sample([nan, None, ""]) == ([], [])
        config = {"name": "n", "numeric": {"transform": "NONE", "missing_value": 7}}
        assert NumericFeature(config).columns([nan, 2]).tolist() == [7, 2]
    with pytest.raises(ValueError, match='"n": inf is no finite number'):
        NumericFeature(config).columns([float("inf")])


def test_a_text_of_several_values_is_split_or_refused_never_one_key():
    tags = {"name": "tags", "table": "t", "salt": "f", "id": {"multi_valued": True, "separator": ";"}}
    assert IdFeature(tags).sample("a;;b")[0] == [feature_key("f", v) for v in "ab"]
    assert IdFeature(tags).sample(b"a;b")[0] == [feature_key("f", v) for v in "ab"]
    assert IdFeature(tags, splits=False).sample(["a;b"])[0] == [feature_key("f", "a;b")]
    with pytest.raises(TypeError, match=r"\"tags\" has several values a sample: give a list, \['a;b'\]"):
        IdFeature(tags, splits=False).sample("a;b")
    with pytest.raises(TypeError, match="one value a sample"):
        feature().sample(["a", "b"])


def test_an_integer_is_its_decimal_text_and_a_float_is_no_id():
    assert feature().key(17) == feature_key("f", "17") == feature().key(np.int64(17))
    with pytest.raises(TypeError):
        feature().key(1.5)


def test_buckets_of_the_recipe():
    assert [log2_bucket(x) for x in (-3, 0, 1.5, 2, 3, 100)] == ["SP-3", "SP0", "SP1", "SP2", "1", "21"]


def test_numbers_are_transformed_and_missing_ones_filled():
    config = {"name": "n", "numeric": {"transform": "LOG1P", "missing_value": -1}}
    assert NumericFeature(config).columns([0, None, "", -1.5]).tolist() == pytest.approx([0, -1, -1, -np.log1p(1.5)])


def table(**options):
    spec = {"name": "t", "seed": "1", "unadmitted": "FEATURE_OOV", "parts": [{"name": "v", "dim": 2, "dtype": "FLOAT32"}], **options}
    return SparseTable(spec, {"t.keys": np.array([3, 7], np.uint64), "t.v": np.array([[1, 2], [3, 4]], np.float32)})


def test_keys_that_are_not_admitted_have_the_out_of_vocabulary_row():
    oov, admitted = table(admission={"after": 10}), table()
    assert oov.rows([3, 5, 7], "v", 7).tolist() == [[1, 2], [3, 4], [3, 4]]
    assert oov.rows([3, 5], "v", 8).tolist() == [[1, 2], [0, 0]]
    assert np.isnan(oov.rows([3, 5], "v")).tolist() == [[False, False], [True, True]]
    assert admitted.rows([3, 5], "v", 7).tolist() == [[1, 2], [0, 0]]  # its initialiser
    assert feature().oov_key == out_of_vocabulary_key("f")
    assert feature(hash_buckets=9).oov_key == out_of_vocabulary_key("f") % 9


def named(**columns):
    """An export that has only its features: user, item (ids) and price (a number); columns of other names."""
    export = Export.__new__(Export)
    export.id_features = {n: IdFeature({"name": n, "column": columns.get(n, n), "table": "t", "salt": n}) for n in ("user", "item")}
    export.numeric_features = {"price": NumericFeature({"name": "price", "numeric": {"transform": "NONE", "missing_value": 0}})}
    return export


@pytest.mark.parametrize("names", [set(), {"user"}, {"user", "item", "price", "clicked", "user_2", "prize"}, {"user", "price", "day", None},
                                   {"user", "item", "price", "user id"}])
def test_other_columns_of_a_file_are_passed_over(names):
    named(user="user id")._check_names(names)


@pytest.mark.parametrize("names,words", [
    ({"user", "itm"}, r'no feature "itm" \(did you mean "item"\?\); the model has user, item, price'),
    ({"user", "Item"}, 'did you mean "item"'),
    ({"day", "hour"}, "no feature of the model in .*; it has user, item, price"),
    ({"user id", "item"}, 'no feature "user id": it is the column of feature "user"'),
])
def test_a_name_that_would_leave_a_feature_missing_by_mistake_is_refused(names, words):
    with pytest.raises(KeyError, match=words):
        named(user="user id")._check_names(names)


@pytest.mark.parametrize("value", ["cheap", "nan", "inf", [1.0], {}])
def test_a_number_that_is_none_is_refused_by_row_and_feature(value):
    number = NumericFeature({"name": "price", "numeric": {"transform": "NONE", "missing_value": 0}})
    bucket = IdFeature({"name": "price", "table": "t", "salt": "p", "numeric": {"transform": "LOG2_BUCKET"}})
    for f in (number, bucket) if isinstance(value, str) else (number,):
        with pytest.raises(ValueError, match=r'rows\[4097\]: feature "price": .* is no finite number'):
            f.columns(["3.5", value], first=4096)
    assert number.columns(["3.5"]).tolist() == [3.5]
    with pytest.raises(TypeError, match=r'rows\[1\]: feature "f": an id is a text or an integer, not 3.5'):
        feature().columns(["a", 3.5])
