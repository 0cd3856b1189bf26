"""`metrics.json`: what was measured."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from samacli.redact import redact


def write_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """Write strict JSON: NaN and infinity, which JSON does not have, become null; no secrets."""
    text = json.dumps(_strict(metrics), indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(redact(text) + "\n", encoding="utf-8")


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
