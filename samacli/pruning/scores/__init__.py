"""Scores of training examples, one file each, all made during one training run."""
