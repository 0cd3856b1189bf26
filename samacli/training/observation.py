"""What an onlooker of a training run is shown at every base batch."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from samacli.training.embed import last_linear, listening_to
from samacli.training.objective import Batch


@dataclass(frozen=True)
class Observation:
    """A training batch of b examples as the model sees it, detached, on the training device.

    The model is in training mode: dropout, augmentation and batch norm are those of the step. Of
    several processes the batches of all are joined, so that everyone is shown the same. A row
    stands in an observation once.

    index: (b,) row numbers of the training split. labels: (b,) given classes, −1 for none.
    logits: (b, classes) float32. features: (b, f) float32, what the last linear layer was given;
    None where no observer asked for it. progress: the fraction of the run that is over, in [0, 1].
    bias: whether the last linear layer adds one.
    """

    index: Tensor
    labels: Tensor
    logits: Tensor
    features: Tensor | None
    progress: float
    bias: bool = True

    @functools.cached_property
    def probabilities(self) -> Tensor:
        """softmax of the logits (b, classes); computed once for all who look."""
        return self.logits.softmax(-1)


class Observer(Protocol):
    """Someone who looks on; `needs_features` says whether `Observation.features` is wanted."""

    @property
    def needs_features(self) -> bool: ...

    def observe(self, seen: Observation) -> None: ...


class Audience:
    """The observers of one run of `model`, the bare module; without any, nothing is done."""

    def __init__(
        self, observers: Sequence[Observer], model: nn.Module, accelerator: Accelerator
    ) -> None:
        self._observers = observers
        self._accelerator = accelerator
        self._heard: list[Tensor] = []
        self._layer: nn.Linear | None = None
        if any(observer.needs_features for observer in observers):
            self._layer = last_linear(model)

    @property
    def needs_features(self) -> bool:
        """Whether it sets a hook on the last layer: then no compiled pass will do."""
        return self._layer is not None

    def listening(self) -> contextlib.AbstractContextManager[None]:
        """Around the base level's own forward pass, and no other (a perturbed one, say)."""
        if self._layer is None:
            return contextlib.nullcontext()
        return self._listening(self._layer)

    @contextlib.contextmanager
    def _listening(self, layer: nn.Linear) -> Iterator[None]:
        with listening_to(layer) as self._heard:
            yield

    def note(self, batch: Batch, logits: Tensor, progress: float) -> list[Observation]:
        """What there is to show of a batch, on the device, with the logits (b, classes) of its
        pass: one observation, or none where nobody looks on."""
        if not self._observers:
            return []
        features = None
        if self._layer is not None:
            features = self._heard.pop().detach().float()
        seen = Observation(
            index=batch["index"],
            labels=batch["labels"],
            logits=logits.detach().float(),
            features=features,
            progress=progress,
            bias=self._layer is None or self._layer.bias is not None,
        )
        return [seen]

    @torch.no_grad()
    def show(self, noted: list[Observation]) -> None:
        """Show all observers what was noted in a step, of all its passes and all processes."""
        for seen in _joined([of_all_processes(seen, self._accelerator) for seen in noted]):
            for observer in self._observers:
                observer.observe(seen)


def _joined(noted: list[Observation]) -> list[Observation]:
    """A step's passes as one observation, so that it does not matter how it was split.

    Rows that come a second time, where an epoch ends within the step, are in one of their own.
    """
    if len(noted) < 2:
        return noted
    features = [seen.features for seen in noted if seen.features is not None]
    whole = replace(
        noted[0],
        index=torch.cat([seen.index for seen in noted]),
        labels=torch.cat([seen.labels for seen in noted]),
        logits=torch.cat([seen.logits for seen in noted]),
        features=torch.cat(features) if features else None,
    )
    return _without_repeats(whole)


def _without_repeats(seen: Observation) -> list[Observation]:
    again = torch.zeros_like(seen.index, dtype=torch.bool)
    order = seen.index.argsort(stable=True)
    ordered = seen.index[order]
    again[order[1:]] = ordered[1:] == ordered[:-1]
    if not again.any():
        return [seen]
    first, others = (_rows_of(seen, rows.nonzero()[:, 0]) for rows in (~again, again))
    return [first, *_without_repeats(others)]


def _rows_of(seen: Observation, rows: Tensor) -> Observation:
    return replace(
        seen,
        index=seen.index[rows],
        labels=seen.labels[rows],
        logits=seen.logits[rows],
        features=None if seen.features is None else seen.features[rows],
    )


def of_all_processes(seen: Observation, accelerator: Accelerator) -> Observation:
    """The processes' batches, all of one size, as one, in the order of the processes.

    A row comes to another process every epoch, and what happened to it between two epochs (was it
    forgotten?) is not a sum over processes: so each of them keeps the whole. The message, of
    b × (classes + f + 4) numbers, is small beside the step's gradients, which include the last
    layer's classes × f.
    """
    if accelerator.num_processes == 1:
        return seen
    parts = [seen.index[:, None], seen.labels[:, None], seen.logits]
    if seen.features is not None:
        parts.append(seen.features)
    # bit for bit in one message: int64 as two columns of int32
    packed = [part.contiguous().view(torch.int32) for part in parts]
    joined = accelerator.gather(torch.cat(packed, 1))
    index, labels, logits, *features = (
        columns.contiguous().view(part.dtype)
        for columns, part in zip(
            joined.split([part.shape[1] for part in packed], 1), parts, strict=True
        )
    )
    return replace(
        seen,
        index=index[:, 0],
        labels=labels[:, 0],
        logits=logits,
        features=features[0] if features else None,
    )
