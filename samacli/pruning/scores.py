"""Scores of training rows, all made by looking on at one training run.

`samacli.registry.SCORES` has them by name. Most are the mean of something seen at each visit of a
row (`WindowScore`), whose formula is `value`, a plain function of a batch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from samacli.errors import SamaError, nearest
from samacli.registry import RUN_SCORES, SCORES, load
from samacli.training.embed import classifier_features
from samacli.training.experiment import Experiment
from samacli.training.objective import Batch
from samacli.training.observation import Observation

# Paul et al. 2021 take epoch 20 of 200, DeepCore epoch 10: 5 % to 10 %; up to 20 %, so that short
# runs have visits there too. Not the start: an untrained model's errors tell nothing of the data
# (Kirsch 2023 on GraNd at initialisation).
EARLY = (0.05, 0.2)
# A trained model's predictions, over its last visits (Coleman et al. 2020, section 2.1).
LATE = (0.9, 1.0)
# K-means finds as many centroids as there are classes: a sample this large tells where they are.
PROTOTYPE_SAMPLE = 20_000


def make_scores(experiment: Experiment, seed: int, names: Sequence[str]) -> dict[str, Score]:
    """The named scores at their papers' settings, ready to look on at a run, in the given order.

    Raises:
        SamaError: no score has such a name.
    """
    for name in names:
        if name not in RUN_SCORES:
            raise SamaError(
                f"there is no score '{name}' (there are {', '.join(RUN_SCORES)})"
                f"{nearest(name, RUN_SCORES)}"
            )
    rows, classes = len(experiment.train), len(experiment.splits.classes)
    device = experiment.accelerator.device
    return {
        name: load(SCORES[name].where).of(rows, classes, device=device, seed=seed) for name in names
    }


def results(
    experiment: Experiment, scores: Mapping[str, Score], model: nn.Module
) -> dict[str, np.ndarray]:
    """What the scores say (n,) after their run, which trained `model`.

    Raises:
        SamaError: a score needs what the model does not have.
    """
    for score in scores.values():
        score.after(experiment, model)
    return {name: score.result() for name, score in scores.items()}


class Score:
    """Running statistics of each training example, updated a batch at a time.

    State is a few numbers an example on the training device, whatever the length of the run; rows
    may be visited in any order and any number of times. Rows that were never visited score NaN, and
    so do rows without a given label where the score takes one. Several processes are shown the same
    observations (`samacli.training.observation`), so that nothing is left to merge at the end.

    needs_features: whether `observe` reads `Observation.features`.
    """

    needs_features: ClassVar[bool] = False

    @classmethod
    def of(cls, rows: int, classes: int, *, device: torch.device | str, seed: int) -> Self:
        """At its paper's settings, for a training split."""
        return cls(rows, device=device)  # type: ignore[call-arg]

    def observe(self, seen: Observation) -> None:
        """Take note of one batch of a training step; by default of nothing."""

    def after(self, experiment: Experiment, model: nn.Module) -> None:
        """Take note of what the run trained; by default of nothing."""

    @abstractmethod
    def result(self) -> np.ndarray:
        """(n,) float64; examples of a higher score are kept first, as the score's paper advises."""

    def state_dict(self) -> dict[str, Any]:
        """Its tensors by name, for a checkpoint."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        for name, saved in state.items():
            getattr(self, name).copy_(saved)


class WindowScore(Score):
    """The mean of `value` over a row's visits at start ≤ progress ≤ stop.

    A row without a visit in there (a short run, a short window) takes the visits nearest to it, so
    that every row that was visited at all has a value. Three float32 numbers an example.

    Args:
        examples: number of rows n of the training split.
        window: (start, stop), the part of the run whose visits count; default: the class's.
    """

    window: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __init__(
        self,
        examples: int,
        *,
        window: tuple[float, float] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self._start, self._stop = window or self.window
        self._sum = torch.zeros(examples, device=device)
        self._visits = torch.zeros(examples, device=device)
        # how far from the window the visits are that are summed so far; 0: within
        self._away = torch.full((examples,), torch.inf, device=device)

    @staticmethod
    @abstractmethod
    def value(seen: Observation) -> Tensor:
        """What a batch of b says of each row, (b,) float32; NaN where that takes a label and there
        is none, which stays with the row."""

    def observe(self, seen: Observation) -> None:
        rows, values = seen.index, self.value(seen)
        before = self._away[rows]
        now = torch.full_like(
            before, max(0.0, self._start - seen.progress, seen.progress - self._stop)
        )
        nearer, counts = now < before, now <= before
        self._away[rows] = torch.minimum(now, before)
        for total, value in ((self._sum, values), (self._visits, torch.ones_like(values))):
            total[rows] = torch.where(nearer, 0.0, total[rows])
            total.index_add_(0, rows, torch.where(counts, value, 0.0))

    def result(self) -> np.ndarray:
        return (self._sum / self._visits).double().cpu().numpy()


def where_labelled(values: Tensor, labels: Tensor) -> Tensor:
    """The values (b,), NaN where there is no given label (b,)."""
    return torch.where(labels >= 0, values, torch.nan)


def of_given(values: Tensor, labels: Tensor) -> Tensor:
    """The given class's value of each row, (b,) of (b, classes); any where there is no label."""
    return values.gather(1, labels.clamp_min(0)[:, None])[:, 0]


