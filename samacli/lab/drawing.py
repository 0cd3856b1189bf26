"""One style for the laboratory's pictures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, told apart with any colour vision, and a marker each for print.
OURS = "#D55E00"
OTHERS = ("#0072B2", "#009E73", "#56B4E9", "#CC79A7", "#E69F00", "#000000", "#999999")
MARKERS = "osv^<>pX*"


def style(place: int) -> dict[str, Any]:
    """Colour and marker of the method at that place among those that aren't ours."""
    return {"color": OTHERS[place % len(OTHERS)], "marker": MARKERS[place % len(MARKERS)]}


@contextlib.contextmanager
def drawing(
    file: Path, rows: int, columns: int, size: tuple[float, float], **settings: Any
) -> Iterator[tuple[Any, Any]]:
    """matplotlib's figure and axes (rows, columns), a PNG when the block ends well.

    size: of the whole in inches.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        rows, columns, figsize=size, squeeze=False, layout="constrained", **settings
    )
    try:
        yield figure, axes
        figure.savefig(file, dpi=130, format="png")
    finally:
        pyplot.close(figure)


def framed(axis: Axes, title: str | None = None, grid: str = "both") -> None:
    """grid: its direction."""
    if title is not None:
        axis.set_title(title, fontsize="medium")
    axis.grid(axis=grid, alpha=0.3)  # type: ignore[arg-type]
    axis.spines[["top", "right"]].set_visible(False)
