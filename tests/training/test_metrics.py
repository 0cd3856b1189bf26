from __future__ import annotations

import numpy as np
from sklearn.metrics import classification_report

from samacli.training.metrics import evaluate, noise_detection


def test_the_class_table_is_scikit_learns_report() -> None:
    generator = np.random.default_rng(0)
    labels, predictions = generator.integers(0, 3, (2, 200))
    names = ["a", "b", "c"]
    report = classification_report(labels, predictions, target_names=names, output_dict=True)
    ours = evaluate(labels, predictions, names)
    assert ours.accuracy == report["accuracy"]
    assert ours.macro_f1 == report["macro avg"]["f1-score"]
    for row in ours.classes:
        assert (row.precision, row.recall, row.f1, row.support) == (
            report[row.name]["precision"],
            report[row.name]["recall"],
            report[row.name]["f1-score"],
            report[row.name]["support"],
        )


def test_noise_detection_ranks_by_low_weight_and_leaves_out_what_has_no_label() -> None:
    given = np.array([0, 0, 1, 1, -1])
    true = np.array([0, 1, 1, 0, 0])
    perfect = noise_detection(given, true, np.array([2.0, 0.1, 1.5, 0.2, 0.0]))
    assert perfect == {"noise_rate": 0.5, "average_precision": 1.0, "auroc": 1.0}
    assert noise_detection(true, true, np.ones(5)) is None
