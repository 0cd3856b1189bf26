"""Scores of training examples, one file each, all made during one training run."""

from samacli.pruning.scores.make import SCORES, make_scores
from samacli.pruning.scores.score import Observation, Score

__all__ = ["SCORES", "Observation", "Score", "make_scores"]
