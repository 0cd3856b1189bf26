"""Finished runs written by hand: their files alone, with any text in them."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from samacli.export.escape import write_csv

SEEDS = [0, 1, 2]


def method(*accuracy: float, **more: Any) -> dict[str, Any]:
    return {
        "accuracy": list(accuracy),
        "macro_f1": [value - 0.01 for value in accuracy],
        "seconds": [12.5 for _ in accuracy],
        "samples_per_second": [250.0 for _ in accuracy],
        "peak_memory_bytes": [2**30 for _ in accuracy],
        **more,
    }


def write_run(
    folder: Path,
    *,
    workflow: str = "reweight",
    classes: Sequence[str] = ("sport", "money", "film"),
    texts: Sequence[str] | None = None,
    images: bool = False,
    methods: dict[str, Any] | None = None,
    rows: int = 60,
) -> Path:
    """A run with a third of its labels suspected; row i's input position is 2 · i."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    codes = np.arange(rows) % len(classes)
    given = [classes[code] for code in codes]
    wrong = np.arange(rows) % 3 == 1
    suggested = [classes[(code + bad) % len(classes)] for code, bad in zip(codes, wrong)]  # noqa: B905
    weight = np.where(wrong, 0.2, 1.4) + generator.uniform(0, 0.1, rows)
    weight /= weight.mean()
    loss = np.where(wrong, 2.0, 0.3) + generator.uniform(0, 0.5, rows)
    probability = np.where(wrong, 0.9, 0.05) + generator.uniform(0, 0.05, rows)
    texts = texts or [f"text number {i}" for i in range(rows)]
    keep = weight >= np.sort(weight)[rows // 2]
    pruned = workflow == "prune"
    scores: dict[str, Any] = {
        "index": 2 * np.arange(rows),
        "given_label": pa.array(given).dictionary_encode(),
        "prediction": pa.array(suggested).dictionary_encode(),
        "loss": loss.astype(np.float32),
        "uncertainty": generator.uniform(0, 0.1, rows).astype(np.float32),
        "score" if pruned else "weight": weight.astype(np.float32),
    }
    scores |= {"keep": keep} if pruned else {"mislabelled": probability.astype(np.float32)}
    pq.write_table(pa.table(scores), folder / "scores.parquet")
    (folder / "dataset").mkdir(exist_ok=True)
    content: dict[str, Any] = {"text": [texts[i % len(texts)] for i in range(rows)]}
    if images:
        content = {"image": [{"bytes": _png(i), "path": None} for i in range(rows)]}
    table = pa.table({**content, "label": given, "sama_weight": weight.astype(np.float32)})
    if not pruned:
        table = table.append_column("sama_label", pa.array(suggested))
    half = rows // 2  # two files, several row groups each
    table = table.filter(pa.array(keep)) if pruned else table
    for i, part in enumerate((table.slice(0, half), table.slice(half))):
        pq.write_table(part, folder / "dataset" / f"train-0000{i}-of-00002.parquet", 7)
    order = [i for i in np.argsort(-probability, kind="stable").tolist() if wrong[i]]
    shown = "image" if images else "text"
    if images:
        (folder / "suspects").mkdir(exist_ok=True)
        for i in order:
            (folder / "suspects" / f"{i}.png").write_bytes(_png(i))
    known = [] if pruned else ["probability"]
    write_csv(
        folder / "suspects.csv",
        ["index", *known, "weight", "given_label", "suggested_label", "loss", shown],
        [
            [
                2 * i,
                *([] if pruned else [f"{probability[i]:.4f}"]),
                f"{weight[i]:.4f}",
                given[i],
                suggested[i],
                f"{loss[i]:.4f}",
                f"suspects/{i}.png" if images else texts[i % len(texts)],
            ]
            for i in order
        ],
    )
    (folder / "curves").mkdir(exist_ok=True)
    write_csv(
        folder / "curves" / "learning.csv",
        ["method", "seed", "step", "loss", "meta_loss"],
        [
            [name, seed, step, f"{1 / step:.4f}", "" if name == "noisy" else f"{2 / step:.4f}"]
            for name in ("noisy", "sama")
            for seed in SEEDS
            for step in range(1, 21)
        ],
    )
    write_csv(
        folder / "curves" / "weight_by_loss.csv",
        ["seed", "class", "loss", "weight"],
        [
            [seed, name, loss, f"{2 / (1 + loss):.4f}"]
            for seed in SEEDS
            for name in classes
            for loss in (0.0, 0.5, 1.0, 1.5, 2.0)
        ],
    )
    if methods is None:
        methods = {
            "noisy": method(0.61, 0.62, 0.63, recall={name: [0.6, 0.6, 0.6] for name in classes}),
            "clean": method(0.58, 0.57, 0.59, recall={name: [0.5, 0.5, 0.5] for name in classes}),
            "sama": method(0.80, 0.81, 0.82, recall={name: [0.8, 0.8, 0.8] for name in classes}),
        }
    columns = {"image_column": "image"} if images else {"text_columns": ["text"]}
    metrics = {
        "workflow": workflow,
        "seeds": SEEDS,
        "steps": 20,
        "rows": {"train": rows, "meta": 30, "validation": 0, "test": 900},
        "methods": methods,
        "keep": {"0.5": rows // 2, "0.25": rows // 4},
        "noise_detection": {"noise_rate": 0.25, "average_precision": 0.875, "auroc": 0.93},
        "seconds": 321.0,
        "peak_memory_bytes": 2**30,
        "processes": 1,
        "environment": {"samacli": "0.1", "torch": "2.13.0", "device": "cpu"},
        "suspects": len(order),
        "classes": list(classes),
        "columns": columns,
        "fingerprints": {"train": "ab" * 32, "test": "cd" * 32},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    correct = "true" if workflow == "reweight" else "false"
    (folder / "recipe.yaml").write_text(
        f"description: A run by hand\ntask: text-classification\nrepeats: 3\n"
        f"reweight: {{features: [loss, label], correction: {correct}}}\n"
        f"prune: {{features: [loss, uncertainty], keep: [0.5, 0.25]}}\n",
        encoding="utf-8",
    )
    return folder


def pruning() -> dict[str, Any]:
    """Methods of a pruning run at two keeps."""
    return {
        "full": method(0.90, 0.91, 0.92),
        "random": {
            **method(0.85, 0.86, 0.87),
            "by_keep": {"0.5": method(0.85, 0.86, 0.87), "0.25": method(0.75, 0.76, 0.77)},
        },
        "sama": {
            **method(0.93, 0.94, 0.95),
            "by_keep": {"0.5": method(0.93, 0.94, 0.95), "0.25": method(0.85, 0.86, 0.87)},
        },
    }


def _png(i: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
