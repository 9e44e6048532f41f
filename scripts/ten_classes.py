"""Ten classes with full covariances: the class-wise prediction against Gaussian samples and against images.

Estimates the mixture of an image set, predicts the spectrum, and measures it three times: on the prediction's own
random matrix (which tests the solution of the mixture equations), on Gaussian samples of the estimated mixture (which
tests the expansion of the kernel) and on the images themselves (which tests the Gaussian model).
"""

from __future__ import annotations

import sys

from rmtdeq.cli import program

if __name__ == "__main__":
    sys.exit(program("ten-classes", "figures/ten-classes-mnist-relu", __doc__))
