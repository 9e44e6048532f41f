"""The spectrum of a kernel on a whole data set, against exact spectra of subsamples and against the prediction.

Top eigenvalues and the density come from products with half a matrix kept in files; with a checkpoint the program goes
on where it was interrupted if it is started again with the same arguments.

    python scripts/large_spectrum.py --dataset mnist --checkpoint scratch/mnist --out figures/large-spectrum-mnist-tanh
"""

from __future__ import annotations

import sys

from rmtdeq.cli import program

if __name__ == "__main__":
    sys.exit(program("whole-mnist", "figures/large-spectrum-mnist-tanh", __doc__))
