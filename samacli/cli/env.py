"""`sama env`"""

from __future__ import annotations

import os
import platform

import typer

from samacli.cli import options
from samacli.cli.opening import tell


def env(context: typer.Context, json: options.Json = False) -> None:
    """Show versions, device and cores: what a report of a bug needs.

    Example:

        sama env
    """
    from samacli.runs.run import environment
    from samacli.training.runtime import make_accelerator

    accelerator = make_accelerator(options.settings(context).device.value)
    found = {
        **environment(accelerator.device),
        "bf16": "yes" if accelerator.mixed_precision == "bf16" else "no",
        "cores": str(os.cpu_count()),
        "system": platform.platform(),
    }
    width = max(map(len, found))
    tell(context, found, *(f"{name:{width}}  {value}" for name, value in found.items()))