class Random(Score):
    """A random order of all n rows, visited or not: the baseline that every score has to beat.

    Smaller subsets lie within larger.
    """

    def __init__(self, examples: int, *, seed: int) -> None:
        self._examples, self._seed = examples, seed

    @classmethod
    def of(cls, rows: int, classes: int, *, device: torch.device | str, seed: int) -> Self:
        return cls(rows, seed=seed)

    def result(self) -> np.ndarray:
        """(n,) float64 in (0, 1], no two alike."""
        order = np.random.default_rng(self._seed).permutation(self._examples)
        scores = np.empty(self._examples)
        scores[order] = 1 - np.arange(self._examples) / self._examples
        return scores


class EL2N(WindowScore):
    """‖p(x) − onehot(y)‖₂, the mean over early visits; the largest (hardest) are kept.

    Paul, Ganguli, Dziugaite: "Deep learning on a data diet: finding important examples early in
    training" (NeurIPS 2021), definition 2.2. The paper takes the error once, about a tenth of the
    way through training, as the mean over ten models; here it is the mean over the visits around
    then, with the predictions of the training steps themselves: average `result` over runs for
    more models. Wrong labels are among the hardest.
    """

    window = EARLY

    @staticmethod
    def value(seen: Observation) -> Tensor:
        error = seen.probabilities.clone()
        own = torch.arange(len(error), device=error.device)
        error[own, seen.labels.clamp_min(0)] -= 1
        return where_labelled(torch.linalg.vector_norm(error, dim=1), seen.labels)


class GraNd(WindowScore):
    """‖∇_{W,b} ℓ(x, y)‖₂ of the last linear layer, the mean over early visits; the largest kept.

    Paul, Ganguli, Dziugaite: "Deep learning on a data diet" (NeurIPS 2021), definition 2.1, whose
    norm is over all parameters. Logits z = W h + b have ∂ℓ/∂z = p − onehot(y), hence
    ∂ℓ/∂W = (p − onehot(y)) hᵀ and
        ‖∇_{W,b} ℓ‖ = ‖p − onehot(y)‖ · √(‖h‖² + 1)      (without the 1 where there is no bias),
    exact for this layer, with no backward pass. The paper averages over ten models at one early
    step; here it is the mean over early visits, see `EL2N`.
    """

    needs_features = True
    window = EARLY

    @staticmethod
    def value(seen: Observation) -> Tensor:
        if seen.features is None:
            raise ValueError("GraNd takes Observation.features")
        return EL2N.value(seen) * (seen.features.square().sum(1) + float(seen.bias)).sqrt()


class Margin(WindowScore):
    """−(p₍₁₎ − p₍₂₎), the two largest probabilities, mean over late visits; small margins are kept.

    Scheffer, Decomain, Wrobel: "Active hidden Markov models for information extraction" (2001); as
    a score for choosing training subsets by a trained model: Coleman et al., "Selection via proxy"
    (ICLR 2020), and DeepCore (Guo et al. 2022). Takes no labels.
    """

    window = LATE

    @staticmethod
    def value(seen: Observation) -> Tensor:
        first, second = seen.probabilities.topk(2, dim=-1).values.unbind(-1)
        return second - first


class Entropy(WindowScore):
    """−Σ_c p_c log p_c in nats, the mean over late visits; the largest are kept.

    Shannon's entropy of the prediction as in uncertainty sampling (Settles 2009, section 3.1); as a
    score for choosing training subsets: Coleman et al., "Selection via proxy" (ICLR 2020). Takes no
    labels.
    """

    window = LATE

    @staticmethod
    def value(seen: Observation) -> Tensor:
        return torch.special.entr(seen.probabilities).sum(-1)


class LeastConfidence(WindowScore):
    """1 − max_c p_c, the mean over late visits; the largest are kept.

    Lewis, Gale: "A sequential algorithm for training text classifiers" (1994); as a score for
    choosing training subsets: Coleman et al., "Selection via proxy" (ICLR 2020). Takes no labels.
    """

    window = LATE

    @staticmethod
    def value(seen: Observation) -> Tensor:
        return 1 - seen.probabilities.amax(-1)


