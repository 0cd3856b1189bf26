"""The one exception that a user is meant to see."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from samacli.redact import redact


class SamaError(Exception):
    """A failure that the user can mend: one sentence naming what is wrong, where, and the mend.

    The command line prints the sentence and exits with status 2 without a traceback (`--debug`
    shows it). Raise it from anywhere; never raise it for a bug. Secrets in the sentence (the URL
    of a recipe, a token) are hidden.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(redact(sentence))


def reason(error: Exception) -> str:
    """What a parser says, in the same words at any depth of the stack."""
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


class Interrupted(BaseException):
    """The user or the system asked the run to stop; one sentence says what became of it.

    Like KeyboardInterrupt it is no failure, and `except Exception` lets it pass.

    code: the exit status, 128 and the signal's number: 130 for Ctrl-C, 143 for SIGTERM.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(redact(message))
        self.code = code


def nearest(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'label'?"` for the known name closest to `name`, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""


def counted(number: int, one: str, many: str = "") -> str:
    """ "1 row", "2,000 rows"; `many` where it is not `one` with an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
