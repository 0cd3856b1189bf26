"""Pruning: scores of training examples, and the rows that are kept."""
