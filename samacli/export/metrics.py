"""`metrics.json`: what was measured."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from samacli.redact import redact_all


def write_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """Write strict JSON: NaN and infinity, which JSON does not have, become null; no secrets."""
    path.write_text(strict_json(metrics) + "\n", encoding="utf-8")


def strict_json(value: Any, *, ascii_only: bool = False) -> str:
    """Indented JSON with null for NaN and infinity; paths are text; secrets are left out."""
    # Value by value: in the finished text a secret could be hidden by JSON's escapes.
    return json.dumps(
        redact_all(_strict(value)), indent=2, ensure_ascii=ascii_only, allow_nan=False
    )


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
