"""What metrics.json says of a method, written and read."""

from __future__ import annotations

import json

from samacli.export.results import Results


def test_a_method_reads_back_as_it_was_written() -> None:
    method = Results(
        accuracy=[0.5, 0.75],
        macro_f1=[0.4, 0.7],
        seconds=[1.0, 2.0],
        samples_per_second=[3.0, 4.0],
        peak_memory_bytes=[5, 6],
        noise=[{"average_precision": 0.9, "auroc": 0.8}, {"average_precision": 0.7, "auroc": 0.6}],
        recall=[{"ham": 1.0, "spam": 0.0}, {"ham": 0.5, "spam": 0.25}],
    )
    assert Results.from_dict(json.loads(json.dumps(method.as_dict()))) == method
    bare = Results(seconds=[1.0], samples_per_second=[2.0], peak_memory_bytes=[3])
    assert Results.from_dict(json.loads(json.dumps(bare.as_dict()))) == bare
