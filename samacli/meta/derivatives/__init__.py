"""Derivatives of functions of the base parameters along one direction."""

from samacli.meta.derivatives.difference import central, one_sided
from samacli.meta.derivatives.forward import pushforward
from samacli.meta.derivatives.mixed import gradient, mixed_product

__all__ = ["central", "gradient", "mixed_product", "one_sided", "pushforward"]
