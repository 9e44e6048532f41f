"""Numbers of the papers, most of them read off their figures."""

from __future__ import annotations

ACCURACY_WIDTHS = (32, 64, 128, 256, 512, 1024, 2048, 4096)

READ_OFF = "read off, ± 0.004"

ACCURACY: dict[tuple[str, str, str], tuple[float | None, ...]] = {
    ("mnist", "tanh", "DEQ"): (0.757, 0.841, 0.881, 0.907, 0.912, 0.914, 0.917, 0.917),
    ("mnist", "tanh", "designed"): (0.761, 0.842, 0.879, 0.904, 0.911, 0.914, 0.917, 0.917),
    ("mnist", "tanh", "plain"): (0.775, 0.849, 0.876, 0.896, 0.900, 0.902, 0.905, 0.905),
    ("mnist", "relu", "DEQ"): (0.715, 0.817, 0.875, 0.912, 0.928, 0.934, 0.937, 0.937),
    ("mnist", "relu", "designed"): (0.651, 0.793, 0.856, 0.891, 0.912, 0.927, 0.936, 0.934),
    ("mnist", "relu", "plain"): (0.577, 0.700, 0.792, 0.863, 0.890, 0.907, 0.910, 0.919),
}
"""arXiv 2402.02697, test accuracy at the widths above, by data set, activation and network."""

_AT_4096 = {
    ("fashion-mnist", "tanh"): (0.837, 0.837, 0.822),
    ("fashion-mnist", "relu"): (0.846, 0.842, 0.823),
    ("cifar10", "tanh"): (0.845, 0.846, 0.846),
    ("cifar10", "relu"): (0.840, 0.836, 0.762),
}
ACCURACY |= {
    (*key, network): (None,) * 7 + (value,)
    for key, values in _AT_4096.items()
    for network, value in zip(("DEQ", "designed", "plain"), values, strict=True)
}

LOG_LOSS = {3000: 0.0, 3500: -0.8, 4000: -2.5, 4500: -4.0, 5000: -6.0}
"""arXiv 2205.13814, final log loss by width, random targets on the sphere, n = d = 1000; the step is not stated."""

MONDEQ = {
    ("mnist", "linear"): 98.1,
    ("mnist", "conv"): 99.1,
    ("svhn", "linear"): 88.7,
    ("svhn", "conv"): 92.4,
    ("cifar10", "linear"): 74.0,
    ("cifar10", "conv"): 72.0,
}
"""monDEQ's test accuracy in per cent, as its paper gives it, by data set and kind of network."""

PCDEQ_PARAMETERS = {
    ("mnist", "linear"): 70_410,
    ("mnist", "conv"): 69_136,
    ("mnist", "three-blocks"): 41_278,
    ("svhn", "conv"): 164_760,
    ("cifar10", "conv"): 164_760,
    ("svhn", "three-blocks"): 130_950,
    ("cifar10", "three-blocks"): 130_950,
}
"""arXiv 2402.04029, numbers of parameters, by data set and network."""


def accuracy(dataset: str, activation: str, network: str, width: int) -> float | None:
    """Return the published test accuracy, if there is one."""
    found = ACCURACY.get((dataset, activation, network))
    if found is None or width not in ACCURACY_WIDTHS:
        return None
    return found[ACCURACY_WIDTHS.index(width)]
