"""Tables of results as they are shown."""

from __future__ import annotations

import io
from typing import get_args

from rich.console import Console

from samacli.cli.tables import methods_table, rare_class_sentence
from samacli.export.results import Results
from samacli.recipe.schema import ReweightBaseline


def text(methods: dict[str, Results]) -> str:
    file = io.StringIO()
    Console(width=80, file=file).print(methods_table("results", methods))
    return file.getvalue()


def method(*average_precisions: float) -> Results:
    found = [{"noise_rate": 0.2, "average_precision": a, "auroc": 0.5} for a in average_precisions]
    return Results([0.75], [0.5], [3.0], [10.0], [100], noise=found)


def test_finding_wrong_labels_is_a_column_where_a_method_does() -> None:
    shown = text({"noisy": method(), "sama": method(0.25, 0.75)})
    assert "noise AP" in shown
    (noisy,) = (line for line in shown.splitlines() if "noisy" in line)
    assert noisy.count("–") == 3  # its rows seen are not told here
    (sama,) = (line for line in shown.splitlines() if "sama" in line)
    assert "0.500 ± 0.354" in sama
    assert "noise AP" not in text({"noisy": method()})


def test_names_are_whole_in_a_narrow_terminal() -> None:
    shown = text({name: method(0.25) for name in get_args(ReweightBaseline)})
    for name in get_args(ReweightBaseline):
        assert name in shown


def test_the_rarest_class_is_told_where_a_class_is_rare() -> None:
    tested = Results(recall=[{"few": 0.25, "many": 0.9}, {"few": 0.75, "many": 0.9}])
    said = rare_class_sentence({"many": 30, "few": 3, "none": 0}, {"sama": tested})
    assert said == "recall of the rarest class, few (3 of 33 training rows): sama 0.500 ± 0.354"
    assert rare_class_sentence({"many": 30, "few": 4}, {"sama": tested}) is None
    assert rare_class_sentence({"many": 30, "few": 3}, {"sama": Results()}) is None