class AUM(WindowScore):
    """The mean over visits of z_y − max_{c≠y} z_c, logits z, given label y.

    Pleiss et al.: "Identifying mislabeled data using the area under the margin ranking" (NeurIPS
    2020), equation 2. Mislabelled examples have a low, often negative, AUM, and its authors remove
    those: the highest (clearest) are kept. Selections that want hard examples use it from the other
    end, or in strata (`ccs`). The paper takes all epochs of a run at a rate that has not yet
    fallen.
    """

    @staticmethod
    def value(seen: Observation) -> Tensor:
        given = of_given(seen.logits, seen.labels)
        others = seen.logits.scatter(1, seen.labels.clamp_min(0)[:, None], -torch.inf).amax(1)
        return where_labelled(given - others, seen.labels)


class CCS(AUM):
    """AUM, from which coverage-centric selection draws in strata.

    Zheng et al.: "Coverage-centric coreset selection for high pruning rates" (ICLR 2023), algorithm
    1: leave out the share β of the hardest examples, cut the range of the remaining scores into
    strata of equal width, and draw alike from each. That is
    `samacli.pruning.selection.keep_covering`; kept by rank alone it is AUM.
    """


class Loss(WindowScore):
    """−log p_y in nats, from the logits, whose softmax may have lost it; the mean over visits."""

    @staticmethod
    def value(seen: Observation) -> Tensor:
        losses = cross_entropy(seen.logits, seen.labels.clamp_min(0), reduction="none")
        return where_labelled(losses, seen.labels)


class MeanLoss(WindowScore):
    """The mean over all visits of a row's loss minus that of its batch, in nats.

    Networks fit right labels first (Arpit et al. 2017), so that over the whole run wrong labels
    have the larger losses, even where the trained model has learnt them by heart. What is taken off
    is what all rows have in common at that time, so that rows compare whenever they were visited
    (O2U-Net, Huang et al. 2019, algorithm 1, who take off the epoch's mean). NaN without a label.
    """

    @staticmethod
    def value(seen: Observation) -> Tensor:
        losses = Loss.value(seen)
        return losses - losses.nanmean()


class Learnt(WindowScore):
    """The share of a row's visits, after a fifth of the run, at which the model was right.

    1 for what was learnt early and not forgotten since: such rows can be left out of training
    (Toneva et al. 2019, section 5.1, "unforgettable examples"). NaN without a label.
    """

    window = (0.2, 1.0)

    @staticmethod
    def value(seen: Observation) -> Tensor:
        right = (seen.logits.argmax(-1) == seen.labels).float()
        return where_labelled(right, seen.labels)


class Forgetting(Score):
    """The number of visits at which a row is wrong and was right at the visit before.

    Toneva et al.: "An empirical study of example forgetting during deep neural network learning"
    (ICLR 2019), section 3; those forgotten most often are kept. Rows that were never right count as
    forgotten more often than all others: as in the authors' code, once a presentation (of the row
    that was presented most).
    """

    def __init__(self, examples: int, *, device: torch.device | str = "cpu") -> None:
        self._visits = torch.zeros(examples, dtype=torch.int32, device=device)
        self._events = torch.zeros(examples, dtype=torch.int32, device=device)
        self._right = torch.zeros(examples, dtype=torch.bool, device=device)
        self._ever_right = torch.zeros(examples, dtype=torch.bool, device=device)

    def observe(self, seen: Observation) -> None:
        rows = seen.index
        right = seen.logits.argmax(-1) == seen.labels
        self._events.index_add_(0, rows, (self._right[rows] & ~right).int())
        self._visits.index_add_(0, rows, (seen.labels >= 0).int())
        self._right[rows] = right
        self._ever_right[rows] |= right

    def result(self) -> np.ndarray:
        counts = torch.where(self._ever_right, self._events, self._visits.max())
        return torch.where(self._visits > 0, counts.double(), torch.nan).cpu().numpy()


