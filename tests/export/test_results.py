"""What metrics.json says of a method, written and read."""

from __future__ import annotations

import json

import numpy as np
import pytest

from samacli.export.results import Results
from samacli.report.trainings import Training


def test_a_method_reads_back_as_it_was_written() -> None:
    method = Results(
        accuracy=[0.5, 0.75],
        macro_f1=[0.4, 0.7],
        seconds=[1.0, 2.0],
        samples_per_second=[3.0, 4.0],
        peak_memory_bytes=[5, 6],
        noise=[{"average_precision": 0.9, "auroc": 0.8}, {"average_precision": 0.7, "auroc": 0.6}],
        recall=[{"ham": 1.0, "spam": 0.0}, {"ham": 0.5, "spam": 0.25}],
        paired_errors={"sama": 0.01},
    )
    assert Results.from_dict(json.loads(json.dumps(method.as_dict()))) == method
    bare = Results(seconds=[1.0], samples_per_second=[2.0], peak_memory_bytes=[3])
    assert Results.from_dict(json.loads(json.dumps(bare.as_dict()))) == bare


def test_each_of_ours_is_compared_on_the_rows_that_it_and_the_other_got_right() -> None:
    """The model errs on the rows that the other errs on, the export on others as many."""
    other, apart = np.arange(400) % 10 > 0, np.arange(400) % 10 < 9
    ours = {
        name: Training(accuracy=[0.9, 0.9], right=[right, right], method=name)
        for name, right in (("sama", other), ("export", apart))
    }
    noisy = Training(accuracy=[0.9, 0.9], right=[other, other], method="noisy")
    noisy.compare(ours)
    model, export = (one.lead_over(noisy, 400) for one in ours.values())
    assert model is not None
    assert export is not None
    # Of each row's difference: 0 of all, and ±1 of a tenth each.
    assert model.difference.rows_error == pytest.approx(1.8 / 400)
    assert export.difference.rows_error == pytest.approx((0.2 / 399) ** 0.5)
