"""Everything that run.py does, in miniature: generated data, a model of one layer, a few steps."""

from __future__ import annotations

import io
import json
import string
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

CLASSES = ("plane", "car", "bird")
# Each recipe's own values are replaced; the names of the methods and settings stay.
COMMON = ["training.steps=2", "training.batch_size=8", "training.precision=fp32", "meta.unroll=1"]
COMMON += ["meta.batch_size=6", "meta.warmup=0", "data.max_length=16"]
IMAGES = ["model.config={embedding_size: 8, hidden_sizes: [8, 8], depths: [1, 1]}"]
IMAGES += ["training.augment=[flip]"]
FEW = ["data.meta_per_class=2"]


def prepare(folder: Path, tables: dict[str, dict[str, Any]]) -> tuple[Path, Path]:
    """Write small data and small tables of it; (folder of the tables, folder of the data)."""
    described, data = folder / "tables", folder / "data"
    described.mkdir(parents=True, exist_ok=True)
    images(data / "cifar10")
    for name in ("trec", "chemprot"):
        texts(data / name)
    model = tiny_bert(folder / "model")
    for name, content in tables.items():
        content["seeds"], content["precision"] = [1], "fp32"
        for setting in content["settings"]:
            own = [f"model.name={model}"] if name == "text" else list(IMAGES)
            own += FEW if any("meta_per_class" in value for value in setting["set"]) else []
            setting["set"] = [*setting["set"], *COMMON, *own]
        if name == "pruning":
            content["keeps"] = content["keeps"][:1]
        content["settings"] = content["settings"][:1] if name == "long-tail" else _groups(content)
        (described / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return described, data


def _groups(content: dict[str, Any]) -> list[dict[str, Any]]:
    """A setting a group."""
    return list({setting["group"]: setting for setting in content["settings"]}.values())


def images(folder: Path) -> None:
    """train.parquet and test.parquet as the pack's: pictures with three kinds of label."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for split, count in (("train", 48), ("test", 12)):
        labels = np.arange(count) % len(CLASSES)
        rows = []
        for label in labels:
            pixels = generator.integers(0, 128, (16, 16, 3), dtype=np.uint8)
            pixels[..., label] += 100
            with io.BytesIO() as file:
                Image.fromarray(pixels).save(file, "PNG")
                rows.append({"bytes": file.getvalue(), "path": None})
        columns = {"label": labels}
        if split == "train":
            columns["human_worst"] = np.where(np.arange(count) % 5 == 0, (labels + 1) % 3, labels)
        write_images(folder / f"{split}.parquet", rows, columns, list(CLASSES))


def write_images(
    file: Path, rows: Any, columns: dict[str, np.ndarray], classes: list[str], **options: Any
) -> None:
    """A Parquet file as on the Hugging Face hub: `img`, and columns of class labels."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    image = rows if isinstance(rows, pa.ChunkedArray) else pa.array(rows, kind)
    label = {"names": classes, "_type": "ClassLabel"}
    features = {"img": {"_type": "Image"}, **dict.fromkeys(columns, label)}
    table = pa.table({"img": image, **{n: pa.array(v, pa.int64()) for n, v in columns.items()}})
    told = json.dumps({"info": {"features": features}})
    pq.write_table(table.replace_schema_metadata({"huggingface": told}), file, **options)


def texts(folder: Path) -> None:
    """train, validation and test of sentences whose class shows, a quarter of the labels wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", 48), ("validation", 18), ("test", 12)):
        with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as file:
            for number in range(count):
                label = number % len(CLASSES)
                weak = (label + (number % 4 == 0)) % len(CLASSES)
                row = {"text": f"the {CLASSES[label]} of day {number}", "weak_label": weak}
                file.write(json.dumps({**row, "label": label}) + "\n")


def tiny_bert(folder: Path) -> Path:
    """A BERT of one layer with a tokenizer of letters."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = string.ascii_lowercase + string.digits
    pieces = [*special, *letters, *(f"##{letter}" for letter in letters)]
    folder.mkdir(parents=True, exist_ok=True)
    backend = BertWordPieceTokenizer(vocab={p: i for i, p in enumerate(pieces)}, lowercase=True)
    backend.save(str(folder / "tokenizer.json"))
    tokenizer = BertTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    tokenizer.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=32,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder
