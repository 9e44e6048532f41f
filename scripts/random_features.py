"""Test accuracy of a linear read-out on random features: a DEQ, its designed network, and plain networks.

The plain networks have the DEQ's activation, centred, in one or two layers. Only the read-out is trained, by stochastic
gradient descent on the cross-entropy; all networks have random weights. Their forward passes are timed on one batch.
Accuracies are averaged over draws, of weights and of batches, and stand beside the published ones.
"""

from __future__ import annotations

import sys

from rmtdeq.cli import program

if __name__ == "__main__":
    sys.exit(
        program(
            "accuracy-mnist",
            "figures/random-features-mnist",
            __doc__,
            widths=(64, 256, 1024, 4096),
            sigma_a2=(0.2,),
            draws=(1,),
        )
    )
