"""docs/bad-inputs.md: what is wrong with each input, and the sentence that `sama` says to it.

Every row is tried: files are written into an empty folder, the command is run there, and its exit
code and its last line are taken down. `make bad-inputs` writes the page.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import json
import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = Path(__file__).with_name("bad-inputs.md")
HEAD = """# Bad inputs, and what is said to each

Made by `make bad-inputs`: each of these was tried, ended with exit code 2 and this sentence, wrote
nothing and showed no traceback. [At the end](#odd-inputs-and-what-becomes-of-them) is what is odd
but can be read. `make fuzz` tries ten thousand more, broken at random; the last time, at commit
7a47a94: 10,013 inputs, no traceback, and no cell or row that was changed silently."""
ODD = """
## Odd inputs, and what becomes of them

Each of these is read, and the command goes on; this is what it says of them (`--dry-run`).

| what is odd | what is said |
| --- | --- |"""

GOOD = "text,label\na good film,x\na bad film,y\nthe best day,x\nthe worst day,y\n"
File = str | bytes | Callable[[Path], None]


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../escaped.csv", GOOD)


def pickled(path: Path) -> None:
    import torch

    path.parent.mkdir(exist_ok=True)
    torch.save({"weight": Path("x")}, path)


def link_out(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.symlink_to("/etc/hostname")


def held(path: Path) -> None:
    """Another command's lock on the output, until this process ends."""
    from samacli.store.lock import Lock

    lock = Lock()
    assert lock.take(path)
    atexit.register(lock.release)


def strange_weights(path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"tower.weight": torch.zeros(2)}, path, {"format": "pt"})


def picture(path: Path) -> None:
    from PIL import Image

    Image.new("L", (8, 8)).save(path)


@functools.cache
def tiny_model() -> Path:
    """A configuration and a tokenizer, as far as these inputs come."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertTokenizerFast

    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad"]
    backend = BertWordPieceTokenizer(vocab={piece: i for i, piece in enumerate(pieces)})
    backend.save(str(folder / "tokenizer.json"))
    BertTokenizerFast(tokenizer_file=str(folder / "tokenizer.json")).save_pretrained(folder)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    BertConfig(vocab_size=len(pieces), intermediate_size=8, **sizes).save_pretrained(folder)
    return folder


@functools.cache
def weights(classes: int) -> Path:
    """The tiny model's."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    torch.manual_seed(0)
    config = BertConfig.from_pretrained(tiny_model(), num_labels=classes)
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder / "model.safetensors"


def trained(path: Path) -> None:
    shutil.copy(weights(2), path)


def of_classes(*names: str) -> dict[str, File]:
    """The tiny model as one that was trained for these."""
    config = json.loads((tiny_model() / "config.json").read_text())
    config |= {"architectures": ["BertForSequenceClassification"]}
    config |= {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}
    return {
        "tiny/model.safetensors": lambda path: shutil.copy(weights(len(names)), path) and None,
        "tiny/config.json": json.dumps(config),
    }


def pickled_tensors(path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(weights(2)), path)


def jfif(path: Path) -> None:
    from PIL import Image

    Image.new("L", (8, 8), len(str(path.parent))).save(path, "JPEG")


TEXT = ["reweight", "--model", "tiny", "--meta", "clean.csv", "--train"]
IMAGES = ["prune", "--model", "resnet8-small", "--image-column", "image", "--train"]
WRENCH = [
    "reweight",
    "--model",
    "tiny",
    "data.path=set",
    "data.meta=train",
    "data.meta_per_class=1",
]
NAMES = '{"0": "HAM", "1": "SPAM"}'


def votes(*rows: object) -> str:
    return json.dumps({str(i): row for i, row in enumerate(rows)})


def row(label: object = 0, weak: object = (0, 1), **data: object) -> dict[str, object]:
    return {"label": label, "weak_labels": list(weak), "data": data or {"text": "hello"}}


