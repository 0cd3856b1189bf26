"""`sama prune`: keep the part of the data that training needs."""

from samacli.workflows.prune.run import PruneResult, prune

__all__ = ["PruneResult", "prune"]
