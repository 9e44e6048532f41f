"""Make the sample of Fashion-MNIST that comes with the package, from Fashion-MNIST itself.

The whole training set is found or downloaded as `rmtdeq.data.load_dataset` does it. Without --seed the images are the
first ones of each class, in the order of the training set; with it they are drawn at random.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rmtdeq.data.datasets import load_images


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the npz file to write, such as fashion_sample.npz")
    parser.add_argument("--classes", type=int, nargs="+", default=[5, 7], help="labels (default: sandal and sneaker)")
    parser.add_argument("--per-class", type=int, default=2000, help="images of each class (default: 2000)")
    parser.add_argument("--seed", type=int, help="draw the images with this seed instead of taking the first ones")
    parser.add_argument("--data-dir", type=Path, help="a folder to search first")
    options = parser.parse_args(arguments)

    images, labels = load_images("fashion-mnist", data_dir=options.data_dir)
    rng = None if options.seed is None else np.random.default_rng(options.seed)
    chosen = []
    for label in options.classes:
        rows = np.flatnonzero(labels == label)
        if not 1 <= options.per_class <= rows.size:
            parser.error(f"class {label} has {rows.size} images, so --per-class cannot be {options.per_class}")
        chosen.append((rows if rng is None else rng.permutation(rows))[: options.per_class])
    # In the order of the training set, so that the sample does not come sorted by class.
    order = np.sort(np.concatenate(chosen))
    np.savez_compressed(options.out, x_train=images[order], y_train=labels[order].astype(np.uint8))
    print(f"{options.out}: {order.size} images, {options.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
