"""A person decides which of the suspects' labels are right, on a page of this machine."""

from samacli.review.server import served
from samacli.review.session import Session, opened

__all__ = ["Session", "opened", "served"]
