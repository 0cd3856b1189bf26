"""The `sama` command: global options, and every failure as one sentence."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

import samacli
from samacli.cli import (
    check,
    demo,
    env,
    evaluate,
    label,
    launch,
    prune,
    rate,
    recipes,
    report,
    review,
    reweight,
    score,
    select,
    train,
    why,
)
from samacli.cli.console import complain, say, stderr, stdout, take_any_text
from samacli.cli.launch import INTERRUPTED, USER_ERROR
from samacli.cli.opening import by_option
from samacli.cli.options import DeviceChoice, Globals
from samacli.errors import Interrupted, SamaError
from samacli.redact import redact

INTERNAL_ERROR = 1

# What a person types first.
GREETING = f"""samacli {samacli.__version__}: learn how much each training example should count, \
from a small clean set.

  sama demo text
      the demo, on texts that come with it

  sama reweight --train noisy.csv --meta clean.csv --test test.csv --output runs/mine
      your own data: any CSV, JSON lines or Parquet with a column of texts and one of labels

  sama check noisy.csv clean.csv test.csv
      what is in your data, and what is wrong with them

  sama prune --train noisy.csv --test test.csv --keep 0.7 --output runs/less
      the part of your data that training needs

sama --help lists all commands, sama COMMAND -h explains one."""

app = typer.Typer(
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Make training data better: learn by scalable meta learning (SAMA) how much each "
    "training example should count, then reweight the data or prune it.",
)
app.command(no_args_is_help=False)(reweight.reweight)
app.command(no_args_is_help=False)(prune.prune)
app.command()(check.check)
app.command()(demo.demo)
app.command()(train.train)
app.command()(evaluate.evaluate)
app.command()(report.report)
app.command()(review.review)
app.command()(label.label)
app.command()(report.inspect)
app.command()(why.why)
app.command()(report.compare)
app.command()(score.score)
app.command()(rate.rate)
app.command()(select.select)
app.command()(env.env)
app.add_typer(recipes.app, name="recipes")


def _version(value: bool) -> None:
    if value:
        stdout.print(f"samacli {samacli.__version__}", highlight=False)
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _global_options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of failures.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, no notes.")] = False,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Seed of the first run (seed).")
    ] = None,
    device: Annotated[
        DeviceChoice, typer.Option("--device", help="Where to compute.")
    ] = DeviceChoice.auto,
) -> None:
    given = context.obj.arguments if isinstance(context.obj, Globals) else ()
    context.obj = Globals(given, debug=debug, quiet=quiet, seed=seed, device=device)
    if not debug:
        _silence_libraries()
    if context.invoked_subcommand is None:
        say(GREETING)


def _silence_libraries() -> None:
    """The libraries' own warnings are about their insides, not about the user's data."""
    warnings.filterwarnings("ignore")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("HF_DATASETS_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(name, "1")  # there is a display of our own
    for name in ("transformers", "huggingface_hub", "datasets", "accelerate", "torch", "httpx"):
        logging.getLogger(name).setLevel(logging.ERROR)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `sama`.

    Exits with 0, 2 (the user can mend it), 1 (a bug), 130 (Ctrl-C) or 143 (SIGTERM).
    """
    take_any_text()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    arguments = _global_options_first(arguments)
    debug = "--debug" in arguments
    if launch.is_silent():
        stdout.quiet = stderr.quiet = True
    try:
        app(args=arguments, prog_name="sama", standalone_mode=True, obj=Globals(arguments))
    except SamaError as error:
        _fail(USER_ERROR, f"error: {by_option(str(error), arguments)}", debug)
    except (launch.ProcessError, Interrupted) as error:
        _fail(error.code, str(error), debug=False)
    except KeyboardInterrupt:
        if not launch.leave_failure(INTERRUPTED, "interrupted; nothing was written"):
            complain("interrupted; nothing was written", style="")
        sys.exit(INTERRUPTED)
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None and error.strerror:
            # A file's permissions, a full disk, a name too long: the user's to mend.
            _fail(USER_ERROR, f"error: {error.filename}: {error.strerror}", debug)
        message = " ".join(str(error).split()) or "no message"
        bug = "(this is a bug in samacli or a library; --debug shows where)"
        _fail(INTERNAL_ERROR, f"error: {type(error).__name__}: {message} {bug}", debug)
    finally:
        launch.leave()


def _fail(code: int, message: str, debug: bool) -> NoReturn:
    message = redact(message)
    if debug:
        sys.stderr.write(redact(traceback.format_exc()))
    if not launch.leave_failure(code, message):
        stderr.quiet = False
        complain(message)
    sys.exit(code)


_FLAGS = ("--debug", "--quiet")
_VALUED = ("--seed", "--device")


def _global_options_first(arguments: list[str]) -> list[str]:
    """Global options may stand anywhere: `sama reweight --seed 3` is what people type."""
    front: list[str] = []
    rest: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--":
            rest += [argument, *remaining]
        elif argument in _FLAGS or argument.startswith(tuple(f"{name}=" for name in _VALUED)):
            front.append(argument)
        elif argument in _VALUED:
            front += [argument, *[value for value in [next(remaining, None)] if value is not None]]
        else:
            rest.append(argument)
    return front + rest
