"""What is exported, in a `transformers.Trainer`: its rows, and a loss by their weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas
import torch
from transformers import Trainer

from samacli.data.files import read_files
from samacli.data.labels import NONE, class_ids, class_order, label_names, numeric
from samacli.data.table import Table
from samacli.errors import SamaError
from samacli.export.dataset import CLEAN_FILE, with_columns
from samacli.export.metrics import CLEAN_COLUMN, LABEL_COLUMN, WEIGHT_COLUMN
from samacli.recipe.paths import local_path

# What `Trainer`'s collators take for labels.
_LABELS = ("label", "labels", "label_ids", LABEL_COLUMN)
_TEXT = ("string", "large_string")


def rows_to_train_on(
    exported: str | Path | datasets.Dataset, clean: datasets.Dataset | None = None
) -> datasets.Dataset:
    """The exported rows, and the clean rows as often as their share of the loss asks for.

    A clean row's `sama_weight` says how many rows of mean weight it counts for; it comes so many
    times, with what rounding leaves as its weight each time. Training rows that are clean ones too
    come as such. `sama train` draws clean rows beside each batch instead, which is steadier.

    exported: a run's folder, or its `dataset/`; or the rows themselves. clean: with rows, the clean
    ones (`result.clean`); None: without.

    Raises:
        SamaError: the folder holds no exported rows.
    """
    if isinstance(exported, datasets.Dataset):
        rows = exported
    else:
        rows, clean = _read(local_path(exported, "the run").absolute())
    if clean is None:
        return rows
    if CLEAN_COLUMN in rows.column_names:
        noisy = [i for i, number in enumerate(rows[CLEAN_COLUMN]) if number is None]
        rows = rows.select(noisy)
    weights = np.array(clean[WEIGHT_COLUMN])
    times = max(1, round(float(weights.mean())))
    feature = rows.features[WEIGHT_COLUMN]
    clean = clean.remove_columns(WEIGHT_COLUMN)
    clean = clean.add_column(WEIGHT_COLUMN, weights / times, feature=feature)
    again = clean.select(np.repeat(np.arange(len(clean)), times))
    return datasets.concatenate_datasets([rows, again.select_columns(rows.column_names)])


def _read(folder: Path) -> tuple[datasets.Dataset, datasets.Dataset | None]:
    folder = folder / "dataset" if (folder / "dataset").is_dir() else folder
    files = sorted(folder.glob("train-*.parquet"))
    if not files:
        raise SamaError(f"'{folder}' holds no exported rows; name a run's folder or its dataset/")
    # Beside the folder in a run; in a repository of the hub all lies at the top.
    places = (folder.parent / CLEAN_FILE, folder / CLEAN_FILE)
    clean = next((read_files([file]).rows for file in places if file.is_file()), None)
    return read_files(files).rows, clean


class WeightedTrainer(Trainer):
    """Fine-tuning on an exported dataset, as `sama train` does it, with all that `Trainer` offers.

    The loss of a batch of n labelled examples is Σ wᵢ·CE(logitsᵢ, yᵢ) / n: w is the batch's
    `sama_weight` (1 where it has none, as test data have), y its `sama_label` where it has one,
    else its `labels`. A label is a class by name, as the model's `id2label` has it, or by number
    (−1 or −100 for none), or a row of probabilities (a soft label, float (n, classes)).
    `TrainingArguments.label_smoothing_factor` is applied to both. A model whose classes have no
    names yet (LABEL_0, …) takes those of the training rows, in the order that `sama` has them.

    The columns need not be protected with `remove_unused_columns=False`; the default collators keep
    them. Rows may be a pandas `DataFrame` or a list of dicts too.

    >>> import datasets, tempfile
    >>> from transformers import BertConfig, BertForSequenceClassification, TrainingArguments
    >>> rows = datasets.Dataset.from_dict({
    ...     "input_ids": [[1, 2], [3, 4], [5, 6], [7, 8]],
    ...     "label": ["bad", "good", "bad", "good"],
    ...     "sama_weight": [1.9, 0.1, 1.0, 1.0],
    ... })
    >>> config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1,
    ...                     num_attention_heads=1, intermediate_size=8)
    >>> trainer = WeightedTrainer(
    ...     BertForSequenceClassification(config),
    ...     TrainingArguments(tempfile.mkdtemp(), max_steps=2, report_to="none", use_cpu=True,
    ...                       disable_tqdm=True, save_strategy="no"),
    ...     train_dataset=rows,
    ... )
    >>> trainer.train().global_step  # doctest: +ELLIPSIS
    {'train_runtime': ...}
    2
    >>> trainer.model.config.id2label
    {0: 'bad', 1: 'good'}

    Raises:
        SamaError: labels are no classes of the model.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The loss below is a mean; accumulated batches are to be averaged, as with other losses.
        self.model_accepts_loss_kwargs = False
        _name_classes(self.model, _as_dataset(self.train_dataset))

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        assert self._signature_columns is not None
        for column in (WEIGHT_COLUMN, LABEL_COLUMN):
            if column not in self._signature_columns:
                self._signature_columns.append(column)

    def _get_dataloader(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return super()._get_dataloader(_with_ids(_as_dataset(dataset), self.model), *args, **kwargs)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The weighted mean of the batch's losses; with the model's outputs if asked for."""
        inputs = dict(inputs)  # the caller looks for the labels in its own
        weights = inputs.pop(WEIGHT_COLUMN, None)
        labels = inputs.pop("labels")
        labels = inputs.pop(LABEL_COLUMN, labels)
        outputs = model(**inputs)
        logits = outputs.logits.float()
        if labels.is_floating_point():
            count = logits.new_tensor(len(labels))
        else:
            labels = labels.masked_fill(labels < 0, -100)
            count = (labels >= 0).sum().clamp_min(1)
        losses = torch.nn.functional.cross_entropy(
            logits, labels, reduction="none", label_smoothing=self.args.label_smoothing_factor
        )
        if weights is not None:
            losses = losses * weights.to(losses.dtype)
        loss = losses.sum() / count
        return (loss, outputs) if return_outputs else loss


def _as_dataset(rows: Any) -> Any:
    if isinstance(rows, pandas.DataFrame):
        return datasets.Dataset.from_pandas(rows, preserve_index=False)
    if isinstance(rows, list) and rows and isinstance(rows[0], Mapping):
        return datasets.Dataset.from_list(rows)
    return rows


def _label_columns(rows: Any) -> list[str]:
    """The columns of class names or numbers; soft labels are none."""
    if not isinstance(rows, datasets.Dataset):
        return []
    kinds = datasets.Value | datasets.ClassLabel
    return [name for name in _LABELS if isinstance(rows.features.get(name), kinds)]


def _names(rows: datasets.Dataset, column: str) -> np.ndarray:
    """object (n,): the labels as text, None for none."""
    names = label_names(Table(rows, "the rows for the trainer"), column, None)
    names[names == "-100"] = None
    return names


def _classes(model: Any) -> list[str]:
    """What the model calls its outputs; none where it has no configuration."""
    names: Any = getattr(getattr(model, "config", None), "id2label", None) or {}
    return [str(names[i]) for i in sorted(names)]


def _name_classes(model: Any, rows: Any) -> None:
    """Call the outputs of a model that has no names for them what the training rows call them."""
    columns, classes = _label_columns(rows), _classes(model)
    if not columns or not classes or classes != [f"LABEL_{i}" for i in range(len(classes))]:
        return
    features = [rows.features[column] for column in columns]
    declared = next((f.names for f in features if isinstance(f, datasets.ClassLabel)), None)
    if declared is None and not all(f.dtype in _TEXT for f in features):
        return  # numbers are the model's own already
    names = class_order(np.concatenate([_names(rows, column) for column in columns]), declared)
    if len(names) != len(classes):
        if declared is not None:
            return
        raise SamaError(
            f"the labels are {len(names)} classes ({', '.join(names[:12])}), and the model has "
            f"{len(classes)} outputs; load it with num_labels={len(names)}"
        )
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: i for i, name in enumerate(names)}


def _with_ids(rows: Any, model: Any) -> Any:
    """Rows with labels as the model's class numbers, −100 for none."""
    columns: dict[str, tuple[Any, Any]] = {}
    classes = _classes(model)
    for column in _label_columns(rows):
        feature = rows.features[column]
        names = _names(rows, column)
        if "-1" not in classes and feature.dtype not in _TEXT:
            names[names == "-1"] = None
        found = {name for name in names if name is not None}
        unknown = sorted(found - set(classes))
        if not unknown:
            ids = class_ids(names, classes)
        elif len(unknown) == len(found) and isinstance(feature, datasets.ClassLabel):
            ids = class_ids(names, feature.names)
        elif len(unknown) == len(found) and numeric(found) and feature.dtype not in _TEXT:
            ids = np.array([NONE if name is None else int(name) for name in names])
        else:
            raise SamaError(
                f"the label '{unknown[0]}' (column '{column}') is no class of the model; those it "
                f"has are: {', '.join(classes[:12])}; load the model with id2label and label2id"
            )
        ids = np.where(ids == NONE, -100, ids)
        columns[column] = (ids, datasets.Value("int64"))
    return with_columns(rows, columns) if columns else rows
