"""`sama review`: a person decides which of the suspects' labels are right."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import webbrowser
from typing import TYPE_CHECKING, Annotated

import typer

from samacli.cli.console import say
from samacli.cli.report import Directory
from samacli.errors import counted

if TYPE_CHECKING:
    from samacli.review import Session

_NAMES_SHOWN = 6


def review(
    directory: Directory,
    port: Annotated[
        int,
        typer.Option(
            "--port", min=0, max=65535, help="Port of the page on 127.0.0.1; 0: any that is free."
        ),
    ] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")
    ] = True,
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="The most suspicious so many are asked about.")
    ] = 1000,
) -> None:
    """Accept, correct or reject the suggested labels, on a page with keys for all of it.

    Each decision is at once in DIR/reviewed.csv, a clean set for --meta. Ctrl-C ends it, and the
    same command goes on.

    Example:

        sama review runs/mine
    """
    from samacli.review import opened, served

    with opened(directory, limit) as session:
        remark = ""
        if len(session.shown) < len(session.all):
            remark = (
                f"The {len(session.shown):,} most suspicious of {len(session.all):,} are here "
                "(--limit)."
            )
        with served(session, port, remark) as address:
            before = session.counts
            say(
                f"{before.suspects - before.decided:,} of {counted(before.suspects, 'suspect')} "
                "to decide: "
                f"{address}",
                remark or None,
                "every decision is saved at once; Ctrl-C ends the review",
            )
            with contextlib.suppress(KeyboardInterrupt):
                if browser and _has_screen():
                    webbrowser.open(address)
                threading.Event().wait()
        say(*_ending(session))


def _has_screen() -> bool:
    """Not over SSH, where a browser would be one of the terminal's, and in the way."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _ending(session: Session) -> list[str]:
    counts = session.counts
    if not session.decided:
        return ["\nnothing was decided"]
    said = [
        f"\n{counts.decided:,} of {counted(counts.suspects, 'suspect')} decided: "
        f"{counted(counts.accepted, 'suggestion')} accepted, {counts.corrected:,} corrected, "
        f"{counted(counts.kept, 'label')} kept; all in {session.file}"
    ]
    unseen = session.unseen
    if unseen:
        more = ", …" if len(unseen) > _NAMES_SHOWN else ""
        said.append(f"no row of {', '.join(unseen[:_NAMES_SHOWN])}{more} among them yet")
    return [*said, f"next: {session.next_command}"]
