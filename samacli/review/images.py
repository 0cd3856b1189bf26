"""Images beside the table that names them: a table names none outside of its own folder."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from samacli.errors import SamaError
from samacli.store.output import written


def kept_image(image: Mapping[str, Any], row: int, folder: Path, called: str = "") -> str:
    """Copy the image of a row into `folder`, which may not be there; returns its path from the
    folder's parent on.

    image: an undecoded one, its `bytes` or `path`. called: a path whose ending the copy gets.

    Raises:
        SamaError: it is not there any more, or is no image.
    """
    path = str(image.get("path") or "")
    try:
        data = image.get("bytes") or Path(path).read_bytes()
        with Image.open(io.BytesIO(data)) as opened:
            ending = Path(called or path).suffix or f".{opened.format}".lower()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise SamaError(f"the image of row {row} is not there any more") from None
    folder.mkdir(exist_ok=True)
    with written(folder / f"{row}{ending}") as stage:
        stage.write_bytes(data)
    return f"{folder.name}/{row}{ending}"
