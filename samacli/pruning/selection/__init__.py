"""From scores to the rows that are kept: one selection a file.

A selection is a function of scores (n,) and of how many rows to keep,

    select(scores, count, …) -> int64 (count,), row numbers in input order,

and the selections that need more (labels, groups of near-duplicates) take another selection to
apply within. Ties go to the earlier row. A row without a score (NaN: training never visited it)
ranks after all rows that have one, whichever end is kept: it is only taken when those run out, and
never by a threshold, which is the one selection that takes a score in place of a count.

`samacli.pruning.selection.large` does the same for score files that do not fit into memory.
"""

from samacli.pruning.selection.by_class import (
    class_quotas,
    keep_by_class,
    keep_highest_by_class,
    lost_classes,
)
from samacli.pruning.selection.copies import copies_last, near_duplicate_groups
from samacli.pruning.selection.count import keep_count
from samacli.pruning.selection.coverage import keep_covering, stratum_budgets
from samacli.pruning.selection.random import keep_random
from samacli.pruning.selection.ranked import Select, keep_highest, keep_lowest
from samacli.pruning.selection.threshold import keep_above, keep_below

__all__ = [
    "Select",
    "class_quotas",
    "copies_last",
    "keep_above",
    "keep_below",
    "keep_by_class",
    "keep_count",
    "keep_covering",
    "keep_highest",
    "keep_highest_by_class",
    "keep_lowest",
    "keep_random",
    "lost_classes",
    "near_duplicate_groups",
    "stratum_budgets",
]
