"""Algorithmic adaptation: the product of ∂u/∂g with a vector, for the optimiser's last step."""

from samacli.meta.adaptation.clip import Clip
from samacli.meta.adaptation.product import Diagonal, adapt, take_diagonal

__all__ = ["Clip", "Diagonal", "adapt", "take_diagonal"]
