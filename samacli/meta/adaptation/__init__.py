"""Algorithmic adaptation: the product of ∂u/∂g with a vector, for the optimiser's last step."""

from samacli.meta.adaptation.diagonal import Diagonal, take_diagonal
from samacli.meta.adaptation.product import adapt

__all__ = ["Diagonal", "adapt", "take_diagonal"]
