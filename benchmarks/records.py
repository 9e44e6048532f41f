"""Files of what was measured, a line each, from which a program that was ended early goes on."""

from __future__ import annotations

import json


def read(file):
    """Return what a file holds, a list of dicts; nothing where there is none."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def append(file, row):
    """Add what was measured, at once."""
    with file.open("a") as log:
        log.write(json.dumps(row) + "\n")
