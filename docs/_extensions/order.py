"""The tutorials in the order in which they are best read."""

ORDER = ("predict", "compare", "design", "train", "scale", "own_data", "converge", "when_the_theory_fails")


def by_purpose(filename: str) -> int:
    """Return the place of a tutorial; an unknown one is an error."""
    return ORDER.index(filename.removesuffix(".py"))
