"""The papers' training figures: log loss and norm of the recurrent weights against epochs, for growing widths.

    python scripts/train_papers.py deq-sphere relu-mnist --out figures

runs the experiments of arXiv 2205.13814 (deq-...) and arXiv 2110.05645 (relu-...) at sizes that two cores finish in
about a quarter of an hour each; `--full` at the papers' own, for which a GPU (`--device cuda`) is wanted.  Interrupted,
the same command goes on from `--checkpoint`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rmtdeq.cli import main as rmtdeq

SMALL = {
    "deq-sphere": "--n 100 --p 100 --widths 200 500 1000 2000 --epochs 2000 --tolerance 1e-8",
    "deq-mnist": "--dataset mnist --n 200 --widths 200 500 1000 2000 --epochs 1000 --dtype float32 --tolerance 1e-5",
    "relu-mnist": "--dataset mnist --n 200 --test 200 --widths 500 1000 2000 4000 --epochs 1000 --dtype float32",
    "relu-fashion": "--dataset fashion-mnist --n 200 --test 200 --widths 500 1000 2000 4000 --epochs 1000 "
    "--dtype float32",
}
FULL = {
    "deq-sphere": "--n 1000 --p 1000 --widths 3000 3500 4000 4500 5000 --epochs 2000 --dtype float32",
    "deq-mnist": "--dataset mnist --n 1000 --widths 21000 22000 23000 24000 25000 --epochs 2000 --dtype float32",
    "relu-mnist": "--dataset mnist --n 1000 --test 1000 --widths 500 1000 2000 4000 --epochs 1000 --dtype float32",
    "relu-fashion": "--dataset fashion-mnist --n 1000 --test 1000 --widths 500 1000 2000 4000 --epochs 1000 "
    "--dtype float32",
}


def main():
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="+", choices=(*SMALL, "all"))
    parser.add_argument("--full", action="store_true", help="the papers' sizes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data-dir")
    parser.add_argument("--checkpoint", help="folder to resume from")
    parser.add_argument("--out", default="figures", help="folder of the figures (default figures)")
    options = parser.parse_args()
    for name in SMALL if "all" in options.experiments else options.experiments:
        model = "deq" if name.startswith("deq") else "implicit-relu"
        command = ["train", "--model", model, *(FULL if options.full else SMALL)[name].split()]
        command += ["--device", options.device, "--out", str(Path(options.out) / f"train-{name}")]
        if options.data_dir:
            command += ["--data-dir", options.data_dir]
        if options.checkpoint:
            command += ["--checkpoint", str(Path(options.checkpoint) / name)]
        if code := rmtdeq(command):
            raise SystemExit(code)


if __name__ == "__main__":
    main()
