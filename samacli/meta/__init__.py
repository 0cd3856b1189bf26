"""Scalable meta gradients: how a base model's training should change to lower a meta loss.

Plain functions over torch: state a two-level problem, ask for the gradient of the meta loss with
respect to the meta parameters, and step them with any optimiser.
"""

from samacli.meta.adaptation import Clip
from samacli.meta.alongside import outputs_and_meta_gradient, outputs_and_tangent, riding
from samacli.meta.derivatives.contraction import UnsupportedLayerError
from samacli.meta.direction import Direction, direction
from samacli.meta.distributed import DataParallel, average
from samacli.meta.estimators import meta_gradient
from samacli.meta.label_corrector import LabelCorrector
from samacli.meta.problem import BilevelProblem, WeightingProblem
from samacli.meta.weight_net import MetaWeightNet
from samacli.meta.weighting import mixed_derivative, weighting_meta_gradient

__all__ = [
    "BilevelProblem",
    "Clip",
    "DataParallel",
    "Direction",
    "LabelCorrector",
    "MetaWeightNet",
    "UnsupportedLayerError",
    "WeightingProblem",
    "average",
    "direction",
    "meta_gradient",
    "mixed_derivative",
    "outputs_and_meta_gradient",
    "outputs_and_tangent",
    "riding",
    "weighting_meta_gradient",
]
