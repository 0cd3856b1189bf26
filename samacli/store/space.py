"""Room on the disk, asked for before the work and not when it is nearly done."""

from __future__ import annotations

import shutil
from pathlib import Path

from samacli.errors import SamaError


def check_space(folder: Path, needed: int, what: str) -> None:
    """Refuse work that will not fit on the disk of `folder`, an existing folder; `needed` in bytes.

    Raises:
        SamaError: there is less room.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SamaError(
            f"{what} takes up to {needed / 1e9:,.1f} GB, but the disk of '{folder}' has "
            f"{free / 1e9:,.1f} GB left; make room, or put --output on another disk"
        )
