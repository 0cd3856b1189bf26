"""Labels of every kind become the same classes in the same order."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samacli.data.labels import class_ids, class_order, label_names, settle_minus_one
from samacli.data.table import Table
from samacli.errors import SamaError


def names(values, feature=None, declared=None):
    features = None if feature is None else datasets.Features({"label": feature})
    rows = datasets.Dataset.from_dict({"label": values}, features=features)
    return label_names(Table(rows, "rows"), "label", declared)


def classes(values, feature=None):
    return class_order(names(values, feature), None)


def test_numbers_are_ordered_by_value():
    assert classes([10, 2, 1, 2]) == ["1", "2", "10"]


def test_numbers_written_as_text_are_ordered_by_value():
    assert classes(["10", "2", "1"]) == ["1", "2", "10"]


def test_text_is_ordered_as_text():
    assert classes(["sport", "business", "10"]) == ["10", "business", "sport"]


def test_booleans():
    assert classes([True, False, True]) == ["False", "True"]


def test_whole_floats_are_numbers():
    assert names([1.0, float("nan"), 3.0, None]).tolist() == ["1", None, "3", None]


def test_a_broken_float_is_refused_with_its_row():
    with pytest.raises(SamaError, match=r"label 2\.5 in row 1 \(counted from 0\)"):
        names([1.0, 2.5])


def test_class_labels_keep_their_own_order():
    feature = datasets.ClassLabel(names=["zebra", "ant"])
    assert names([0, 1, -1, None], feature).tolist() == ["zebra", "ant", None, None]
    assert class_order(names([1], feature), feature.names) == ["zebra", "ant"]


def test_numbers_without_a_label():
    assert names([0, -1, 2]).tolist() == ["0", "-1", "2"]
    assert names([0, None, 2]).tolist() == ["0", None, "2"]


def settled(values, meaning="ask", clean=None):
    rows = datasets.Dataset.from_dict({"label": values})
    table = Table(rows, "rows")
    found = label_names(table, "label", None)
    return settle_minus_one(found, table, "label", meaning, clean).tolist()


def test_minus_one_is_a_class_where_nothing_else_can_be_meant():
    assert settled([-1, 1, 1]) == ["-1", "1", "1"]
    assert settled([-1, 0, -1]) == ["-1", "0", "-1"]
    assert settled([-2, -1, 0, 1, 2]) == ["-2", "-1", "0", "1", "2"]
    assert settled(["-1", "0", "1"]) == ["-1", "0", "1"]
    assert settled([-1, 0, 1], clean={"-1", "0", "1"}) == ["-1", "0", "1"]


@pytest.mark.parametrize("values", [[-1, 0, 1], [0.0, 1.0, -1.0], [-1, 1, 2, 3]])
def test_minus_one_beside_other_numbers_is_asked_about(values):
    with pytest.raises(SamaError, match=r"has −1 in 1 of \d rows, beside .*data\.minus_one=none"):
        settled(values)
    whole = [str(int(value)) for value in values]
    assert settled(values, "class") == whole
    assert settled(values, "none") == [None if name == "-1" else name for name in whole]


def test_empty_text_is_no_label():
    assert names(["a", "", "  ", None]).tolist() == ["a", None, None, None]


def test_numbers_index_declared_names():
    assert names([1, 0], declared=["x", "y"]).tolist() == ["y", "x"]
    with pytest.raises(SamaError, match=r"label 2 in row 1 .* only 2 classes are named"):
        names([1, 2], declared=["x", "y"])


def test_a_list_is_no_label():
    with pytest.raises(
        SamaError, match=r"column 'label' of rows holds list<.*>, which is no label"
    ):
        names([["a"], ["b"]])


@given(st.lists(st.one_of(st.none(), st.integers(0, 50)), min_size=1, max_size=40))
def test_ids_name_what_was_there(values):
    found = names(values, datasets.Value("int64"))
    order = class_order(found, None)
    ids = class_ids(found, order)
    assert [None if i < 0 else int(order[i]) for i in ids] == values
    assert order == [str(v) for v in sorted({v for v in values if v is not None})]


def test_row_selection_is_followed():
    rows = datasets.Dataset.from_dict({"label": ["a", "b", "c", "d"]}).select([3, 1])
    assert label_names(Table(rows, "rows"), "label", None).tolist() == ["d", "b"]


def test_many_chunks():
    parts = [datasets.Dataset.from_dict({"label": [f"c{i % 3}"] * 5}) for i in range(20)]
    rows = datasets.concatenate_datasets(parts)
    found = label_names(Table(rows, "rows"), "label", None)
    assert np.array_equal(found, np.repeat([f"c{i % 3}" for i in range(20)], 5))