# (section, what is wrong, files beside clean.csv and tiny/, arguments)
CASES: list[tuple[str, str, dict[str, File], list[str]]] = [
    ("Recipes", "no such recipe", {}, ["reweight", "demo-txt"]),
    ("Recipes", "a file that is missing", {}, ["reweight", "mine.yaml"]),
    ("Recipes", "a directory", {"mine.yaml/x": ""}, ["reweight", "mine.yaml"]),
    ("Recipes", "not UTF-8", {"r.yaml": b"\xff\xfe"}, ["reweight", "r.yaml"]),
    ("Recipes", "not YAML", {"r.yaml": "data: [1, 2"}, ["reweight", "r.yaml"]),
    ("Recipes", "a list", {"r.yaml": "- data\n"}, ["reweight", "r.yaml"]),
    ("Recipes", "a key twice", {"r.yaml": "seed: 1\nseed: 2\n"}, ["reweight", "r.yaml"]),
    ("Recipes", "nested 5,000 deep", {"r.yaml": "[" * 5000}, ["reweight", "r.yaml"]),
    ("Recipes", "a date that is none", {"r.yaml": "seed: 2024-99-99"}, ["reweight", "r.yaml"]),
    (
        "Recipes",
        "a Python object",
        {"r.yaml": "seed: !!python/object/apply:os.system ['true']\n"},
        ["reweight", "r.yaml"],
    ),
    ("Recipes", "a misspelt key", {}, ["reweight", "trainig.epochs=2"]),
    ("Recipes", "the wrong section", {}, ["reweight", "training.unroll=2"]),
    ("Recipes", "a wrong type", {}, ["reweight", "training.steps=many"]),
    ("Recipes", "a value out of range", {}, ["reweight", "meta.unroll=0"]),
    ("Recipes", "an unknown choice", {}, ["reweight", "meta.method=samma"]),
    ("Recipes", "a section as a value", {}, ["reweight", "meta=3", "meta.unroll=2"]),
    ("Recipes", "two recipes", {}, ["reweight", "trec", "youtube"]),
    ("Recipes", "extends itself", {"r.yaml": "extends: r.yaml\n"}, ["reweight", "r.yaml"]),
    ("Recipes", "extends nothing", {"r.yaml": "extends: trek\n"}, ["reweight", "r.yaml"]),
    ("Tables", "no such file", {}, [*TEXT, "nowhere.csv"]),
    ("Tables", "empty", {"t.csv": ""}, [*TEXT, "t.csv"]),
    ("Tables", "a header alone", {"t.csv": "text,label\n"}, [*TEXT, "t.csv"]),
    ("Tables", "Latin-1", {"t.csv": b"text,label\ncaf\xe9,x\n"}, [*TEXT, "t.csv"]),
    ("Tables", "a ragged line", {"t.csv": "text,label\na,x\nb,y,z\n"}, [*TEXT, "t.csv"]),
    ("Tables", "a column twice", {"t.csv": "text,text\na,b\n"}, [*TEXT, "t.csv"]),
    ("Tables", "no text column", {"t.csv": "txt,label\na,x\n"}, [*TEXT, "t.csv"]),
    ("Tables", "no label column", {"t.csv": "text,lable\na,x\n"}, [*TEXT, "t.csv"]),
    ("Tables", "numbers as text", {"t.csv": "text,label\n1,x\n2,y\n"}, [*TEXT, "t.csv"]),
    ("Tables", "an empty text", {"t.csv": "text,label\na,x\n,y\n"}, [*TEXT, "t.csv"]),
    ("Tables", "a fraction as label", {"t.csv": "text,label\na,0.5\nb,1\n"}, [*TEXT, "t.csv"]),
    (
        "Tables",
        "clean labels that training lacks",
        {"t.csv": "text,label\na,p\nb,q\n"},
        [*TEXT, "t.csv"],
    ),
    ("Tables", "no clean set", {"t.csv": GOOD}, ["reweight", "--train", "t.csv"]),
    (
        "Tables",
        "a quote that swallows rows",
        {"t.tsv": 'text\tlabel\nfine\tx\n"Brilliant\ty\nso bad"\tx\n'},
        [*TEXT, "t.tsv"],
    ),
    (
        "Tables",
        "a quote that is never closed",
        {"t.csv": 'text,label\n"fine,x\nbad,y\n'},
        [*TEXT, "t.csv"],
    ),
    (
        "Tables",
        "quotes after backslashes",
        {"t.csv": 'text,label\n"a \\"b\\" c",x\nbad,y\n'},
        [*TEXT, "t.csv"],
    ),
    (
        "Tables",
        "−1 as a label",
        {"t.csv": "text,label\na,-1\nb,0\nc,1\n"},
        ["prune", "--model", "tiny", "--train", "t.csv"],
    ),
    (
        "Tables",
        "classes by other letters",
        {"t.csv": "text,label\na,X\nb,Y\n"},
        [*TEXT, "t.csv"],
    ),
    (
        "Tables",
        "numbers and truth as labels",
        {"t.jsonl": '{"text": "a", "label": 1}\n{"text": "b", "label": true}\n'},
        [*TEXT, "t.jsonl"],
    ),
    (
        "Tables",
        "a pair of a text with itself",
        {"t.csv": GOOD},
        [*TEXT, "t.csv", "data.columns.text_pair=text"],
    ),
    (
        "Tables",
        "the training file as the clean set",
        {"t.csv": GOOD},
        ["reweight", "--model", "tiny", "--train", "t.csv", "--meta", "t.csv"],
    ),
    (
        "Tables",
        "a column of true labels that is not there",
        {"t.csv": GOOD},
        [*TEXT, "t.csv", "data.columns.true_label=truth"],
    ),
    (
        "Tables",
        "a column of names that is not there",
        {"t.csv": GOOD},
        [*TEXT, "t.csv", "--id-column", "name"],
    ),
    (
        "Tables",
        "UTF-16, as Excel saves it",
        {"t.csv": GOOD.encode("utf-16")},
        [*TEXT, "t.csv"],
    ),
    ("Tables", "UTF-16 without a mark", {"t.csv": GOOD.encode("utf-16-le")}, [*TEXT, "t.csv"]),
    ("Tables", "half a character", {"t.jsonl": '{"text": "\\ud800"}\n'}, [*TEXT, "t.jsonl"]),
    ("Tables", "JSON cut short", {"t.json": '[{"text": "a", '}, [*TEXT, "t.json"]),
    ("Tables", "a line that is no object", {"t.jsonl": '{"text": "a"}\n[1]\n'}, [*TEXT, "t.jsonl"]),
    ("Tables", "a line `null`", {"t.jsonl": 'null\n{"text": "a"}\n'}, [*TEXT, "t.jsonl"]),
    ("Tables", "JSON nested 100,000 deep", {"t.jsonl": "[" * 100_000}, [*TEXT, "t.jsonl"]),
    (
        "Tables",
        "mixed labels",
        {"t.jsonl": '{"text": "a", "label": 1}\n{"text": "b", "label": "x"}\n'},
        [*TEXT, "t.jsonl"],
    ),
    ("Tables", "something else named .parquet", {"t.parquet": "hello"}, [*TEXT, "t.parquet"]),
    ("Tables", "an unknown format", {"t.xlsx": "hello"}, [*TEXT, "./t.xlsx"]),
    ("WRENCH", "not JSON", {"set/train.json": "{", "set/label.json": NAMES}, WRENCH),
    ("WRENCH", "not UTF-8", {"set/train.json": b"\xff", "set/label.json": NAMES}, WRENCH),
    ("WRENCH", "a list", {"set/train.json": "[]", "set/label.json": NAMES}, WRENCH),
    (
        "WRENCH",
        "classes not by number",
        {"set/train.json": votes(row()), "set/label.json": '{"HAM": 0}'},
        WRENCH,
    ),
    (
        "WRENCH",
        "two classes of one name",
        {"set/train.json": votes(row()), "set/label.json": '{"0": "A", "1": "A"}'},
        WRENCH,
    ),
    (
        "WRENCH",
        "a row without votes",
        {"set/train.json": votes({"data": {}}), "set/label.json": NAMES},
        WRENCH,
    ),
    (
        "WRENCH",
        "votes of two lengths",
        {"set/train.json": votes(row(), row(weak=[1])), "set/label.json": NAMES},
        WRENCH,
    ),
    (
        "WRENCH",
        "a vote for no class",
        {"set/train.json": votes(row(weak=[7, 0])), "set/label.json": NAMES},
        WRENCH,
    ),
    (
        "WRENCH",
        "a label that is no class",
        {"set/train.json": votes(row(label="HAM")), "set/label.json": NAMES},
        WRENCH,
    ),
    (
        "WRENCH",
        "an entity outside its text",
        {
            "set/train.json": votes(row(text="hello", span1=[0, 99], span2=[0, 1])),
            "set/label.json": NAMES,
        },
        WRENCH,
    ),
    (
        "WRENCH",
        "a field of mixed types",
        {"set/train.json": votes(row(text="a"), row(text=[1])), "set/label.json": NAMES},
        WRENCH,
    ),
    ("Images", "no image", {"t.csv": "image,label\na.png,x\n", "a.png": "hi"}, [*IMAGES, "t.csv"]),
    ("Images", "an image that is missing", {"t.csv": "image,label\na.png,x\n"}, [*IMAGES, "t.csv"]),
    (
        "Images",
        "folders of splits by names of one's own",
        {f"set/{s}/{c}/a.png": picture for s in ("one", "two") for c in ("x", "y")},
        [*IMAGES, "./set"],
    ),
    (
        "Images",
        "a folder of several splits as another one",
        {f"set/{s}/{c}/a.png": picture for s in ("train", "val") for c in ("x", "y")},
        [*IMAGES, "./set/train", "--test", "./set"],
    ),
    ("Images", "a folder without images", {"set/x/a.txt": "hi"}, [*IMAGES, "./set"]),
    ("Models", "a configuration alone", {"t.csv": GOOD}, [*TEXT, "t.csv"]),
    (
        "Models",
        "weights of something else",
        {"t.csv": GOOD, "tiny/model.safetensors": strange_weights},
        [*TEXT, "t.csv"],
    ),
    (
        "Models",
        "no tokenizer",
        {"t.csv": GOOD, "bare/config.json": "{}"},
        ["reweight", "--model", "bare", "--train", "t.csv", "--meta", "clean.csv"],
    ),
    (
        "Models",
        "texts for a model of images",
        {"t.csv": GOOD},
        ["reweight", "--model", "resnet8-small", "--train", "t.csv", "--meta", "clean.csv"],
    ),
    (
        "Outputs",
        "another command at work on the output",
        {"t.csv": GOOD, ".out.lock": held},
        [*TEXT, "t.csv"],
    ),
    (
        "Outputs",
        "keep nothing",
        {"t.csv": GOOD},
        ["prune", "--model", "tiny", "--train", "t.csv", "--keep", "0"],
    ),
    (
        "Attacks",
        "a path out of the data folder",
        {"set/t.csv": "image,label\n../a.png,x\n", "a.png": picture},
        [*IMAGES, "set/t.csv"],
    ),
    (
        "Attacks",
        "an absolute path elsewhere",
        {"set/t.csv": "image,label\n/etc/hostname,x\n"},
        [*IMAGES, "set/t.csv"],
    ),
    (
        "Attacks",
        "an image to be fetched",
        {"t.csv": "image,label\nhttp://10.0.0.1/a.png,x\n"},
        [*IMAGES, "t.csv"],
    ),
    (
        "Attacks",
        "a link out of an image folder",
        {"set/x/a.png": picture, "set/y/b.png": link_out},
        [*IMAGES, "./set"],
    ),
    (
        "Attacks",
        "a link out of a data folder",
        {"set/train.csv": link_out},
        ["reweight", "--model", "tiny", "data.path=set", "data.meta=clean.csv"],
    ),
    ("Attacks", "a zip archive named .csv", {"t.csv": zipped}, [*TEXT, "t.csv"]),
    (
        "Attacks",
        "data of a URL, with a password",
        {},
        [*TEXT, "https://me:hunter2@example.org/t.csv"],
    ),
    (
        "Attacks",
        "pickled weights of more than tensors",
        {"tiny/pytorch_model.bin": pickled, "t.csv": GOOD},
        [*TEXT, "t.csv"],
    ),
    (
        "Attacks",
        "a model that brings code",
        {
            "evil/config.json": '{"model_type": "evil", "auto_map": {"AutoConfig": "evil.C"}}',
            "evil/evil.py": "",
            "t.csv": GOOD,
        },
        ["reweight", "--model", "evil", "--train", "t.csv", "--meta", "clean.csv"],
    ),
    (
        "Attacks",
        "a recipe that asks for the code",
        {"t.csv": GOOD},
        [*TEXT, "t.csv", "model.config={trust_remote_code: true}"],
    ),
    ("Attacks", "a name of 5,000 letters", {}, ["reweight", "x" * 5000 + ".yaml"]),
]


