"""What all contenders of a benchmark have in common, and what is measured of one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import torch
from transformers import AutoConfig, BertConfig, BertForSequenceClassification, PreTrainedModel

import samacli
from samacli.errors import SamaError, nearest
from samacli.models.load import load_model, model_location
from samacli.models.small_resnet import SMALL_RESNETS
from samacli.recipe import Model
from samacli.training.runtime import DeviceName, make_accelerator

CLASSES = 6
POSITIONS = 512


@dataclass(frozen=True)
class Workload:
    """What is trained, on what, and where.

    model: a built-in geometry's name, a hub name, or a path.
    batch_size: examples a process; sequence_length: tokens an example.
    unroll: base steps to a meta step; world_size: processes.
    device: "cpu", "cuda" or "mps"; precision: "fp32", or "bf16" by autocast.
    """

    model: str
    batch_size: int
    sequence_length: int
    unroll: int
    world_size: int
    device: str
    precision: str
    seed: int

    @property
    def name(self) -> str:
        """For people: `bert-base, unroll 1, 2 processes`."""
        processes = f"{self.world_size} process{'es' if self.world_size > 1 else ''}"
        return f"{self.model}, unroll {self.unroll}, {processes}"


@dataclass(frozen=True)
class Measurement(Workload):
    """One contender on one workload. Figures are None where `error` says why there are none.

    estimator: its name, with its form where one was asked for; form: the one that ran.
    parameters: of the base model; threads: of each process.
    samples_per_second: base-level examples of all processes; the median over the rounds.
    relative_throughput: plain's seconds over the estimator's, chunk by chunk in alternation; the
        median over the rounds, and its quartiles.
    peak_memory_bytes: of the process that took most, see `PeakMemory`; relative_memory: over
        plain's.
    meta_step: seconds of each part, see `breakdown`; derivatives: see `derivatives`.
    """

    estimator: str
    form: str | None
    parameters: int | None
    device_name: str
    threads: int | None = None
    rounds: int = 0
    steps_per_round: int | None = None
    samples_per_second: float | None = None
    samples_per_second_quartiles: list[float] | None = None
    relative_throughput: float | None = None
    relative_throughput_quartiles: list[float] | None = None
    peak_memory_bytes: int | None = None
    relative_memory: float | None = None
    meta_step: dict[str, float] | None = None
    derivatives: list[dict[str, Any]] | None = None
    error: str | None = None
    torch: str = torch.__version__
    samacli: str = samacli.__version__

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def workloads(
    models: Sequence[str],
    unrolls: Sequence[int],
    world_sizes: Sequence[int],
    *,
    batch_size: int,
    sequence_length: int,
    device: DeviceName,
    precision: Literal["auto", "fp32", "bf16"],
    seed: int,
) -> list[Workload]:
    """Every combination, models outermost.

    Raises:
        SamaError: a model that cannot be had or is too short for the sequences, a device that is
            not there, or more processes than it can take.
    """
    if not models:
        raise SamaError("--model names no model; give for instance --model bert-base")
    for model in models:
        positions = POSITIONS if model in GEOMETRIES else _positions(model)
        if positions is not None and sequence_length > positions:
            raise SamaError(
                f"--sequence-length {sequence_length} is more than the {positions} positions of "
                f"'{model}'; give a shorter one"
            )
    accelerator = make_accelerator(device, precision)
    where, most = accelerator.device.type, max(world_sizes)
    if most > 1 and where == "mps":
        raise SamaError(f"--nproc {most}: on --device mps there is one process; give --nproc 1")
    if where == "cuda" and most > torch.cuda.device_count():
        raise SamaError(
            f"--nproc {most} is more than the {torch.cuda.device_count()} GPU(s) here; "
            "give fewer processes, or --device cpu"
        )
    number = "bf16" if accelerator.mixed_precision == "bf16" else "fp32"
    return [
        Workload(model, batch_size, sequence_length, unroll, world_size, where, number, seed)
        for model, unroll, world_size in product(models, unrolls, world_sizes)
    ]


def _positions(name: str) -> int | None:
    if name in SMALL_RESNETS:
        raise SamaError(f"--model '{name}' reads images; the benchmark trains text models")
    try:
        config = AutoConfig.from_pretrained(model_location(name), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise SamaError(
            f"--model '{name}' is neither a model that can be reached on the hub or at that path "
            f"nor one of {', '.join(GEOMETRIES)}{nearest(name, GEOMETRIES)}"
        ) from error
    if getattr(config, "vocab_size", None) is None:
        raise SamaError(f"--model '{name}' has no vocabulary; the benchmark trains text models")
    return getattr(config, "max_position_embeddings", None)


def _geometry(layers: int, hidden: int, heads: int, vocabulary: int = 30522) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
        "vocab_size": vocabulary,
        "max_position_embeddings": POSITIONS,
    }


# BERTs by their size, random weights: arXiv 1810.04805 and 1908.08962; minilm is MiniLM-L6, arXiv
# 2002.10957.
GEOMETRIES: dict[str, dict[str, Any]] = {
    "bert-tiny": _geometry(2, 128, 2),
    "bert-mini": _geometry(4, 256, 4),
    "minilm": _geometry(6, 384, 12),
    "bert-base": _geometry(12, 768, 12),
    "bert-large": _geometry(24, 1024, 16),
}
REHEARSAL = "rehearsal"  # what a contender's process loads its libraries with


def build_model(name: str) -> PreTrainedModel:
    """A classifier in training mode on the CPU; random weights come from torch's random state.

    Raises:
        SamaError: it cannot be loaded.
    """
    geometry = _geometry(1, 16, 2, 64) if name == REHEARSAL else GEOMETRIES.get(name)
    if geometry is not None:
        config = BertConfig(**{**geometry, "num_labels": CLASSES})
        model: PreTrainedModel = BertForSequenceClassification(config)
    else:
        labels = [str(i) for i in range(CLASSES)]
        model = load_model(Model(name=name), "text-classification", labels)
    return model.train()
