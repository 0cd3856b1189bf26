"""CCS: what coverage-centric selection stratifies on, and the hard end that it leaves out."""

from __future__ import annotations

from samacli.pruning.scores.aum import AUM


class CCS(AUM):
    """AUM, from which coverage-centric selection draws in strata.

    Zheng et al.: "Coverage-centric coreset selection for high pruning rates" (ICLR 2023), algorithm
    1: leave out the share β of the hardest examples, cut the range of the
    remaining scores into strata of equal width, and draw alike from each. That is
    `samacli.pruning.selection.keep_covering`; kept by rank alone it is AUM.
    """
