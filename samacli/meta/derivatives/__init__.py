"""Derivatives of functions of the base parameters along one direction."""

from samacli.meta.derivatives.difference import ahead, central, one_sided, slope_towards
from samacli.meta.derivatives.forward import pushforward
from samacli.meta.derivatives.mixed import gradient, mixed_product

__all__ = [
    "ahead",
    "central",
    "gradient",
    "mixed_product",
    "one_sided",
    "pushforward",
    "slope_towards",
]
