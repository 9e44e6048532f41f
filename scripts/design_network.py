"""The kernels of a DEQ, of its designed network and of a plain network, one figure for each setting.

Runs ``rmtdeq design`` over a list of data, activations and kernels with one seed, at the mean squared norm of the data
and once more at the norms of the classes; figures and their manifests go to ``--out``, and a table of the distances.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rmtdeq.cli import main as rmtdeq

SETTINGS = {
    "mixture2": ["--dataset", "mixture", "--classes", "2", "--p", "2000"],
    "fashion-sample": ["--dataset", "fashion-sample"],
    "mnist-6-8": ["--dataset", "mnist", "--classes", "6", "8"],
    "mnist": ["--dataset", "mnist", "--n", "2000"],
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", default="figures", help="folder for the figures (default figures)")
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=SETTINGS)
    parser.add_argument("--activations", nargs="+", default=["tanh", "relu", "swish"])
    parser.add_argument("--kinds", nargs="+", default=["ck", "ntk"])
    parser.add_argument("--sigma-a2", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    rows = []
    for setting in options.settings:
        for activation in options.activations:
            for kind in options.kinds:
                found = []
                for suffix, flags in (("", []), ("-classwise", ["--class-wise"])):
                    out = Path(options.out) / f"design-{setting}-{activation}-{kind}{suffix}"
                    network = ["--activation", activation, "--sigma-a2", str(options.sigma_a2), "--kind", kind]
                    where = [*SETTINGS[setting], "--seed", str(options.seed), "--out", str(out)]
                    code = rmtdeq(["design", *network, *where, *flags])
                    if code:
                        return code
                    found.append(json.loads(out.with_suffix(".json").read_text())["results"][kind])
                rows.append(row(setting, activation, kind, found))
    print("\n| data | activation | kernel | plain | designed | class-wise |\n|---|---|---|---|---|---|")
    print("\n".join(rows))
    return 0


def row(setting: str, activation: str, kind: str, found: list[dict[str, Any]]) -> str:
    distances = [found[0]["distance_plain"], *(result["distance"] for result in found)]
    return f"| {setting} | {activation} | {kind} | {' | '.join(f'{value:.2g}' for value in distances)} |"


if __name__ == "__main__":
    sys.exit(main())