READY: dict[str, File] = {"tiny/model.safetensors": trained}
# (what is odd, files beside clean.csv and tiny/, arguments, what the line begins with or holds)
ODD_CASES: list[tuple[str, dict[str, File], list[str], str]] = [
    (
        "a model of classes in another order, one of them another one",
        {"t.csv": GOOD + "more,w\n", **of_classes("y", "z", "x")},
        [*TEXT, "t.csv"],
        "the head of",
    ),
    (
        "weights in pytorch_model.bin, tensors alone",
        {"tiny/pytorch_model.bin": pickled_tensors, "t.csv": GOOD},
        [*TEXT, "t.csv"],
        "rows:",
    ),
    (
        "a tokenizer that states no limit, and a model of few positions",
        {**READY, "t.csv": GOOD + "good " * 600 + ",x\n"},
        [*TEXT, "t.csv", "--max-length", "1000"],
        "512",
    ),
    (
        "quotes after backslashes, named as such",
        {**READY, "t.csv": 'text,label\n"a \\"b\\" c",x\nbad,y\n'},
        [*TEXT, "t.csv", "data.escape=backslash"],
        "rows:",
    ),
    (
        "a quote that is a character, named as such",
        {**READY, "t.tsv": 'text\tlabel\nfine\tx\n"Brilliant\ty\nbad\tx\n'},
        [*TEXT, "t.tsv", "data.quoting=none"],
        "rows:",
    ),
    (
        "−1 and 1 as labels",
        {**READY, "t.csv": "text,label\na,-1\nb,1\nc,1\n"},
        ["prune", "--model", "tiny", "--train", "t.csv"],
        "rows:",
    ),
    (
        "labels `pos`, `pos ` and `Pos`",
        {**READY, "t.csv": "text,label\na,pos\nb,pos \nc,Pos\nd,neg\n"},
        ["prune", "--model", "tiny", "--train", "t.csv"],
        "warning: the classes",
    ),
    (
        "a class, by name, that training rows lack",
        {**READY, "t.csv": GOOD, "test.csv": GOOD + "odd,z\n"},
        [*TEXT, "t.csv", "--test", "test.csv", "--baselines", "none"],
        "warning: no row",
    ),
    (
        "a class, by number, that training rows lack",
        {
            **READY,
            "t.csv": "text,label\na,0\nb,2\nc,0\n",
            "clean.csv": "text,label\nd,0\ne,2\nf,1\n",
        },
        [*TEXT, "t.csv"],
        "warning: no row",
    ),
    (
        "clean rows that are training rows too",
        {**READY, "t.csv": GOOD.replace("day,y", "day,x") + "more,y\n"},
        [*TEXT, "t.csv"],
        "meta rows also occur",
    ),
    (
        "clean rows in two files, one row in both",
        {**READY, "t.csv": "text,label\na,x\nb,y\n", "more.csv": "text,label\nthe worst day,x\n"},
        [*TEXT, "t.csv", "--meta", "more.csv"],
        "also occurs in more.csv",
    ),
    (
        "test rows that are training rows too",
        {**READY, "t.csv": "text,label\na,x\nb,y\n", "test.csv": "text,label\na,x\nc,y\n"},
        [*TEXT, "t.csv", "--test", "test.csv", "--baselines", "none"],
        "warning: 1 of 2 test rows",
    ),
    (
        "`training.epochs` on a recipe with steps",
        {
            **READY,
            "t.csv": GOOD,
            "r.yaml": "data: {train: t.csv, meta: clean.csv}\nmodel: {name: tiny}\n"
            "training: {steps: 500, batch_size: 2}\n",
        },
        ["reweight", "r.yaml", "training.epochs=3"],
        "a step:",
    ),
    (
        "a folder with train/ and val/ in it",
        {f"set/{s}/{c}/a.png": picture for s in ("train", "val") for c in ("x", "y")},
        [*IMAGES, "./set"],
        "rows:",
    ),
    (
        "photographs as .jfif, and other files beside them",
        {
            **{f"set/{c}/{i}.jfif": jfif for c in ("x", "y") for i in range(3)},
            "set/x/notes.txt": "hi",
            "set/x/b.heic": "hi",
        },
        [*IMAGES, "./set"],
        "left out",
    ),
    (
        "brackets, stars and spaces in a file's name",
        {**READY, "my [v1] *.csv": GOOD},
        [*TEXT, "my [v1] *.csv"],
        "rows:",
    ),
    (
        "cells 001, 02134, 1e3 and 21 digits",
        {
            "t.csv": "text,label,id\na,x,001\nb,y,02134\nc,x,1e3\nd,y,123456789012345678901\n",
        },
        ["(export)", "t.csv"],
        "",
    ),
]


