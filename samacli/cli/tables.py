"""Tables of results."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from samacli.training.metrics import Evaluation
from samacli.workflows.results import Method, mean_and_spread


def shown(values: list[float]) -> str:
    """`0.812 ± 0.010` over seeds, or one value, or a dash."""
    if not values:
        return "–"
    mean, spread = mean_and_spread(values)
    return f"{mean:.3f}" if spread is None else f"{mean:.3f} ± {spread:.3f}"


def methods_table(title: str, methods: Mapping[str, Method]) -> Table:
    """Test accuracy and macro-F1 of each method: mean ± standard deviation over the seeds."""
    table = Table(title=title, title_justify="left")
    table.add_column("training")
    for name in ("accuracy", "macro-F1", "seconds", "samples/s"):
        table.add_column(name, justify="right")
    for name, method in methods.items():
        table.add_row(
            name,
            shown(method.accuracy),
            shown(method.macro_f1),
            f"{mean_and_spread(method.seconds)[0]:,.0f}",
            f"{mean_and_spread(method.samples_per_second)[0]:,.0f}",
            style="bold" if name.startswith("sama") and "-na" not in name else None,
        )
    return table


def classes_table(evaluation: Evaluation) -> Table:
    """Precision, recall and F1 of each class."""
    table = Table(title="by class", title_justify="left")
    table.add_column("class")
    for name in ("precision", "recall", "F1", "examples"):
        table.add_column(name, justify="right")
    for row in evaluation.classes:
        table.add_row(
            row.name,
            f"{row.precision:.3f}",
            f"{row.recall:.3f}",
            f"{row.f1:.3f}",
            f"{row.support:,}",
        )
    return table


def noise_sentence(noise: Mapping[str, float]) -> str:
    """What the detection of wrong labels is worth, beside chance."""
    return (
        f"wrong labels found by low weight: average precision {noise['average_precision']:.3f} "
        f"(chance {noise['noise_rate']:.3f}), AUROC {noise['auroc']:.3f}"
    )
