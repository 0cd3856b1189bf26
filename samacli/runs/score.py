"""`sama score`: what one trained model says of every row of a data set, in shards.

data, part by part → model → formulas → score shards
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from samacli.bilevel.rater import Rater
from samacli.data import encode, make_loader
from samacli.data.parts import Parts, open_parts, part_split
from samacli.data.split import Split
from samacli.data.table import quiet_datasets
from samacli.errors import SamaError, counted, nearest
from samacli.export.metrics import class_names
from samacli.export.score_shards import ScoreShards, is_finished, join_shards, open_shards
from samacli.models import load_model, load_processor
from samacli.progress import Progress, Silent
from samacli.pruning.scores import WindowScore
from samacli.recipe import Data, Model
from samacli.registry import SCORES, load, scores_of
from samacli.runs.saved_model import SavedModel, find_model, reading, with_columns
from samacli.training.embed import last_linear, listening_to, pooled_embedding
from samacli.training.experiment import BELIEF_LAYER
from samacli.training.objective import model_logits, to_device
from samacli.training.observation import Observation
from samacli.training.runtime import DeviceName, make_accelerator

ROWS_A_SHARD = 10_000

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class ScoreResult:
    """rows: scored, in all; resumed: of these, rows that were scored before this call."""

    output: Path
    rows: int
    resumed: int
    scores: list[str]
    seconds: float


def score(
    run: Path,
    data: str,
    output: Path,
    *,
    split: str = "train",
    config: str | None = None,
    revision: str | None = None,
    stream: bool = False,
    text_column: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    names: Sequence[str] | None = None,
    rate: bool = False,
    batch_size: int = 64,
    workers: int = 0,
    precision: Precision | None = None,
    rows_a_shard: int = ROWS_A_SHARD,
    overwrite: bool = False,
    device: DeviceName = "auto",
    progress: Progress | None = None,
) -> ScoreResult:
    """Score every row of `data` by the model of `run`, a finished run or a saved model.

    data: a file, a folder, or a data set on the hub, of which `split` is scored; columns and text
    length are those of the run's recipe unless they are given. names: by default all that the
    registry has for it. rate: `slope` and `weight` by the run's rater in place of scores; see
    `samacli.bilevel.rater`. precision: by default the recipe's; bf16 is faster where it is computed
    in, and leaves three digits, so that more scores are equal.

    `output` gets shards of `rows_a_shard` rows as they are made, with the columns `index` (position
    in the split), `given_label`, `prediction` and the scores, of which the higher is kept first.
    Those of the given label are NaN where there is none. A call that finds shards of the same
    model, data and settings goes on with the missing ones. Memory holds one shard. Several
    processes share the shards, and the first of them finishes the manifest.

    Raises:
        SamaError: anything wrong with the model, the data, the options, or `output`.
    """
    progress = progress or Silent()
    started = time.perf_counter()
    names = [] if rate else _names(names)
    for option, value in (("--batch-size", batch_size), ("--shard-rows", rows_a_shard)):
        if value < 1:
            raise SamaError(f"{option} {value} is too little; give 1 or more")
    rater = None
    if rate:
        run = run.parent if run.name == "rater" else run
        rater = _Rating(run / "rater")
        names = list(rater.columns)
    saved = find_model(run)
    columns = with_columns(saved.recipe.data.columns, text_column, image_column, label_column)
    source = {"train": data} if Path(data).is_file() else {"path": data, "train": split}
    read = reading(
        saved.recipe.data,
        **source,
        config=config,
        revision=revision,
        columns=columns,
        normalize="auto",  # by the processor that was saved with the model
        memory_limit_mb=0,  # images are decoded when their batch comes
    )
    parts = open_parts(read, stream=stream)
    _check_not_empty(parts, data)
    accelerator = make_accelerator(device, precision or saved.recipe.training.precision)
    scorer = _Scorer(saved, read, names, rater, batch_size, workers, accelerator)

    if accelerator.is_main_process:
        shards = open_shards(
            output,
            model=_model_identity(saved.folder)
            | ({} if rater is None else _model_identity(rater.folder)),
            data=parts.identity,
            settings={
                "scores": names,
                "columns": columns.model_dump(exclude={"true_label"}),
                **read.model_dump(include={"max_length", "image_size", "shortest_edge"}),
                # Padding and the kind of arithmetic change the last digits.
                "batch_size": batch_size,
                "precision": accelerator.mixed_precision,
                "device": accelerator.device.type,
            },
            rows_a_shard=rows_a_shard,
            overwrite=overwrite,
        )
    accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        shards = join_shards(output, rows_a_shard)
    there = _there(shards, parts.rows)
    # Nobody writes before all have looked, so that all share out the same missing shards.
    accelerator.wait_for_everyone()
    turns = itertools.count()

    def mine(shard: int) -> bool:
        if shard in there:
            return False
        return next(turns) % accelerator.num_processes == accelerator.process_index

    first = next(number for number in itertools.count() if number not in there)
    resumed = sum(there.values())
    if resumed:
        progress.note(f"going on: {counted(resumed, 'row is', 'rows are')} scored already")
    left = 0 if parts.rows is None else parts.rows - resumed
    with quiet_datasets(), progress.task("scoring", left // accelerator.num_processes) as task:
        for shard, table in parts.read(rows_a_shard, first, mine):
            rows = part_split(table, shard * rows_a_shard, columns, saved.task, saved.classes)
            shards.write(shard, scorer.columns(rows, task.advance))
            if parts.rows is None:
                progress.note(f"scored rows up to {int(rows.index[-1]):,}")
    assert parts.rows is not None  # known at the end of a stream too
    _check_not_empty(parts, data)
    if accelerator.is_main_process and not is_finished(output):
        shards.wait_for(parts.rows)
        shards.finish(parts.rows)
    return ScoreResult(output, parts.rows, resumed, names, time.perf_counter() - started)


class _Rating:
    """A run's rater with the pretrained model that it looks at besides."""

    columns = ("slope", "weight")

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rater, facts = Rater.load(folder)
        self._model = Model.model_validate(facts.get("model"))
        self.pretrained: nn.Module | None = None

    def to(self, device: torch.device, saved: SavedModel) -> None:
        """Load the pretrained model, if it is looked at."""
        if self.rater.sees_representation:
            model: nn.Module = load_model(self._model, saved.task, saved.classes)
            self.pretrained = model.to(device).eval()

    def columns_of(self, seen: Observation, batch: dict[str, Any]) -> dict[str, np.ndarray]:
        """Of a batch on the device."""
        table = None
        if self.pretrained is not None:
            table = pooled_embedding(self.pretrained, batch, layer=BELIEF_LAYER)
        found = self.rater.rate(seen.logits, seen.labels, table)
        return dict(zip(self.columns, found, strict=True))


