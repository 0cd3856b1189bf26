"""`sama why`: which clean rows a training row helps and hurts, and whom a clean row suffers from.

At the trained model θ, with u(g) the step that the optimiser takes for a batch gradient g,
    e_ij = ⟨∇ℓ_j, (∂u/∂g)·∇ℓ_i⟩ / n
is what clean row j's loss falls by, to first order, where training row i stands in the next batch
of n at weight 1: the slope that SAMA's meta gradient is made of (Choe et al. 2023), row by row. One
backward pass gives the one row's gradient, a forward-mode pass its product with all the others'.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from samacli.data import Encoded, Split
from samacli.errors import SamaError
from samacli.export.escape import one_line
from samacli.meta.adaptation import adapt
from samacli.methods.export import clean_weights
from samacli.progress import Progress
from samacli.report.finished import FinishedRun
from samacli.runs.again import opened_again, recipe_again
from samacli.training.experiment import Experiment
from samacli.training.gradients import along, mean_gradient, products
from samacli.training.objective import model_logits, to_device
from samacli.training.optim import make_optimizer
from samacli.training.runtime import DeviceName

# Batches that tell how large each parameter's gradient is at θ, as the optimiser has it.
_BATCHES = 16
_SHOWN, _NEAREST = 6, 5
# Embedded for the nearest rows; of more, so many at random.
_MOST_EMBEDDED = 20_000
_TEXT = 90


@dataclass(frozen=True)
class Other:
    """A row on the other side. row: its position in its input. label: given, of a clean row the
    clean one. value: the effect in nats, above 0 where it helps; of the nearest rows the cosine.
    weight: of a training row, in the run."""

    row: int
    label: str | None
    text: str
    value: float
    weight: float | None = None


@dataclass(frozen=True)
class Why:
    """One row's effects on the rows of the other side.

    side: "train" or "clean", where the row is. effect: the mean over the other side, nats.
    spread: its standard error. helped, hurt: how many have an effect above and below 0.
    helps, hurts: those with the largest of each sign. labels: of a training row the mean effect
    that it would have with each class as its label. nearest: training rows with the most alike
    features of the trained model. weight: in the run, of a training row. batch: n.
    """

    side: str
    row: int
    id: str | None
    text: str
    label: str | None
    weight: float | None
    effect: float
    spread: float
    helped: int
    hurt: int
    helps: list[Other]
    hurts: list[Other]
    labels: dict[str, float]
    nearest: list[Other]
    batch: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def why(
    directory: Path,
    *,
    row: int | None = None,
    clean: int | None = None,
    device: DeviceName = "auto",
    progress: Progress | None = None,
) -> Why:
    """Explain a training row of a finished run by the clean rows that it helps and hurts; or a
    clean row by the training rows that help and hurt it.

    The run's data are read again, from where its recipe says.

    row, clean: the position in the input, counted from 0; one of the two.

    Raises:
        SamaError: the directory holds no finished run with a clean set and a model, its data are
            not there any more or have changed, or there is no such row.
    """
    if (row is None) == (clean is None):
        raise SamaError("name one row: --row N of the training rows, or --clean N of the clean set")
    run = FinishedRun.read(directory)
    asked = _Asked.open(run, device, progress)
    if row is not None:
        return asked.of_training_row(row)
    assert clean is not None
    return asked.of_clean_row(clean)


@dataclass
class _Asked:
    """The run's data and model, and ∂u/∂g at it, in the optimiser's state and `p.grad`."""

    run: FinishedRun
    experiment: Experiment
    model: nn.Module
    optimizer: torch.optim.Optimizer
    params: list[Tensor]

    @classmethod
    def open(cls, run: FinishedRun, device: DeviceName, progress: Progress | None) -> _Asked:
        recipe = recipe_again(run, "whose gradients would tell why")
        if recipe.data.meta is None:
            raise SamaError(
                f"the run in '{run.directory}' had no clean set, whose rows a training row would "
                "help or hurt; run it with --meta FILE"
            )
        experiment = opened_again(run, recipe, device, progress)
        network = experiment.new_model(recipe.seed).eval()
        optimizer = make_optimizer(network, recipe.training.optimizer)
        params = [p for group in optimizer.param_groups for p in group["params"]]
        asked = cls(run, experiment, network, optimizer, params)
        asked._take_gradients()
        return asked

    def _take_gradients(self) -> None:
        """Steps of length 0 on what the run trained on: θ stays, the optimiser's state comes."""
        experiment, scores = self.experiment, self.run.scores
        labels = experiment.splits.train.labels
        if self.run.corrected:
            ids = {name: i for i, name in enumerate(experiment.splits.classes)}
            labels = np.array([ids.get(name, -1) for name in scores.suggested])
        share = experiment.recipe.reweight.clean_share if self.run.workflow == "reweight" else 0.0
        weights = np.where(labels >= 0, scores.weight, 0.0)
        clean = clean_weights(weights, share, len(experiment.clean))
        batches, objective = experiment.weighted_batches(
            experiment.recipe.seed, weights, labels=labels, clean_weights=clean
        )
        rates = [group["lr"] for group in self.optimizer.param_groups]
        for group in self.optimizer.param_groups:
            group["lr"] = torch.zeros_like(r) if isinstance(r := group["lr"], Tensor) else 0.0
        device = experiment.accelerator.device
        with experiment.progress.task("gradients of the run's batches", _BATCHES) as task:
            for _, batch in zip(range(_BATCHES), batches, strict=False):
                moved = to_device(batch, device)
                loss = objective(model_logits(self.model, moved), moved)
                if "clean" in moved:
                    loss = loss + objective.clean_part(
                        self.model, to_device(moved["clean"], device)
                    )
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                task.advance(1)
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    # the two questions

    def of_training_row(self, row: int) -> Why:
        """Of the training row at that position in the input."""
        splits = self.experiment.splits
        train, meta, clean = splits.train, splits.meta, self.experiment.clean
        assert meta is not None
        place = _place(train, row, "--row", str(self.run.directory))
        label = int(train.labels[place])
        effects = np.full(len(meta), np.nan)
        if label >= 0:
            effects = self._effects(self._gradient(self.experiment.train, place), clean, meta)
        by_label = self._by_label(place)
        return self._why(
            "train",
            train,
            place,
            meta,
            effects,
            labels=dict(zip(splits.classes, by_label.tolist(), strict=True)),
            nearest=self._nearest(place),
        )

    def of_clean_row(self, row: int) -> Why:
        """Of the clean row at that position in its input."""
        splits = self.experiment.splits
        assert splits.meta is not None
        place = _place(splits.meta, row, "--clean", str(self.run.directory))
        gradient = self._gradient(self.experiment.clean, place)
        effects = self._effects(gradient, self.experiment.train, splits.train)
        return self._why("clean", splits.meta, place, splits.train, effects)

    def _why(
        self,
        side: str,
        own: Split,
        place: int,
        others: Split,
        effects: np.ndarray,
        labels: dict[str, float] | None = None,
        nearest: list[Other] | None = None,
    ) -> Why:
        known = np.flatnonzero(np.isfinite(effects))
        order = known[np.argsort(-effects[known], kind="stable")]
        helps = [i for i in order[:_SHOWN] if effects[i] > 0]
        hurts = [i for i in order[::-1][:_SHOWN] if effects[i] < 0]
        found = effects[known]
        mean = float(found.mean()) if len(found) else float("nan")
        error = float(found.std(ddof=1) / np.sqrt(len(found))) if len(found) > 1 else float("nan")
        scores, of_train = self.run.scores, side == "train"
        names = scores.names if of_train else None
        return Why(
            side=side,
            row=int(own.index[place]),
            id=None if names is None else names[place],
            text=self._text(own, place),
            label=self._class(own, place),
            weight=float(scores.weight[place]) if of_train else None,
            effect=mean,
            spread=error,
            helped=int((found > 0).sum()),
            hurt=int((found < 0).sum()),
            helps=[self._other(others, i, float(effects[i])) for i in helps],
            hurts=[self._other(others, i, float(effects[i])) for i in hurts],
            labels=labels or {},
            nearest=nearest or [],
            batch=self.experiment.recipe.training.rows,
        )

    # their parts

    def _gradient(self, encoded: Encoded, place: int) -> list[Tensor]:
        """(∂u/∂g)ᵀ·∇ℓ of one row: (∂u/∂g)·∇ℓ too, since optimisers act element by element.

        (Those that don't, as Muon, are taken to be as good as symmetric.)
        """
        found = mean_gradient(self.experiment, self.model, self.params, encoded, np.array([place]))
        adapt(self.optimizer, self.params, found)
        return found

    def _effects(self, towards: list[Tensor], encoded: Encoded, split: Split) -> np.ndarray:
        """⟨∇ℓ_j, towards⟩ / n of every row of a split (m,), nats; NaN for those without a label."""
        found = along(
            self.experiment, self.model, self.params, towards, encoded, "what it does to each row"
        )
        return products(*found, split.labels) / self.experiment.recipe.training.rows

    def _by_label(self, place: int) -> np.ndarray:
        """The mean effect on the clean rows of a row's with each class as its label (classes,)."""
        experiment, rows = self.experiment, np.array([place])
        total = mean_gradient(experiment, self.model, self.params, experiment.clean)
        adapt(self.optimizer, self.params, total)
        tangents, probabilities = along(
            experiment, self.model, self.params, total, experiment.train,
            "what each label would do", rows,
        )  # fmt: skip
        every = np.arange(len(experiment.splits.classes))
        alike = np.zeros_like(every)  # the one row, with each class in turn
        found = products(tangents[alike], probabilities[alike], every)
        return found / experiment.recipe.training.rows

    def _nearest(self, place: int) -> list[Other]:
        """Training rows by the cosine of the trained model's features with the row's."""
        train, encoded = self.experiment.splits.train, self.experiment.train
        rows = np.arange(len(train))
        if len(rows) > _MOST_EMBEDDED:
            rows = np.random.default_rng(0).choice(len(rows), _MOST_EMBEDDED, replace=False)
        rows = np.union1d(rows, [place])
        table = self.experiment.embed(self.model, encoded, "their features", rows=rows)
        table = table / np.linalg.norm(table, axis=1, keepdims=True).clip(min=1e-12)
        cosine = table @ table[np.searchsorted(rows, place)]
        order = np.argsort(-cosine, kind="stable")
        nearest = [i for i in order if rows[i] != place][:_NEAREST]
        return [self._other(train, int(rows[i]), float(cosine[i])) for i in nearest]

    def _other(self, split: Split, place: int, value: float) -> Other:
        train = split is self.experiment.splits.train
        return Other(
            row=int(split.index[place]),
            label=self._class(split, place),
            text=one_line(self._text(split, place), _TEXT),
            value=value,
            weight=float(self.run.scores.weight[place]) if train else None,
        )

    def _class(self, split: Split, place: int) -> str | None:
        label = int(split.labels[place])
        return None if label < 0 else self.experiment.splits.classes[label]

    def _text(self, split: Split, place: int) -> str:
        columns = self.experiment.example_columns.get("text_columns", [])
        content = split.rows.select_columns(columns)[place] if columns else {}
        return "\n".join(str(content[name]) for name in columns if content.get(name))


def _place(split: Split, row: int, option: str, where: str) -> int:
    found = np.flatnonzero(split.index == row)
    if not len(found):
        raise SamaError(
            f"{option} {row}: {split.origin} has no such row in the run '{where}'; rows are "
            f"counted from 0 and lie between {split.index.min()} and {split.index.max()} there"
        )
    return int(found[0])
