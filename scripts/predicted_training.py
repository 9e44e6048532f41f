"""The loss during training of a wide DEQ, against its NTK's prediction and against that of the spectrum alone.

    python scripts/predicted_training.py --widths 512 2048 8192 --out figures/predicted-training

Left: a Gaussian mixture with class labels as targets, for which the predicted spectrum (bulk, outliers and alignments;
no sample, no kernel) gives the curve; right: random targets on the sphere, the over-parameterised DEQ and the limit of
its tangent kernel.
"""

from __future__ import annotations

import sys

from rmtdeq.cli import program

if __name__ == "__main__":
    sys.exit(program("predicted-training", "figures/predicted-training", __doc__))