def exported(file: str) -> str:
    """What stands in the exported dataset's column `id`."""
    import pandas

    from samacli.data import load_splits
    from samacli.export.dataset import write_dataset
    from samacli.recipe.schema import Data

    rows = load_splits(Data(train=file), "text-classification").train.rows
    write_dataset(rows, Path("dataset"), "")
    return "the exported dataset has " + ", ".join(pandas.read_parquet("dataset")["id"])


def tried(files: dict[str, File], arguments: list[str]) -> tuple[int, list[str]]:
    """(exit code, lines that are printed) of `sama arguments` in a folder of its own.

    Lines of standard error are the last ones.
    """
    from samacli.__main__ import main

    before = Path.cwd()
    said, printed = io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve()
        (folder / "clean.csv").write_text(GOOD)
        shutil.copytree(tiny_model(), folder / "tiny")
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                path.write_text(content, encoding="utf-8")
            elif isinstance(content, bytes):
                path.write_bytes(content)
            else:
                content(path)
        os.chdir(folder)
        try:
            with (
                contextlib.redirect_stderr(said),
                contextlib.redirect_stdout(printed),
                contextlib.suppress(SystemExit),
            ):
                code = 0
                try:
                    if arguments[0] == "(export)":
                        print(exported(arguments[1]))
                    else:
                        main([*arguments, "--output", "out"])
                except SystemExit as exit_:
                    code = int(exit_.code or 0)
        finally:
            os.chdir(before)
        assert not (folder / "out").exists(), arguments
    assert "Traceback" not in said.getvalue(), said.getvalue()
    text = (printed.getvalue() + said.getvalue()).replace(f"{folder}/", "")
    return code, text.replace(f"{REPOSITORY}/", "").strip().splitlines() or [""]


