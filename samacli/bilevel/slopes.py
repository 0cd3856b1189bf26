"""The weight function fitted to slopes: what a row does to the clean loss, predicted from evidence.

For given θ the meta objective is linear in the weights of the base loss,
    L_meta(θ_{t+1}) ≈ L_meta(θ_t) − (1/n) Σ_i w_i c_i,  c_i = ⟨∂ℓ_i/∂θ, v⟩, v = (∂u/∂g)ᵀ ∂L_meta/∂θ,
so c_i > 0 says that training on row i lowers the loss of the clean rows. A single slope is noisy,
and a gradient step on λ forgets it. All slopes of the run together are a regression problem that is
tiny beside the model's: ĉ = β·φ(evidence), by ridge regression, its penalty chosen by how well it
predicts rows that were left out. Any row, also one that was never trained on, then has a slope.

A linear objective over weights of mean 1 is largest in a corner: all weight on the few rows, or the
one class, with the largest slopes. Hence weights are a bounded function of ĉ, and each given class
has the share of the loss that its class is expected to have: which class the model lacks is not a
thing to find out by weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

# One part of the rows is left out in turn, to see how well the penalty predicts them.
_FOLDS = 5
# Relative to the correlations' unit diagonal.
_PENALTIES = (1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0)
# What it must explain of the left-out rows' slopes: the best of several penalties explains a little
# of noise.
_LEAST_EXPLAINED = 0.02
# A slope of meta step s counts (s/now)^_AGE at meta step `now`: θ has moved on since.
_AGE = 3.0
# Slopes are noisy and have long tails: in units of the step's root mean square.
_LARGEST = 4.0
# First fit after so many meta steps; then whenever there are this many more, relatively.
_FIRST_FIT, _GROWTH = 4, 1.15
# w = FLOOR + (1 − FLOOR)·σ(ĉ / (TEMPERATURE · deviation of ĉ)): a row whose weight were 0 would
# have no slope any more where slopes ride on the base step's own backward pass.
_FLOOR, _TEMPERATURE = 0.02, 0.15
# Shares of given classes: a moving mean over steps, and by how much a class is raised at most.
_SHARE_DECAY, _LARGEST_FACTOR = 0.97, 10.0
# Of the pretrained representation: what little slopes there are can't tell more directions apart.
_COMPONENTS = 32
# Columns of φ at most in the part that each given class has for itself.
_MOST_COLUMNS = 400


class SlopeRegression(nn.Module):
    """ĉ = β·φ and the weights that follow from it; learns from slopes, not by a gradient.

    φ of a row are the evidence's columns x, and again in the block of the row's given label, so
    that each class has a slope function of its own, drawn to the common one by the penalty.

    Args:
        columns: number of x. classes: of given labels; rows without one are a class more.
        shares: (classes,), what each given class is to have of the loss, sums to 1; None: what its
            rows' weights come to (labels are corrected: given classes are not what is trained on).
    """

    gram: Tensor
    beta: Tensor
    intercept: Tensor
    deviation: Tensor
    fitted: Tensor
    explained: Tensor
    shares: Tensor | None
    mass: Tensor

    def __init__(self, columns: int, classes: int, shares: Tensor | None) -> None:
        super().__init__()
        self.classes = classes
        self._own = min(columns + 1, max(2, _MOST_COLUMNS // (classes + 1)))
        width = columns + (classes + 1) * self._own
        # Σ age·(1, φ, c)(1, φ, c)ᵀ by fold: all that ridge regression and its error need to know.
        self.register_buffer("gram", torch.zeros(_FOLDS, width + 2, width + 2, dtype=torch.float64))
        self.register_buffer("beta", torch.zeros(width))
        self.register_buffer("intercept", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))
        self.register_buffer("explained", torch.zeros(()))
        self.register_buffer("shares", None if shares is None else shares.float())
        self.register_buffer("mass", torch.zeros(classes))
        self.count, self._next_fit = 0, float(_FIRST_FIT)

    def columns(self, x: Tensor, labels: Tensor) -> Tensor:
        """φ (n, width) of evidence x (n, columns) and given labels (n,), −1 for none."""
        one_hot = nn.functional.one_hot(
            torch.where(labels < 0, self.classes, labels), self.classes + 1
        )
        own = torch.cat([torch.ones_like(x[:, :1]), x], dim=1)[:, : self._own]
        return torch.cat([x, (one_hot[:, :, None] * own[:, None, :]).flatten(1)], dim=1)

    def predict(self, x: Tensor, labels: Tensor) -> Tensor:
        """ĉ (n,), in units of a step's root mean square; 0 before the first fit."""
        return self.columns(x, labels) @ self.beta + self.intercept

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Positive weights (n,), whose mean is not 1.

        Within a class all alike before the first fit, and where it predicts left-out rows no better
        than the mean (of the class, where classes have shares).
        """
        bounded = torch.sigmoid(self.predict(x, labels) / (_TEMPERATURE * self.deviation))
        bounded = torch.where(self.fitted, _FLOOR + (1 - _FLOOR) * bounded, 1.0)
        factor = torch.cat([self._factor(), self.beta.new_ones(1)])
        return bounded * factor[torch.where(labels < 0, self.classes, labels)]

    def _factor(self) -> Tensor:
        """What brings each given class to its share (classes,)."""
        if self.shares is None:
            return torch.ones_like(self.mass)
        share = self.mass / self.mass.sum().clamp_min(1e-12)
        # Before the first step all alike: their largest.
        return (self.shares / share.clamp_min(1e-12)).clamp_max(_LARGEST_FACTOR)

    @torch.no_grad()
    def masses(self, weights: Tensor, labels: Tensor) -> Tensor:
        """What each given class weighs (classes,) in a pass, before it is brought to its share.

        weights: (b,), as this module gave them. labels: (b,), −1 for none.
        """
        told, each = labels >= 0, labels.clamp_min(0)
        bounded = torch.where(told, weights / self._factor()[each], 0.0)
        return torch.zeros_like(self.mass).index_add_(0, each, bounded.to(self.mass))

    @torch.no_grad()
    def follow(self, masses: Tensor, good: Tensor | None = None) -> None:
        """A step's `masses`; good: a bool (), where false nothing is done."""
        masses = masses if good is None else torch.where(good, masses, 0.0)
        self.mass.mul_(_SHARE_DECAY).add_(masses.nan_to_num(0.0))

    @torch.no_grad()
    def learn(
        self, index: Tensor, labels: Tensor, x: Tensor, slopes: Tensor, good: Tensor | None = None
    ) -> None:
        """A meta step's slopes c (b,), of rows `index` (b,), with their evidence; fits in time.

        good: a bool (); where it is false, or a slope is not finite, nothing is learnt.
        """
        use = slopes.isfinite() & x.isfinite().all(1)
        use = use if good is None else use & good
        slopes = torch.where(use, slopes, 0.0)
        size = (slopes.square().sum() / use.sum().clamp_min(1)).sqrt()
        c = (slopes / size.clamp_min(torch.finfo(slopes.dtype).tiny)).clamp(-_LARGEST, _LARGEST)
        phi = self.columns(torch.where(use[:, None], x, 0.0), labels)
        u = torch.cat([torch.ones_like(c)[:, None], phi, c[:, None]], dim=1).double()
        self.gram *= (self.count / (self.count + 1)) ** _AGE
        # A row is always in the same fold: it must not predict itself.
        fold = nn.functional.one_hot(index * 7919 % _FOLDS, _FOLDS).double() * use[:, None]
        self.gram += torch.einsum("bk,bi,bj->kij", fold, u, u)
        self.count += 1
        if self.count >= self._next_fit:
            self._fit()
            self._next_fit = max(_FIRST_FIT, self.count * _GROWTH)

    def _fit(self) -> None:
        """Ridge regression on standardised columns, from the second moments alone."""
        whole = self.gram.sum(0)
        held_out = [_ridge(whole - part) for part in self.gram]
        errors = torch.stack(
            [_squared_error(part, found) for part, found in zip(self.gram, held_out, strict=True)]
        ).sum(0)
        best = errors.argmin()
        found = _ridge(whole)[best]
        self.explained.copy_(1 - errors[best] / self._known_without(whole).clamp_min(1e-12))
        self.intercept.copy_(found[0])
        self.beta.copy_(found[1:])
        inputs = whole[:-1, :-1] / whole[0, 0]
        mean = found @ inputs[0]
        spread = (found @ inputs @ found - mean.square()).clamp_min(1e-12).sqrt()
        self.deviation.copy_(spread)
        self.fitted.copy_(self.explained > _LEAST_EXPLAINED)

    def _known_without(self, whole: Tensor) -> Tensor:
        """Σ age·(c − c̄)², what is left without evidence: c̄ the mean of the row's given class, where
        classes have shares, so that slopes which differ between classes alone move no weight."""
        if self.shares is None:
            return whole[-1, -1] - whole[0, -1].square() / whole[0, 0]
        first = whole.shape[0] - 1 - (self.classes + 1) * self._own
        each = torch.arange(first, whole.shape[0] - 1, self._own, device=whole.device)
        count, total = whole[0, each], whole[each, -1]
        return whole[-1, -1] - (total.square() / count.clamp_min(1e-12)).sum()

    def get_extra_state(self) -> Tensor:
        """How many meta steps there were, and when is the next fit."""
        return torch.tensor([self.count, self._next_fit], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Go on from what `get_extra_state` gave."""
        self.count, self._next_fit = int(state[0]), float(state[1])


@dataclass(frozen=True)
class Projection:
    """A table's first principal components, each of deviation 1: x @ basis + offset.

    basis: (f, k) float32, k at most 32. offset: (k,).
    """

    basis: Tensor
    offset: Tensor

    @classmethod
    def fit(cls, table: Tensor) -> Projection:
        """Of the standardised columns of a table (n, f)."""
        mean = table.double().mean(0)
        deviation = table.double().std(0, correction=0)
        scale = torch.where(deviation > 1e-6, 1 / deviation, 0.0)
        standardised = (table.double() - mean) * scale
        values, vectors = torch.linalg.eigh(standardised.T @ standardised / len(table))
        kept = min(_COMPONENTS, int((values > 1e-6 * values[-1].clamp_min(1e-6)).sum()))
        vectors, values = vectors[:, len(values) - kept :], values[len(values) - kept :]
        basis = (scale[:, None] * vectors / values.sqrt()).flip(1)
        return cls(basis.float(), -(mean @ basis).float())

    def __call__(self, table: Tensor) -> Tensor:
        """(n, f) -> (n, k)."""
        return table @ self.basis + self.offset


def _ridge(gram: Tensor) -> Tensor:
    """(penalties, 1 + f): intercept and coefficients of c on φ, from Σ (1, φ, c)(1, φ, c)ᵀ.

    Minimises the mean squared error plus penalty · Σ_j (β_j · deviation_j)².
    """
    mean = gram[0, 1:] / gram[0, 0]
    covariance = gram[1:, 1:] / gram[0, 0] - mean[:, None] * mean
    # Columns that do not vary get no coefficient.
    deviation = covariance.diagonal()[:-1].clamp_min(0).sqrt()
    inverse = torch.where(deviation > 1e-6, 1 / deviation, 0.0)
    correlation = covariance[:-1, :-1] * inverse[:, None] * inverse
    values, vectors = torch.linalg.eigh(correlation)
    along = vectors.T @ (covariance[:-1, -1] * inverse)
    penalties = torch.tensor(_PENALTIES, dtype=gram.dtype, device=gram.device)[:, None]
    beta = (along / (values.clamp_min(0) + penalties)) @ vectors.T * inverse
    intercept = mean[-1] - beta @ mean[:-1]
    return torch.cat([intercept[:, None], beta], dim=1)


def _squared_error(gram: Tensor, found: Tensor) -> Tensor:
    """Σ age·(c − ĉ)² (penalties,) over the rows of a Gram matrix, for `_ridge`'s solutions."""
    residual = torch.cat([-found, torch.ones_like(found[:, :1])], dim=1)
    return torch.einsum("pi,ij,pj->p", residual, gram, residual)
