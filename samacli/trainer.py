"""A `transformers.Trainer` that counts each example by its `sama_weight`."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Trainer

from samacli.export.metrics import LABEL_COLUMN, WEIGHT_COLUMN


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
