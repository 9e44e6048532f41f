"""Predicted against measured spectra, one figure for each setting of the comparison.

Runs ``rmtdeq compare`` over a list of settings with one seed; figures and their manifests go to ``--out``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rmtdeq.cli import main as rmtdeq

SETTINGS = {
    "mixture2": ["--dataset", "mixture", "--classes", "2", "--p", "2000"],
    "mixture3": ["--dataset", "mixture", "--classes", "3", "--p", "2000"],
    "fashion-sample": ["--dataset", "fashion-sample"],
    "mnist-6-8": ["--dataset", "mnist", "--classes", "6", "8"],
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", default="figures", help="folder for the figures (default figures)")
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=SETTINGS)
    parser.add_argument("--activations", nargs="+", default=["tanh", "relu"])
    parser.add_argument("--sigma-a2", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    for setting in options.settings:
        for activation in options.activations:
            out = f"{options.out}/compare-{setting}-{activation}"
            network = ["--activation", activation, "--sigma-a2", str(options.sigma_a2)]
            code = rmtdeq(["compare", *SETTINGS[setting], *network, "--seed", str(options.seed), "--out", out])
            if code:
                return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
