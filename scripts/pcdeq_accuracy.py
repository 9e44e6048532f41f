"""Accuracy and iterations of positive concave DEQs on MNIST, beside published figures of monDEQ.

    python scripts/pcdeq_accuracy.py --out figures/pcdeq-mnist-linear

trains the network of one linear equilibrium layer with 80 units on all 60,000 images, three times for each activation
(four minutes on two cores).  `--network conv` and `--network three-blocks` train the convolutional ones, for which a
GPU (`--device cuda`) is wanted.  Interrupted, the same command goes on from `--checkpoint`.
"""

from __future__ import annotations

import sys

from rmtdeq.cli import program

if __name__ == "__main__":
    sys.exit(program("pcdeq-linear-mnist", "figures/pcdeq-mnist-linear", __doc__))
