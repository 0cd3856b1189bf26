"""Derivatives of functions of the base parameters along one direction."""

from samacli.meta.derivatives.difference import central, one_sided
from samacli.meta.derivatives.forward import pushforward

__all__ = ["central", "one_sided", "pushforward"]
