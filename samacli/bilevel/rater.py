"""A fitted slope function kept for rows that were never trained on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from samacli.bilevel.features import Evidence, feature_count, feature_matrix
from samacli.bilevel.reweighter import Reweighter
from samacli.bilevel.slopes import Projection, SlopeRegression
from samacli.errors import SamaError

ARRAYS_FILE, FACTS_FILE = "rater.safetensors", "rater.json"

# What a trained and a pretrained model say of any row.
_OF_ANY_ROW = frozenset({"loss", "margin", "entropy", "prediction", "representation", "label"})
_STATE = ("beta", "intercept", "deviation", "fitted", "mass", "shares")


@dataclass(frozen=True)
class Rater:
    """Slopes and weights of rows, from a trained model's logits and a pretrained representation.

    features: names of the evidence's, in order. classes: how many. arrays: the regression's state,
    and `basis` and `offset` of the representation's projection where it is among the features.
    """

    features: list[str]
    classes: int
    arrays: dict[str, np.ndarray]

    @classmethod
    def of(cls, reweighter: Reweighter, projection: Projection | None) -> Rater | None:
        """Of a run's; None without a fit, or where it looks at what only training rows have."""
        slopes = reweighter.slopes
        if slopes is None or not slopes.fitted or not _OF_ANY_ROW.issuperset(reweighter.features):
            return None
        state = {name: value for name, value in slopes.state_dict().items() if name in _STATE}
        if projection is not None:
            state |= {"basis": projection.basis, "offset": projection.offset}
        arrays = {name: value.cpu().numpy() for name, value in state.items()}
        return cls(list(reweighter.features), reweighter.classes, arrays)

    @property
    def sees_representation(self) -> bool:
        """Whether `rate` is to be given the pretrained model's."""
        return "basis" in self.arrays

    @torch.no_grad()
    def rate(
        self, logits: Tensor, labels: Tensor, representation: Tensor | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(slopes, weights) float32 (n,), NaN for rows without a label.

        logits: (n, classes) of the trained model. labels: (n,), −1 for none. representation:
        (n, f), of the pretrained model. Slopes are in units of a meta step's root mean square;
        positive: training on the row lowers the clean loss. Weights are not of mean 1.
        """
        arrays = {name: torch.from_numpy(value) for name, value in self.arrays.items()}
        table = None
        if representation is not None and self.sees_representation:
            projection = Projection(arrays.pop("basis"), arrays.pop("offset"))
            table = projection(representation.float().cpu())
        state = {name: value for name, value in arrays.items() if name in _STATE}
        labels = labels.cpu()
        evidence = Evidence(logits.float().cpu(), labels, representation=table)
        widths = {"representation": 0 if table is None else table.shape[1]}
        width = feature_count(self.features, self.classes, widths)
        slopes = SlopeRegression(width, self.classes, state.get("shares"))
        slopes.load_state_dict(state, strict=False)
        x = feature_matrix(evidence, self.features)
        told = labels >= 0
        found, weights = slopes.predict(x, labels), slopes(x, labels)
        return tuple(  # type: ignore[return-value]
            torch.where(told, values, torch.nan).float().numpy() for values in (found, weights)
        )

    def save(self, folder: Path, **facts: object) -> None:
        """Write `rater.safetensors`, and `rater.json` with `facts` (of JSON's types) besides."""
        folder.mkdir(parents=True)
        arrays = {name: np.ascontiguousarray(value) for name, value in self.arrays.items()}
        save_file(arrays, folder / ARRAYS_FILE)
        known = {"features": self.features, "classes": self.classes, **facts}
        (folder / FACTS_FILE).write_text(
            json.dumps(known, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )

    @classmethod
    def load(cls, folder: Path) -> tuple[Rater, dict[str, object]]:
        """What `save` wrote, and its facts.

        Raises:
            SamaError: there is none, or it cannot be read.
        """
        try:
            facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
            arrays = load_file(folder / ARRAYS_FILE)
            return cls(list(facts["features"]), int(facts["classes"]), arrays), facts
        except FileNotFoundError:
            raise SamaError(
                f"'{folder}' is no rater; a run writes one to RUN/rater where weights are fitted "
                "to slopes (meta.reweighter=amortised) from what any row has"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise SamaError(f"'{folder}' cannot be read as a rater: {error}") from error
