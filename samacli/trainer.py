"""What is exported, in a `transformers.Trainer`: its rows, and a loss by their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from transformers import Trainer

from samacli.data.files import read_files
from samacli.errors import SamaError
from samacli.export.dataset import CLEAN_FILE
from samacli.export.metrics import CLEAN_COLUMN, LABEL_COLUMN, WEIGHT_COLUMN
from samacli.recipe.paths import local_path


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
    else its `labels`. A label is a class id, −1 or −100 for none, or a row of probabilities (a soft
    label, float (n, classes)). `TrainingArguments.label_smoothing_factor` is applied to both.

    The columns need not be protected with `remove_unused_columns=False`; the default collators keep
    them.

    >>> import datasets, tempfile
    >>> from transformers import BertConfig, BertForSequenceClassification, TrainingArguments
    >>> rows = datasets.Dataset.from_dict({
    ...     "input_ids": [[1, 2], [3, 4], [5, 6], [7, 8]],
    ...     "label": [0, 1, 0, 1],
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
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The loss below is a mean; accumulated batches are to be averaged, as with other losses.
        self.model_accepts_loss_kwargs = False

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        assert self._signature_columns is not None
        for column in (WEIGHT_COLUMN, LABEL_COLUMN):
            if column not in self._signature_columns:
                self._signature_columns.append(column)

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
