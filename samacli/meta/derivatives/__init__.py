"""Derivatives of functions of the base parameters along one direction."""

from samacli.meta.derivatives.directional import (
    ahead,
    central,
    gradient_graph,
    half_precision,
    one_sided,
    pushforward,
    slope_towards,
    vector_product,
)
from samacli.meta.derivatives.mixed import gradient, mixed_product

__all__ = [
    "ahead",
    "central",
    "gradient",
    "gradient_graph",
    "half_precision",
    "mixed_product",
    "one_sided",
    "pushforward",
    "slope_towards",
    "vector_product",
]
