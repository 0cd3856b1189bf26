"""How the clean set is used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from samacli.errors import SamaError
from samacli.recipe import load_recipe
from samacli.training.meta_level import MetaLevel
from samacli.workflows import experiment as module
from samacli.workflows.experiment import Experiment
from tests.conftest import WORDS, write_csv


@pytest.mark.parametrize("balanced", [True, False])
def test_meta_batches_have_as_many_of_each_class_if_asked(
    texts: dict[str, Path], tiny_bert: Path, balanced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clean set has 40 of one class and 5 of each other."""
    names = list(WORDS)
    rows = [(WORDS[name][i % 6], name) for name in names for i in range(40)]
    rows = [row for i, row in enumerate(rows) if row[1] == names[0] or i % 8 == 0]
    write_csv(texts["clean"], rows)
    recipe = load_recipe(
        None,
        ["training.steps=4", "training.precision=fp32", "meta.batch_size=12", "meta.warmup=0"],
        {
            "meta.class_balanced": balanced,
            "data.train": str(texts["noisy"]),
            "data.meta": str(texts["clean"]),
            "model.name": str(tiny_bert),
        },
    )
    experiment = Experiment.prepare(recipe, device="cpu")
    seen = []

    class Watched(MetaLevel):
        def __init__(self, *arguments: object, batches: object, **options: object) -> None:
            def watched():  # type: ignore[no-untyped-def]
                for batch in batches:  # type: ignore[attr-defined]
                    seen.append(np.bincount(batch["labels"].numpy(), minlength=3))
                    yield batch

            super().__init__(*arguments, batches=watched(), **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "MetaLevel", Watched)
    experiment.fit_sama(0, "sama", features=["loss"])
    assert len(seen) > 1
    assert all((counts == 4).all() for counts in seen) == balanced


def test_an_unknown_key_of_the_meta_level_is_still_refused() -> None:
    with pytest.raises(SamaError, match=r"did you mean 'meta\.class_balanced'"):
        load_recipe(None, ["meta.classbalanced=true"])
