"""The meta level: what weighs each example, and how it learns to."""
