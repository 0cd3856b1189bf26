"""The shell completes commands and options (Typer's own completion)."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def completed(**variables: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "samacli"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    return result.stdout


@pytest.mark.parametrize(
    ("words", "found"), [("sama rew", "reweight"), ("sama reweight --over", "--overwrite")]
)
def test_bash_completes(words: str, found: str) -> None:
    count = str(len(words.split()) - 1)
    answer = completed(_SAMA_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=count)
    assert answer.split() == [found]


def test_the_script_is_shown() -> None:
    assert "complete -o default -F _sama_completion sama" in completed(_SAMA_COMPLETE="source_bash")
