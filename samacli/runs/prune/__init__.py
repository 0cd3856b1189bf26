"""`sama prune`: keep the part of the data that training needs."""

from samacli.runs.prune.run import PruneResult, prune

__all__ = ["PruneResult", "prune"]