def cell(line: str) -> str:
    """A line as it is shown in a table: long names are cut here, not there."""
    line = re.sub(r"(.)\1{40,}", r"\1\1\1…", line)
    return line.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def page() -> str:
    parts = [HEAD]
    section = ""
    for heading, wrong, files, arguments in CASES:
        code, lines = tried(files, arguments)
        line = lines[-1]
        if code != 2 or not line.startswith("error: "):
            raise SystemExit(f"{wrong}: exit code {code}, {line!r}")
        if heading != section:
            section = heading
            parts.append(f"\n## {heading}\n\n| what is wrong | what is said |\n| --- | --- |")
        parts.append(f"| {wrong} | {cell(line.removeprefix('error: '))} |")
    parts.append(ODD)
    for odd, files, arguments, part in ODD_CASES:
        export = arguments[0] == "(export)"
        code, lines = tried(files, arguments if export else [*arguments, "--dry-run"])
        told = [line for line in lines if part in line]
        if code or not told:
            raise SystemExit(f"{odd}: exit code {code}, no {part!r} in {lines!r}")
        parts.append(f"| {odd} | {cell(told[0])} |")
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(REPOSITORY))
    os.environ["HF_HUB_OFFLINE"] = "1"
    PAGE.write_text(page(), encoding="utf-8")
