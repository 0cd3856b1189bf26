"""scikit-learn's folds on data as they come."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def few_members_are_fine() -> Iterator[None]:
    """Without the warning that a class has fewer rows than there are folds."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        yield
