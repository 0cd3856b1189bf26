"""What a person sees while a command runs: bars on a terminal, plain lines elsewhere, on stderr."""

from __future__ import annotations

import codecs
import contextlib
import io
import sys
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Task as RichTask
from rich.table import Table
from rich.text import Text

from samacli.export.escape import printable
from samacli.export.metrics import strict_json
from samacli.progress import Silent, Task
from samacli.redact import redact

stdout = Console()
stderr = Console(stderr=True)

_PLAIN_LINE_SECONDS = 10.0


# For terminals that do not know them.
_IN_ASCII = str.maketrans({"–": "-", "−": "-", "±": "+-", "…": "...", "→": "->", "·": "*"})


def take_any_text() -> None:
    """Let stdout and stderr take any character: they spell out those that they do not know."""
    codecs.register_error("samacli", _spelt_out)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="samacli")


def _spelt_out(error: UnicodeError) -> tuple[str | bytes, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end].translate(_IN_ASCII)
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.end


def print_json(value: Any) -> None:
    """A result for machines, on stdout: strict JSON in ASCII, so that any terminal takes it."""
    stdout.out(strict_json(value, ascii_only=True), highlight=False)


def say(*parts: Table | str | None) -> None:
    """Results, on stdout: tables, and sentences as they are. None is left out."""
    for part in parts:
        if isinstance(part, str):
            stdout.print(part, highlight=False, soft_wrap=True, markup=False, emoji=False)
        elif part is not None:
            stdout.print(part)


def complain(message: str, style: str = "red") -> None:
    """A message to the user, on stderr, without its secrets and control characters.

    By a console of its own: Ctrl-C may have stopped the one that all else is printed by in the
    middle of a line, and it would keep to itself whatever follows.
    """
    Console(stderr=True, quiet=stderr.quiet).print(
        _shown(message), style=style, markup=False, highlight=False, emoji=False, soft_wrap=True
    )


def _shown(text: str) -> str:
    return printable(redact(text))


class _Rate(ProgressColumn):
    def render(self, task: RichTask) -> Text:
        return Text(f"{task.speed:,.1f}/s" if task.speed else "", style="dim")


class _Bar:
    def __init__(self, bars: Progress, description: str, total: int) -> None:
        self.bars = bars
        self.id = bars.add_task(escape(_shown(description)), total=total)

    def advance(self, steps: int = 1) -> None:
        self.bars.advance(self.id, steps)


class _Lines:
    """A line every ten seconds and one at the end, for logs and pipes."""

    def __init__(self, description: str, total: int) -> None:
        self.description, self.total, self.done = description, total, 0
        self.started = self.said = time.monotonic()

    def advance(self, steps: int = 1) -> None:
        self.done += steps
        if time.monotonic() - self.said >= _PLAIN_LINE_SECONDS:
            self.said = time.monotonic()
            self._say()

    def finish(self) -> None:
        if self.said > self.started and self.done:
            self._say()

    def _say(self) -> None:
        elapsed = time.monotonic() - self.started
        rate = self.done / max(elapsed, 1e-9)
        left = (self.total - self.done) / max(rate, 1e-9)
        name = _shown(self.description)
        stderr.print(
            f"{name}: {self.done:,}/{self.total:,}, {rate:,.1f}/s, {left:,.0f} s left",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


class ConsoleProgress:
    """`samacli.progress.Progress` on the terminal."""

    @contextlib.contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        """A bar with rate and time left; it goes when it is done."""
        if not stderr.is_terminal:
            lines = _Lines(description, total)
            yield lines
            lines.finish()
            return
        bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=stderr,
            transient=True,
        )
        with bars:
            yield _Bar(bars, description, total)

    def note(self, message: str) -> None:
        complain(message, "dim")

    def warn(self, message: str) -> None:
        complain(f"warning: {message}", "yellow")


class QuietProgress(Silent, ConsoleProgress):
    """Warnings alone."""

    warn = ConsoleProgress.warn
