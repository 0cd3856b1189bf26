"""Fresh data for each seed of a table: splits, clean set and noise, by the table's own seed."""

from __future__ import annotations

from dataclasses import replace

import datasets
import numpy as np

from samacli.data.sources import make_opener
from samacli.data.table import Table, quiet_datasets
from samacli.errors import SamaError
from samacli.lab.table.description import Role, TableSpec
from samacli.recipe.schema import Data

# Of the training rows: held out to measure on, where development has no validation split.
_HELD_OUT = 0.2


def data_seed(table: TableSpec, seed: int) -> int:
    """What splits, subsets and noise of one of the table's seeds are drawn by.

    Development and reporting never draw the same, whatever their seeds.
    """
    assert table.draws is not None
    role = {"development": 0, "reporting": 1, None: 2}[table.role]
    sequence = np.random.SeedSequence([table.draws.seed, role, seed])
    return int(sequence.generate_state(1)[0])


def data_of_role(data: Data, role: Role | None) -> Data:
    """What a run of that role reads: in development no test split, but held-out rows in its place.

    Those of `data.validation` where the recipe has such, else a part of the training split.
    """
    if role != "development" or data.test is None or data.test == data.train:
        return data  # or held out of the training split, by a seed of its own
    if data.validation is not None and data.validation != data.meta:
        return data.model_copy(update={"test": data.validation, "validation": None})
    return data.model_copy(update={"test": data.train, "test_fraction": _HELD_OUT})


def splits_of(data: Data) -> dict[str, str]:
    """The splits that a recipe reads by name, each with the first role that it has."""
    roles: dict[str, str] = {}
    for role in ("train", "validation", "test"):
        if (name := getattr(data, role)) is not None:
            roles.setdefault(name, role)
    for name in data.metas:
        roles.setdefault(name, "meta")
    return roles


def dealt(data: Data, seed: int) -> dict[str, Table]:
    """The rows of all splits shuffled and dealt out anew, each split as large as it was.

    Raises:
        SamaError: the splits' columns differ, or the labels of training rows may be wrong and no
            column says which are: they cannot be test rows.
    """
    mend = "; or keep the splits as they are: draws.splits: false"
    with quiet_datasets():
        opened = make_opener(data)
        tables = {name: opened(name, f"data.{role}") for name, role in splits_of(data).items()}
        first = next(iter(tables.values()))
        named = data.columns.true_label or first.true_label
        if named is None and data.noise.kind == "none":
            raise SamaError(
                "draws.splits makes test rows of training rows, and the recipe does not say which "
                f"column has their true labels (data.columns.true_label){mend}"
            )
        for table in tables.values():
            if table.rows.features != first.rows.features or table.base != first.base:
                raise SamaError(
                    f"draws.splits deals rows out anew, and {table.origin} and {first.origin} have "
                    f"other columns or folders{mend}"
                )
        rows = datasets.concatenate_datasets([table.rows for table in tables.values()])
        order = np.random.default_rng([seed, 0xDEA1]).permutation(len(rows))
        ends = np.cumsum([len(table.rows) for table in tables.values()])[:-1]
        return {
            name: replace(table, rows=rows.select(part).flatten_indices())
            for (name, table), part in zip(tables.items(), np.split(order, ends), strict=True)
        }
