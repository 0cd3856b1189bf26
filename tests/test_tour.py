"""The tour (docs/tour.md, made by `make tour`): its commands exist, parse, and are all there."""

from __future__ import annotations

import contextlib
import re
import shlex
from pathlib import Path

import click
import pytest
import typer
import typer.main

from samacli.__main__ import app
from samacli.cli.main import GREETING
from samacli.cli.options import Globals
from tests.test_documents import script

STEPS = [command for _, command in script("make_tour").STEPS]
PAGE = Path(__file__).resolve().parents[1] / "docs" / "tour.md"


@pytest.mark.parametrize("line", STEPS)
def test_a_command_parses(line: str) -> None:
    words = shlex.split(line.replace("WORST", "0"))
    assert words.pop(0) == "sama"
    group = typer.main.get_command(app)
    above = click.Context(group, info_name="sama", obj=Globals())
    if not words:
        return
    command = group.get_command(above, words[0])  # type: ignore[attr-defined]
    assert command is not None, line
    with contextlib.suppress(
        click.exceptions.Exit, typer.Exit
    ):  # --help; an error is another exception
        command.make_context(words[0], words[1:], parent=above)


@pytest.mark.skipif(not PAGE.exists(), reason="make tour has not been run yet")
def test_the_page_has_every_step_and_todays_greeting() -> None:
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"(?s)```console\n\$ (.*?)\n(.*?)```", text)
    typed = [re.sub(r"--row \d+", "--row WORST", command) for command, _ in blocks]
    assert typed == STEPS
    assert blocks[0][1].strip() == GREETING.strip()


def test_times_are_masked_and_nothing_else() -> None:
    masked = script("make_tour").masked
    assert masked("takes: 4 trainings of 38 steps, about 3.4 min and 1.2 GiB of memory") == (
        "takes: 4 trainings of 38 steps, about … min and … GiB of memory"
    )
    log = (
        "training 1 of 4 (noisy), 10/65 steps, 3.1 min left in all\ntraining 1 of 4 (noisy): 31 s, "
    )
    log += "3 min left in all\nscoring the training set, 64/400, 9 s left\ntwice: no row"
    assert masked(log).splitlines() == [
        "training 1 of 4 (noisy): … s, … min left in all",
        "twice: no row",
    ]
    table = " training  accuracy  seconds  samples/s\n ───────\n sama  0.912  184  41\n\nafter 41"
    assert masked(table).splitlines()[-1] == "after 41"
    assert "0.912" in masked(table)
