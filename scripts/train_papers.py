"""The papers' training figures: log loss and norm of the recurrent weights against epochs, for growing widths.

    python scripts/train_papers.py deq-sphere relu-mnist --out figures

runs the experiments of arXiv 2205.13814 (deq-...) and arXiv 2110.05645 (relu-...) at sizes that two cores finish in
about a quarter of an hour each; `--full` at the papers' own, for which a GPU (`--device cuda`) is wanted.  Interrupted,
the same command goes on from `--checkpoint`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from rmtdeq.cli import program

_DEQ: dict[str, Any] = {"n": 200, "widths": (200, 500, 1000, 2000), "epochs": 1000, "tolerance": 1e-5}
_RELU: dict[str, Any] = {"n": 200, "test": 200, "widths": (500, 1000, 2000, 4000)}
MIDDLE: dict[str, dict[str, Any]] = {
    "deq-sphere": {**_DEQ, "n": 100, "p": 100, "epochs": 2000, "dtype": "float64", "tolerance": 1e-8},
    "deq-mnist": _DEQ,
    "deq-cifar10": _DEQ,
    "relu-mnist": _RELU,
    "relu-fashion-mnist": _RELU,
    "relu-cifar10": _RELU,
    "relu-svhn": _RELU,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="+", choices=(*MIDDLE, "all"))
    parser.add_argument("--full", action="store_true", help="the papers' sizes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data-dir")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", help="folder to resume from")
    parser.add_argument("--out", default="figures", help="folder of the figures (default figures)")
    options = parser.parse_args(arguments)
    for name in MIDDLE if "all" in options.experiments else options.experiments:
        given = ["--device", options.device, "--seed", str(options.seed)]
        given += ["--data-dir", options.data_dir] if options.data_dir else []
        given += ["--checkpoint", f"{options.checkpoint}/{name}"] if options.checkpoint else []
        sizes = {} if options.full else MIDDLE[name]
        if code := program(f"training-{name}", f"{options.out}/train-{name}", __doc__, given, **sizes):
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