class _Scorer:
    """A trained model that gives the columns of a shard."""

    def __init__(
        self,
        saved: SavedModel,
        read: Data,
        names: list[str],
        rating: _Rating | None,
        batch_size: int,
        workers: int,
        accelerator: Any,
    ) -> None:
        self._names, self._rating = names, rating
        self._saved, self._read = saved, read
        self._batch_size, self._workers, self._accelerator = batch_size, workers, accelerator
        settings = Model(name=str(saved.folder))
        self._processor = load_processor(settings, saved.task)
        if self._processor is None:
            raise SamaError(
                f"'{saved.folder}' has no image processor (preprocessor_config.json) to tell how "
                "its images were made; score with a model that a run saved"
            )
        model = load_model(settings, saved.task, saved.classes)
        self._model: nn.Module = model.to(accelerator.device).eval()
        if rating is not None:
            rating.to(accelerator.device, saved)
            names = []
        self._scores: dict[str, type[WindowScore]] = {n: load(SCORES[n].where) for n in names}
        listens = any(score.needs_features for score in self._scores.values())
        self._layer = last_linear(model) if listens else None

    def columns(self, rows: Split, advance: Callable[[int], None]) -> dict[str, Any]:
        """A shard's columns, a row a row of the split; `advance` is told of every batch."""
        found = {name: np.full(len(rows), np.nan, dtype=np.float32) for name in self._names}
        prediction = np.empty(len(rows), dtype=np.int64)
        with tempfile.TemporaryDirectory(prefix="sama-tokens-") as tokens:
            encoded = encode(
                rows,
                self._read.columns,
                self._saved.task,
                processor=self._processor,
                config=self._read,
                cache_dir=Path(tokens),
            )
            for batch in make_loader(
                encoded, self._batch_size, shuffle=False, seed=0, num_workers=self._workers
            ):
                place = batch["index"].numpy()
                moved = to_device(batch, self._accelerator.device)
                seen = self._seen(moved)
                for name, score in self._scores.items():
                    found[name][place] = score.value(seen).cpu().numpy()
                if self._rating is not None:
                    for name, values in self._rated(self._rating, seen, moved).items():
                        found[name][place] = values
                prediction[place] = seen.logits.argmax(-1).cpu().numpy()
                advance(len(place))
        return {
            "index": rows.index,
            "given_label": class_names(rows.labels, self._saved.classes),
            "prediction": class_names(prediction, self._saved.classes),
            **found,
        }

    @torch.inference_mode()
    def _rated(
        self, rating: _Rating, seen: Observation, batch: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        with self._accelerator.autocast():
            return rating.columns_of(seen, batch)

    @torch.inference_mode()
    def _seen(self, moved: dict[str, Any]) -> Observation:
        layer, heard = self._layer, list[Tensor]()
        with self._accelerator.autocast(), contextlib.ExitStack() as listening:
            if layer is not None:
                heard = listening.enter_context(listening_to(layer))
            logits = model_logits(self._model, moved)
        features = heard[-1].float() if heard else None
        bias = layer is not None and layer.bias is not None
        return Observation(moved["index"], moved["labels"], logits, features, 1.0, bias)


def _names(names: Sequence[str] | None) -> list[str]:
    known = scores_of("score")
    if names is None:
        return known
    for name in names:
        if name not in known:
            raise SamaError(
                f"one trained model gives no score '{name}' (--scores); it gives "
                f"{', '.join(known)}{nearest(name, known)}"
            )
    if not names:
        raise SamaError(f"--scores names none; choose from {', '.join(known)}")
    return list(dict.fromkeys(names))


def _check_not_empty(parts: Parts, data: str) -> None:
    if parts.rows == 0:
        raise SamaError(f"'{data}' has no rows to score")


def _there(shards: ScoreShards, rows: int | None) -> dict[int, int]:
    """The shards that are there and whole, with their numbers of rows."""
    found = {}
    for file in shards.folder.glob("scores-*.parquet"):
        shard = int(file.stem.removeprefix("scores-"))
        # Of a stream the last one may be short and right; it is made again.
        expected = shards.rows_a_shard
        if rows is not None:
            expected = min(expected, rows - shard * shards.rows_a_shard)
        if shards.rows(shard) == expected:
            found[shard] = expected
    return found


def _model_identity(folder: Path) -> dict[str, str]:
    """A hash of every file that decides what the model makes of an example."""
    found = {}
    for file in sorted(folder.iterdir()):
        if file.suffix in (".safetensors", ".json", ".txt", ".model"):
            with file.open("rb") as contents:
                found[file.name] = hashlib.file_digest(contents, "blake2b").hexdigest()[:32]
    return found
