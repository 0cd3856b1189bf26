"""The command line: one file a command, options in, results out, no logic."""

from samacli.cli.main import main

__all__ = ["main"]
