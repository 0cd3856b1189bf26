"""What a person sees while a command runs: one line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import codecs
import contextlib
import io
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from samacli.export.escape import one_line, printable
from samacli.export.metrics import strict_json
from samacli.progress import Planned, Silent, Task, Timetable
from samacli.redact import redact

stdout = Console()
stderr = Console(stderr=True)

_PLAIN_LINE_SECONDS = 30.0
_BAR = 14  # cells


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


def spelt(text: str) -> str:
    """Text as stdout shows it: without control characters, and in ASCII where it knows no more."""
    text = printable(text)
    if not stdout.options.ascii_only:
        return text
    return text.translate(_IN_ASCII).encode("ascii", "backslashreplace").decode("ascii")


def fitted(text: str, width: int) -> str:
    """One line of at most `width` cells, cut with an ellipsis."""
    line = one_line(spelt(text))
    if cell_len(line) <= width:
        return line
    mark = spelt("…")
    return set_cell_size(line, max(width - len(mark), 0)).rstrip() + mark


def wrapped(text: str, indent: str = "") -> str:
    """A sentence in lines of the terminal's width; `indent` is before all but the first."""
    lines = textwrap.wrap(
        spelt(text),
        stdout.width,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines)


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


class _Stretch:
    """A task as it is told: `task.advance()` counts, `text` is the line about it."""

    def __init__(self, description: str, total: int, timetable: Timetable) -> None:
        self.description, self.total, self.done = description, total, 0
        self.timetable = timetable
        self.is_training = timetable.begin(description)
        self.started = self.said = time.monotonic()

    def advance(self, steps: int = 1) -> None:
        self.done += steps
        if self.is_training:
            self.timetable.reached(self.done)
        if not stderr.is_terminal and time.monotonic() - self.said >= _PLAIN_LINE_SECONDS:
            self.said = time.monotonic()
            _write(self.text)

    def finish(self) -> None:
        """It ended well: a line for logs, of a training or of what has been told of before."""
        if self.is_training:
            self.timetable.end()
        if not stderr.is_terminal and (self.is_training or self.said > self.started):
            took = duration(time.monotonic() - self.started)
            _write(", ".join([f"{self._what}: {took}", *self._left_in_all(self._rest)]))

    @property
    def text(self) -> str:
        """ "training 2 of 4 (clean), 31/200 steps, 3.4 min left in all"."""
        steps = " steps" if self.is_training else ""
        done = [f"{self.done:,}/{self.total:,}{steps}"] if self.total else []
        return ", ".join([self._what, *done, *self._left()])

    @property
    def _what(self) -> str:
        trainings = self.timetable.trainings
        if not self.is_training or len(trainings) == 1:
            return _shown(self.description)
        one = trainings[self.timetable.at]
        # Where seeds differ the description says which it is.
        single = sum(other.name == one.name for other in trainings) == 1
        name = _shown(one.name if single else one.description)
        return f"training {self.timetable.at + 1} of {len(trainings)} ({name})"

    @property
    def _rest(self) -> float | None:
        return self.timetable.seconds_left if self.timetable.trainings else None

    def _left(self) -> list[str]:
        if self.is_training:
            return self._left_in_all(self._rest)
        if not self.total or not self.done:
            return []
        took = time.monotonic() - self.started
        own = took * (self.total - self.done) / self.done
        rest = self._rest
        return [f"{duration(own)} left"] if rest is None else self._left_in_all(own + rest)

    def _left_in_all(self, seconds: float | None) -> list[str]:
        if seconds is None:
            return []
        return [f"{duration(seconds)} left{' in all' * (len(self.timetable.trainings) > 1)}"]


def duration(seconds: float) -> str:
    """56 s, 3.4 min, 42 min, 5.2 h."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    if minutes < 99.5:
        return f"{minutes:.1f} min" if minutes < 9.95 else f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h"


def _write(line: str) -> None:
    stderr.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)


class ConsoleProgress:
    """`samacli.progress.Progress` on stderr: one line for the whole run, told anew all the time.

    A terminal shows it with a bar, which goes when there is nothing to wait for. Elsewhere, for
    logs, it is written now and then, and once at each training's end.
    """

    def __init__(self, worded: Callable[[str], str] = str) -> None:
        """worded: notes and warnings in the words of whoever reads them."""
        self._worded = worded
        self._timetable = Timetable([])
        self._open: list[_Stretch] = []  # of tasks within tasks the innermost is told of
        self._spinner = Spinner("line" if stderr.options.ascii_only else "dots")

    def expect(self, trainings: Sequence[Planned], seconds_a_row: float | None = None) -> None:
        self._timetable = Timetable(trainings, seconds_a_row)

    @contextlib.contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        stretch = _Stretch(description, total, self._timetable)
        outermost = not self._open
        self._open.append(stretch)
        try:
            with self._live() if outermost else contextlib.nullcontext():
                yield stretch
        finally:
            self._open.remove(stretch)
        stretch.finish()

    def _live(self) -> contextlib.AbstractContextManager[Any]:
        if not stderr.is_terminal or stderr.quiet:
            return contextlib.nullcontext()
        self._spinner = Spinner("line" if stderr.options.ascii_only else "dots")
        return Live(get_renderable=self._line, console=stderr, transient=True, refresh_per_second=8)

    def _line(self) -> RenderableType:
        """A spinner, the innermost task's text, and a bar where there is room for one."""
        now = next(reversed(self._open), None)
        if now is None:  # between the last task's end and the display's
            return ""
        text, room = now.text, stderr.width - 3
        line = Table.grid(padding=(0, 1))
        parts: list[RenderableType] = [
            self._spinner,
            Text(one_line(text, room), no_wrap=True, overflow="crop"),
        ]
        if now.total and room - len(text) - 1 >= _BAR:
            parts.append(ProgressBar(total=now.total, completed=now.done, width=_BAR))
        line.add_row(*parts)
        return line

    def note(self, message: str) -> None:
        complain(self._worded(message), "dim")

    def warn(self, message: str) -> None:
        complain(f"warning: {self._worded(message)}", "yellow")


class QuietProgress(Silent, ConsoleProgress):
    """Warnings alone."""

    warn = ConsoleProgress.warn
