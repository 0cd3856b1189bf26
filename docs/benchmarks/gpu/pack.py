"""What has to travel to a GPU machine without a network, into build/gpu (ignored by git).

wheels   what such a machine lacks beside torch, transformers, scikit-learn and the like
images   CIFAR-10 with the labels that people gave: the same JPEG files, compressed together
text     TREC, ChemProt, and the packaged MiniLM with its weights as float16

Usage: pack.py [wheels] [images] [text] [--data FOLDER] [--betty]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from rehearsal import write_images
from run import PACK, ROOT, commit

PARTS = ("wheels", "images", "text")
# Of what samacli imports: what the machine lacks, and what these need in another version than an
# image of some months ago may have. duckdb (20 MB) is for `sama select` alone and stays at home.
WHEELS = (
    "datasets", "dill", "multiprocess", "xxhash", "fsspec",
    "pydantic", "pydantic_core", "annotated-types", "typing-inspection", "typing_extensions",
    "cleanlab", "termcolor",
)  # fmt: skip
PYTHON = "3.12"
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux1")
MOST_BYTES = 20_000_000


def pinned() -> dict[str, str]:
    """Versions by name, as constraints.txt has them."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if "==" in line)
    return {_same(name): version.strip() for name, version in pairs}


def _same(name: str) -> str:
    return name.lower().replace("_", "-")


def wheels(folder: Path, names: tuple[str, ...]) -> None:
    """Fetch wheels for the machine's Python and platform, at the pinned versions."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    versions = pinned()
    wanted = [f"{n}=={versions[_same(n)]}" if _same(n) in versions else n for n in names]
    platforms = [part for name in PLATFORMS for part in ("--platform", f"{name}_x86_64")]
    # --no-deps: the rest is there. Betty says that it is for older Pythons, and runs on this one.
    subprocess.run(
        [
            sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
            "--only-binary=:all:", "--ignore-requires-python", "--implementation", "cp",
            "--python-version", PYTHON, *platforms, "--dest", str(folder), *wanted,
        ],
        check=True,
    )  # fmt: skip


def images(source: Path, folder: Path) -> None:
    """The image files as they are, in Parquet files with zstandard: a third of the size.

    JPEG files of one quality share their headers, which are most of a picture of 32 × 32. The
    training split gets what people said: `human_aggregate` and `human_worst`.
    """
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        read = pq.read_table(source / f"{split}.parquet")
        told = json.loads(read.schema.metadata[b"huggingface"])["info"]["features"]
        labels = {"label": read["label"].to_numpy()}
        human = source / "human_labels.parquet"
        if split == "train" and human.is_file():
            said = pq.read_table(human)
            assert (said["label"].to_numpy() == labels["label"]).all(), "not the same rows"
            labels |= {n: said[n].to_numpy() for n in said.column_names if n != "label"}
        write_images(
            folder / f"{split}.parquet", read["img"], labels, told["label"]["names"],
            compression="zstd", compression_level=9, use_dictionary=list(labels),
            data_page_size=8 << 20,
        )  # fmt: skip


def texts(source: Path, folder: Path, model: Path) -> None:
    """The text sets as they are, and MiniLM halved: 45 MB, rounded in the fourth digit."""
    from safetensors.torch import load_file, save_file

    from samacli.models.load import model_location

    for name in ("trec", "chemprot"):
        shutil.copytree(source / name, folder / name, dirs_exist_ok=True)
    origin = Path(model_location("minilm"))
    model.mkdir(parents=True, exist_ok=True)
    for file in origin.iterdir():
        if file.suffix in (".json", ".txt"):
            shutil.copyfile(file, model / file.name)
    weights = load_file(origin / "model.safetensors")
    small = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
    save_file(small, model / "model.safetensors", metadata={"format": "pt"})
    config: dict[str, Any] = json.loads((model / "config.json").read_text(encoding="utf-8"))
    # Loaded as float32: it is trained.
    config |= {"dtype": "float32"}
    config.pop("torch_dtype", None)
    (model / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="default: all")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--betty", action="store_true", help="the paper's own library too")
    asked = parser.parse_args()
    PACK.mkdir(parents=True, exist_ok=True)
    parts = asked.parts or PARTS
    if "wheels" in parts:
        wheels(PACK / "wheels", (*WHEELS, *(["betty-ml"] if asked.betty else [])))
        assert size(PACK / "wheels") < MOST_BYTES
    if "images" in parts:
        images(asked.data / "cifar10", PACK / "data" / "cifar10")
    if "text" in parts:
        texts(asked.data, PACK / "data", PACK / "minilm")
    (PACK / "commit.txt").write_text(f"{commit() or ''}\n")
    for name in ("wheels", "data/cifar10", "data/trec", "data/chemprot", "minilm"):
        folder = PACK / name
        if folder.is_dir():
            print(f"{size(folder) / 2**20:6.1f} MiB  {folder.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
