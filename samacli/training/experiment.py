"""One recipe made ready: data read and encoded once, and training runs on them by seed."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from transformers import PreTrainedModel

from samacli.data import (
    Batches,
    Encoded,
    EncodedImages,
    Splits,
    cycle,
    decoding_workers,
    load_splits,
    make_loader,
)
from samacli.data.batches import Beside, Mapped
from samacli.data.pixels import processor_layout
from samacli.data.split import fingerprint_of, fingerprints, join
from samacli.data.table import Table
from samacli.data.text import EncodedHidden, longest
from samacli.errors import counted
from samacli.models import head_note, image_processor, load_model, load_processor
from samacli.models.frozen_layers import take_off
from samacli.progress import Planned, Progress, Silent
from samacli.recipe import Recipe
from samacli.store.unfinished import Part, Recovery, Result
from samacli.training import tracking
from samacli.training.augment import make_augment
from samacli.training.best_state import Validate
from samacli.training.embed import pooled_embedding
from samacli.training.encoding import Encoder, Subset
from samacli.training.loop import Fit, fit
from samacli.training.lower_layers import states_of_frozen_layers
from samacli.training.metrics import Evaluation, evaluate
from samacli.training.objective import (
    Batch,
    CleanBeside,
    Objective,
    model_logits,
    weighted_cross_entropy,
)
from samacli.training.observation import Observer
from samacli.training.predict import predict
from samacli.training.runtime import DeviceName, make_accelerator, memory_format
from samacli.training.settle import Resolved, settle
from samacli.training.step import Level

# Of text models: the last layer is the one most bent to what the model was pretrained for.
BELIEF_LAYER = -2

# A forward pass beside one forward and back, about, in time.
FORWARD = 1 / 3


@dataclass(frozen=True)
class _Representations:
    """train: (n, features), clean: (m, features), float32."""

    train: np.ndarray
    clean: np.ndarray


@dataclass
class Experiment:
    """Splits, encodings and device of a recipe; each method's run starts from here.

    Make it with `prepare`. Every run of one seed starts from the same initial model and takes the
    same number of steps, unless its method says otherwise; how many rows it sees a step, and how
    long that takes, is the method's.
    """

    recipe: Recipe  # what was `auto` of model and training is settled
    settled: list[Resolved]
    labelled: int  # training rows with a label, which epochs are counted by
    splits: Splits
    processor: Any
    accelerator: Accelerator
    progress: Progress
    train: Encoded
    meta: Encoded | None
    validation: Encoded | None
    test: Encoded | None
    # Layers from below whose states the splits hold in place of tokens (`model.cache_frozen`).
    cached_layers: int = 0
    # Of the whole model, before layers were taken off.
    model_bytes: int = 0
    # Where runs are saved on their way, and known again.
    recovery: Recovery | None = None

    def begin(self, recovery: Recovery, **arrays: np.ndarray | None) -> None:
        """From here on runs are saved on their way by `recovery`, and known again.

        arrays: what else their results depend on, by the name of a message.

        Raises:
            SamaError: see `Recovery.begin`.
        """
        more = {name: fingerprint_of(a) for name, a in arrays.items() if a is not None}
        rows = self.splits.train.rows
        recovery.begin(
            self.accelerator,
            self.recipe,
            {**fingerprints(self.splits), **more},
            model_bytes=self.model_bytes,
            data_bytes=int(rows.data.nbytes * len(rows) / max(1, rows.data.num_rows)),
        )
        self.recovery = recovery

    @classmethod
    def prepare(
        cls,
        recipe: Recipe,
        *,
        device: DeviceName = "auto",
        progress: Progress | None = None,
        tables: Mapping[str, Table] | None = None,
        labelled: int | None = None,
    ) -> Experiment:
        """Read and encode the data, find the device, and settle what is `auto`.

        tables: rows that a program has already, by the name that the recipe calls them.
        labelled: for how many labelled training rows; None: for those that are read.

        Raises:
            SamaError: anything wrong with the recipe's data, model or device.
        """
        progress = progress or Silent()
        tracking.check_trackers(recipe.track)
        accelerator = make_accelerator(device, recipe.training.precision)
        processor = load_processor(recipe.model, recipe.task)
        splits = load_splits(recipe.data, recipe.task, progress, tables)
        for note in splits.notes:
            progress.note(note)
        for warning in splits.warnings:
            progress.warn(warning)
        labelled = int((splits.train.labels >= 0).sum()) if labelled is None else labelled
        recipe, settled = settle(recipe, labelled, accelerator.device, accelerator.num_processes)
        encoder = Encoder(recipe, splits, processor, progress, accelerator.device)
        train = encoder(splits.train)
        if train.truncated:
            limit = longest(processor, recipe.data.max_length)
            own = limit != recipe.data.max_length
            most = f"the model's {limit} tokens" if own else f"{limit} tokens (data.max_length)"
            progress.note(
                f"{train.truncated:,} of {counted(len(train), 'training text')} "
                f"{'is' if train.truncated == 1 else 'are'} longer than {most} and "
                f"{'was' if train.truncated == 1 else 'were'} cut there"
            )
        if isinstance(train, EncodedImages) and (
            processor is None or train.statistics != processor_layout(processor, None)
        ):
            processor = image_processor(train.statistics)
        experiment = cls(
            recipe=recipe,
            settled=settled,
            labelled=labelled,
            splits=splits,
            processor=processor,
            accelerator=accelerator,
            progress=progress,
            train=train,
            meta=None if splits.meta is None else encoder(splits.meta),
            validation=None if splits.validation is None else encoder(splits.validation),
            test=None if splits.test is None else encoder(splits.test),
        )
        folder = Path(recipe.track_folder).expanduser()
        tracking.start_tracking(accelerator, recipe.track, folder, recipe.model_dump(mode="json"))
        with progress.task(f"loading {recipe.model.name}", 0):  # from the hub it may take a while
            model = experiment.new_model(recipe.seed)  # better known now if it does not load
        head = head_note(recipe.model, recipe.task, splits.classes)
        if head is not None:
            progress.note(head)
        experiment.model_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
        if recipe.model.cache_frozen:
            experiment._cache_frozen_layers(model)
        return experiment

    def _cache_frozen_layers(self, model: PreTrainedModel) -> None:
        """The splits' tokens become the states that the frozen lower layers make of them.

        Uses up `model`.
        """
        depth, states = states_of_frozen_layers(
            model, self._encoded, self.recipe, self.accelerator, self.progress
        )
        for name, split in states.items():
            setattr(self, name, split)
        self.cached_layers = depth

    @property
    def steps(self) -> int:
        """Optimiser steps of every run: the recipe's, or its epochs over the training split.

        A step takes a batch of `training.batch_size` in each process.
        """
        config = self.recipe.training
        if config.steps is not None:
            return config.steps
        assert config.epochs != "auto"  # it is settled
        rows = config.rows * config.accumulation * self.accelerator.num_processes
        return max(1, math.ceil(config.epochs * self.labelled / rows))

    def planned(
        self,
        description: str,
        name: str,
        *,
        steps: int | None = None,
        rows: tuple[tuple[float, float], ...] | None = None,
        after: float = 0.0,
    ) -> Planned:
        """A training as it is told of beforehand: a plain one, unless `rows` says what it passes.

        after: see `Planned`, but for the test.
        """
        config, tested = self.recipe.training, 0 if self.test is None else len(self.test)
        plain = ((1.0, float(config.rows * config.accumulation)),)
        steps = self.steps if steps is None else steps
        return Planned(description, name, steps, rows or plain, after + FORWARD * tested)

    def new_model(self, seed: int) -> PreTrainedModel:
        """The untrained model of a seed, the same for every method."""
        set_seed(seed)
        images: dict[str, int] = {}
        if isinstance(self.train, EncodedImages):
            statistics = self.train.statistics
            images = {"num_channels": statistics.channels, "image_size": statistics.size[0]}
        model = load_model(self.recipe.model, self.recipe.task, self.splits.classes, **images)
        if self.cached_layers:
            take_off(model, self.cached_layers)
        device = self.accelerator.device
        if self.recipe.task == "image-classification":
            return model.to(device, memory_format=memory_format(device))
        return model.to(device)

    def fit_plainly(
        self,
        encoded: Encoded,
        seed: int,
        description: str,
        *,
        weights: np.ndarray | None = None,
        rows: np.ndarray | None = None,
        objective: Objective = weighted_cross_entropy,
        held_out: Encoded | None = None,
        model: PreTrainedModel | None = None,
        steps: int | None = None,
        observers: Sequence[Observer] = (),
    ) -> Fit:
        """Training without a meta level: on all rows of `encoded` or some.

        weights: of each row of `encoded` (n,); None: 1 each.
        objective: the loss; may keep state from batch to batch.
        held_out: clean rows to keep the best state by, in place of the recipe's own, if any.
        model: one to train on, in place; None: the untrained one of this seed.
        steps: optimiser steps; None: `self.steps`.
        observers: look on, see `fit`.
        """
        model = self.new_model(seed) if model is None else model
        data: Any = encoded if rows is None else Subset(encoded, rows)
        batches = self.endless(data, self.recipe.training.rows, seed)
        if weights is not None:
            batches = _with(batches, weights)
        return self.run_loop(
            model,
            batches,
            None,
            seed,
            description,
            objective=objective,
            held_out=held_out,
            steps=steps,
            observers=observers,
        )

    def fit_weighted(
        self,
        seed: int,
        description: str,
        weights: np.ndarray,
        *,
        labels: np.ndarray | None = None,
        clean_weights: np.ndarray | None = None,
    ) -> Fit:
        """Plain training on weighted rows, with clean rows beside each batch: on what is exported.

        The loss of a step is (1 − s) · mean(w ℓ) over a batch of training rows plus s · mean(w′ ℓ)
        over one of clean rows, with s the clean rows' part of the sum of all weights, and w and w′
        brought to a mean of 1. Training rows that are clean ones too are left to these, then.

        weights: of the training rows (n,). labels: in place of the given ones, int64 (n,), −1 for
        none. clean_weights: of the clean rows (m,); None: all is on the training rows, and s = 0.
        """
        batches, objective = self.weighted_batches(
            seed, weights, labels=labels, clean_weights=clean_weights
        )
        return self.run_loop(
            self.new_model(seed), batches, None, seed, description, objective=objective
        )

    def weighted_batches(
        self,
        seed: int,
        weights: np.ndarray,
        *,
        labels: np.ndarray | None = None,
        clean_weights: np.ndarray | None = None,
    ) -> tuple[Batches, CleanBeside]:
        """What `fit_weighted` trains on, and its loss."""
        if clean_weights is None:
            batches = self.endless(self.train, self.recipe.training.rows, seed)
            return _with(batches, weights, labels), CleanBeside(0.0, weighted_cross_entropy)
        told = (self.splits.train.labels if labels is None else labels) >= 0
        mean = weights[told & (self.splits.clean_twins < 0)].mean()
        noisy = _with(self.noisy_batches(seed), weights / mean, labels)
        clean = _with(self.clean_batches(seed), clean_weights / clean_weights.mean())
        share = self.clean_share(weights, clean_weights)
        beside = Beside(noisy, "clean", 0, None, clean)
        return beside, CleanBeside(share, weighted_cross_entropy)

    def clean_share(self, weights: np.ndarray, clean_weights: np.ndarray | None) -> float:
        """The part that clean rows have in the sum of all weights; see `fit_weighted`."""
        if clean_weights is None:
            return 0.0
        rows, clean = self.splits.noisy_rows, float(clean_weights.sum(dtype=float))
        noisy = float((weights if rows is None else weights[rows]).sum(dtype=float))
        return clean / (clean + noisy)

    def noisy_batches(self, seed: int) -> Batches:
        """Endless batches of the training rows that are no clean ones too."""
        rows = self.splits.noisy_rows
        data: Any = self.train if rows is None else Subset(self.train, rows)
        return self.endless(data, self.recipe.training.rows, seed)

    def clean_batches(self, seed: int, rows: np.ndarray | None = None) -> Batches:
        """Endless batches of clean rows, all or those, that stand beside the base level's."""
        return self.endless(
            self.clean if rows is None else Subset(self.clean, rows),
            self.recipe.reweight.clean_batch_size or self.recipe.training.rows,
            self.other_seed(seed),
            shared=False,
        )

    def other_seed(self, seed: int) -> int:
        """Of batches beside others that may be of the same rows, in another order; and one for each
        process: a clean set may be smaller than their batches together."""
        return seed + 1_000_003 * (1 + self.accelerator.process_index)

    def part(self, name: str, kind: type[Result], *, keep_model: bool = False) -> Part[Result]:
        """A part of the run, which one that goes on does not repeat; see `Recovery.part`."""
        if self.recovery is None:
            return Part(None)
        new_model = functools.partial(self.new_model, self.recipe.seed) if keep_model else None
        return self.recovery.part(name, kind, new_model=new_model)

    def once(
        self,
        name: str,
        kind: type[Result],
        compute: Callable[[], Result],
        *,
        keep_model: bool = False,
    ) -> Result:
        """`compute()` as a part of the run."""
        part = self.part(name, kind, keep_model=keep_model)
        return part.result or part.finish(compute())

    def evaluate(self, model: nn.Module) -> Evaluation | None:
        """Accuracy and macro-F1 on the test split; None where there is none."""
        if self.test is None or self.splits.test is None:
            return None
        logits = self.predict(model, self.test, "testing")
        return evaluate(self.splits.test.labels, logits.argmax(-1), self.splits.classes)

    def predict(
        self,
        model: nn.Module,
        encoded: Encoded,
        description: str,
        *,
        rows: np.ndarray | None = None,
        output: Callable[[nn.Module, Batch], Tensor] = model_logits,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """Logits (n, classes) float32 of every row of `encoded`, or of the n `rows`.

        `output` may give something else than logits, see `predict`.
        """
        logits = predict(
            model,
            self.in_order(encoded, rows),
            len(encoded),
            self.accelerator,
            output=output,
            progress=progress or self.progress,
            description=description,
        )
        return logits if rows is None else logits[rows]

    def embed(
        self,
        model: nn.Module,
        encoded: Encoded,
        description: str,
        *,
        layer: int = -1,
        rows: np.ndarray | None = None,
    ) -> np.ndarray:
        """What `model` makes of each row, or of the n `rows`, before its head: (n, f) float32."""
        output = functools.partial(pooled_embedding, layer=layer)
        return self.predict(model, encoded, description, rows=rows, output=output)

    @functools.cached_property
    def representations(self) -> tuple[np.ndarray, np.ndarray]:
        """The pretrained model's mean states of the last layer but one, of training and clean rows.

        (n, features) and (m, features) float32, m = 0 without a clean set.
        """
        made = self.once("representations", _Representations, self._represent)
        return made.train, made.clean

    def _represent(self) -> _Representations:
        model = self.new_model(self.recipe.seed)
        train = self.embed(model, self.train, "embedding the training rows", layer=BELIEF_LAYER)
        if self.meta is None:
            return _Representations(train, train[:0])
        clean = self.embed(model, self.meta, "embedding the clean rows", layer=BELIEF_LAYER)
        return _Representations(train, clean)

    def in_order(self, encoded: Encoded, rows: np.ndarray | None = None) -> Iterable[Batch]:
        """Batches of all rows, or the n `rows`, as they are asked about."""
        data: Any = encoded if rows is None else Subset(encoded, rows)
        return make_loader(
            data,
            self.recipe.training.eval_batch_size,
            shuffle=False,
            seed=0,
            **self._loading(data),
        )

    def _loading(self, data: Any) -> dict[str, Any]:
        """Where batches of `data` are made ready, and by how many workers."""
        whole = data.encoded if isinstance(data, Subset) else data
        workers = decoding_workers(whole, self.recipe.data.workers)
        return {"device": self.accelerator.device, "num_workers": workers}

    def _validator(self, held_out: Encoded) -> Validate:
        """(accuracy, −cross-entropy in nats) on clean rows: few rows give many equal accuracies."""

        def validate(model: nn.Module) -> tuple[float, float]:
            logits = self.predict(model, held_out, "validating", progress=Silent())
            right = logits.argmax(-1) == held_out.labels
            loss = torch.nn.functional.cross_entropy(
                torch.from_numpy(logits), torch.from_numpy(held_out.labels)
            )
            return float(right.mean()), -float(loss)

        return validate

    @property
    def clean(self) -> Encoded:
        """The clean set; methods that use it are refused where there is none."""
        assert self.meta is not None
        return self.meta

    @functools.cached_property
    def train_and_meta(self) -> Encoded:
        """The training and the meta split as one, for training on both."""
        assert self.splits.meta is not None
        if isinstance(self.train, EncodedHidden) and isinstance(self.meta, EncodedHidden):
            return self.train.followed_by(self.meta)
        joined = join(self.splits.train, self.splits.meta, self.splits.columns, self.recipe.task)
        encoder = Encoder(
            self.recipe, self.splits, self.processor, self.progress, self.accelerator.device
        )
        return encoder(joined, like=self.train)

    @property
    def sizes(self) -> dict[str, int]:
        """Rows of each split."""
        return {name: 0 if split is None else len(split) for name, split in self._encoded.items()}

    @property
    def _encoded(self) -> dict[str, Encoded | None]:
        return {
            "train": self.train,
            "meta": self.meta,
            "validation": self.validation,
            "test": self.test,
        }

    @property
    def example_columns(self) -> dict[str, Any]:
        """Where an example's text or image is, as `write_suspects` takes it."""
        columns = self.splits.columns
        if self.recipe.task == "image-classification":
            return {"image_column": columns.image}
        return {"text_columns": [c for c in (columns.text, columns.text_pair) if c is not None]}

    def run_loop(
        self,
        model: PreTrainedModel,
        batches: Batches,
        level: Level | None,
        seed: int,
        description: str,
        *,
        objective: Objective = weighted_cross_entropy,
        held_out: Encoded | None = None,
        steps: int | None = None,
        observers: Sequence[Observer] = (),
    ) -> Fit:
        """The training loop with all that the recipe says of it; with a meta level or without.

        batches: as `fit` takes them, on any device. The rest: see `fit_plainly`.
        """
        if held_out is None and self.recipe.training.early_stopping:
            held_out = self.validation
            assert held_out is not None  # the recipe asks for it
        if self.accelerator.process_index > 0:
            set_seed(seed, device_specific=True)  # dropout masks of its own from here on
        augment = None
        if isinstance(self.train, EncodedImages):
            augment = make_augment(self.recipe.training.augment)
        return fit(
            model,
            batches,
            self.steps if steps is None else steps,
            self.recipe.training,
            self.accelerator,
            meta_level=level,
            objective=objective,
            validate=None if held_out is None else self._validator(held_out),
            augment=augment,
            checkpoints=None if self.recovery is None else self.recovery.checkpoints(description),
            observers=observers,
            progress=self.progress,
            description=description,
        )

    def endless(
        self,
        data: Any,
        batch_size: int,
        seed: int,
        *,
        shared: bool = True,
        class_balanced: bool = False,
        crop: bool = True,
    ) -> Batches:
        """Batches without end; processes share out one epoch among them, if `shared`.

        crop: random-resized crops, if the recipe augments by them; else images as at evaluation.
        """
        if crop and "resized-crop" in self.recipe.training.augment:
            data = data.randomly_cropped(seed)
        replicas = self.accelerator.num_processes if shared else 1
        return cycle(
            make_loader(
                data,
                max(1, min(batch_size, len(data) // replicas)),
                shuffle=True,
                seed=seed,
                drop_last=True,
                class_balanced=class_balanced,
                replica=self.accelerator.process_index if shared else 0,
                replicas=replicas,
                **self._loading(data),
            )
        )


def _with(batches: Batches, weights: np.ndarray, labels: np.ndarray | None = None) -> Batches:
    """Batches with each row's weight and, if there are others than the given ones, its label."""
    values = torch.from_numpy(weights.astype(np.float32))
    names = None if labels is None else torch.from_numpy(labels)

    def told(batch: Batch) -> Batch:
        more = {"sample_weight": values[batch["index"]]}
        return batch | more | ({} if names is None else {"labels": names[batch["index"]]})

    return Mapped(batches, told)