class DUAL(Score):
    """The mean over windows of J visits in a row of std(P)·(1 − mean(P)), P = p(y | x).

    Cho, Shin, Yun: "Lightweight dataset pruning without full training via example difficulty and
    prediction uncertainty" (ICML 2025), section 3: over the first T epochs
        U_k = √(Σ_{j<J} (P_{k+j} − P̄_k)² / (J−1)),   score = Σ_k U_k (1 − P̄_k) / (T−J+1);
    the largest are kept. The paper takes T = 30 of 200 epochs and J = 10 (CIFAR). Its selection
    for low keep fractions (sampling from a Beta distribution) is not part of the score.

    J numbers and two more an example. Rows with fewer than J visits in all count those they have as
    one window; with a single visit they score NaN.

    Args:
        until: windows count that end by this fraction of the run, and each row's first.
        visits: J.
    """

    def __init__(
        self,
        examples: int,
        *,
        until: float = 0.15,
        visits: int = 10,
        device: torch.device | str = "cpu",
    ) -> None:
        self._until, self._length = until, visits
        self._last = torch.full((examples, visits), torch.nan, device=device)
        self._visits = torch.zeros(examples, dtype=torch.int64, device=device)
        self._sum = torch.zeros(examples, device=device)
        self._windows = torch.zeros(examples, device=device)

    def observe(self, seen: Observation) -> None:
        rows = seen.index
        given = of_given(seen.probabilities, seen.labels)
        self._last[rows, self._visits[rows] % self._length] = where_labelled(given, seen.labels)
        self._visits.index_add_(0, rows, torch.ones_like(rows))
        first = self._windows[rows] == 0
        counts = (self._visits[rows] >= self._length) & (first | (seen.progress <= self._until))
        product = self._product(self._last[rows])
        self._sum.index_add_(0, rows, torch.where(counts, product, 0.0))
        self._windows.index_add_(0, rows, counts.to(self._windows.dtype))

    def result(self) -> np.ndarray:
        scores = (self._sum / self._windows).double()
        for visits in range(2, self._length):
            few = (self._visits == visits).nonzero()[:, 0]
            if len(few):
                scores[few] = self._product(self._last[few, :visits]).double()
        return scores.cpu().numpy()

    @staticmethod
    def _product(window: Tensor) -> Tensor:
        """std·(1 − mean) of each row of a window (b, J)."""
        return window.std(1) * (1 - window.mean(1))


class Prototypes(Score):
    """min_k ‖h(x) − c_k‖₂ over k-means centroids c_k of the features; the largest are kept.

    Sorscher et al.: "Beyond neural scaling laws: beating power law scaling via data pruning"
    (NeurIPS 2022), section 6. The paper embeds by a self-supervised network (SwAV) and finds k to
    matter little around the number of classes; here h is what the last linear layer of the trained
    classifier is given. Takes no labels.

    It does not look on while the model trains: `fit` the centroids to features of a sample, then
    `take` the distances of all rows. A number an example.

    Args:
        prototypes: k.
    """

    def __init__(self, examples: int, *, prototypes: int, seed: int) -> None:
        self._prototypes, self._seed = prototypes, seed
        self._centroids: np.ndarray | None = None
        self._distances = np.full(examples, np.nan)

    @classmethod
    def of(cls, rows: int, classes: int, *, device: torch.device | str, seed: int) -> Self:
        return cls(rows, prototypes=classes, seed=seed)

    def after(self, experiment: Experiment, model: nn.Module) -> None:
        """One pass over a sample for the centroids, one over all rows for the distances.

        So memory is bounded by the sample, not by the split. Where the sample is all, one pass
        does.

        Raises:
            SamaError: the model gives no features, see `classifier_features`.
        """
        rows = np.arange(len(experiment.train))
        sample = rows
        if len(rows) > PROTOTYPE_SAMPLE:
            sample = np.random.default_rng(0).choice(rows, PROTOTYPE_SAMPLE, replace=False)

        def distances(model: nn.Module, batch: Batch) -> Tensor:
            return self.distances(classifier_features(model, batch))[:, None]

        features = experiment.predict(
            model,
            experiment.train,
            "features for prototypes",
            rows=sample,
            output=classifier_features,
        )
        self.fit(features)
        if sample is rows:
            found = self.distances(torch.from_numpy(features)).numpy()
        else:
            found = experiment.predict(
                model, experiment.train, "distances to prototypes", output=distances
            )[:, 0]
        self.take(rows, found)

    def fit(self, features: np.ndarray) -> None:
        """Find the centroids of a sample's features (m, f), by mini-batch k-means."""
        clusters = MiniBatchKMeans(
            min(self._prototypes, len(features)), random_state=self._seed, n_init=3
        ).fit(features)
        self._centroids = clusters.cluster_centers_.astype(np.float32)

    def distances(self, features: Tensor) -> Tensor:
        """To the nearest centroid (b,), of features (b, f) on any device."""
        if self._centroids is None:
            raise ValueError("no centroids: call fit first")
        centroids = torch.from_numpy(self._centroids).to(features.device)
        # Products would cancel: h may be far from 0 and close to its centroid.
        exact = "donot_use_mm_for_euclid_dist"
        return torch.cdist(features.float(), centroids, compute_mode=exact).amin(1)

    def take(self, rows: np.ndarray, distances: np.ndarray) -> None:
        """Keep the distances (b,) of `rows` (b,)."""
        self._distances[rows] = distances

    def result(self) -> np.ndarray:
        return self._distances.copy()
