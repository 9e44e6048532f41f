"""Numeric matrices of MATLAB files of version 5, byte by byte.

scipy's reader, which is written in C, brings the process down with it on some damaged files; this one reads no more
than the package needs, and can only raise.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

_HEADER = 128
_HDF5 = b"\x89HDF\r\n\x1a\n"
_COMPRESSED, _MATRIX = 15, 14
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Types of the stored numbers."""

_CLASSES = range(6, 16)
"""Of matrices that are numeric and dense: double to uint64."""

_COMPLEX = 0x08
_LARGEST = 1 << 31


def is_hdf5(content: bytes) -> bool:
    """Say whether a file is of version 7.3, which is HDF5, with a header of MATLAB's before it or not."""
    return content.startswith(b"MATLAB 7.3") or _HDF5 in (content[:8], content[512:520])


def read_matrices(content: bytes, names: tuple[str, ...]) -> dict[str, np.ndarray[Any, Any]]:
    """Return the matrices of some names in the content of a file.

    Raises
    ------
    ValueError
        It is not such a file.
    """
    if len(content) < _HEADER or content[126:128] not in (b"IM", b"MI"):
        raise ValueError("no header of a MATLAB file of version 5")
    order = "<" if content[126:128] == b"IM" else ">"
    found = {}
    for kind, data in _elements(content[_HEADER:], order):
        if kind == _COMPRESSED:
            stream = zlib.decompressobj()
            data = stream.decompress(data, _LARGEST)
            if not stream.eof:
                raise ValueError("a matrix is cut off, or larger than 2 GiB")
            (kind, data), *_ = _elements(data, order)
        if kind == _MATRIX:
            name, matrix = _matrix(data, order, names)
            if matrix is not None:
                found[name] = matrix
    return found


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Kind and content of the elements that follow each other."""
    at = 0
    while at + 8 <= len(data):
        first, size = struct.unpack_from(f"{order}II", data, at)
        if first >> 16:  # a small element, in the place of its size
            yield first & 0xFFFF, data[at + 4 : at + 4 + min(first >> 16, 4)]
            at += 8
            continue
        if at + 8 + size > len(data):
            raise ValueError(f"an element announces {size} bytes, and {len(data) - at - 8} are there")
        yield first, data[at + 8 : at + 8 + size]
        at += 8 + size
        if first != _COMPRESSED:
            at += -size % 8


def _matrix(data: bytes, order: str, names: tuple[str, ...]) -> tuple[str, np.ndarray[Any, Any] | None]:
    """Name and entries of a matrix; no entries if it is another than those wanted."""
    elements = _elements(data, order)
    try:
        (_, flags), (_, shape), (_, title) = (next(elements) for _ in range(3))
    except (StopIteration, RuntimeError) as error:
        raise ValueError("a matrix without flags, shape and name") from error
    name = title.decode("latin1")
    if name not in names:
        return name, None
    (word,) = struct.unpack_from(f"{order}I", flags)
    if word & 0xFF not in _CLASSES or word >> 8 & _COMPLEX:
        raise ValueError(f"{name} is no matrix of real numbers")
    sizes = np.frombuffer(shape, f"{order}i4").tolist()
    kind, entries = next(elements, (0, b""))
    if kind not in _NUMBERS or len(sizes) < 2 or min(sizes) < 0:
        raise ValueError(f"{name} has no shape, or no numbers")
    values = np.frombuffer(entries, np.dtype(f"{order}{_NUMBERS[kind]}"))
    if values.size != math.prod(sizes):
        raise ValueError(f"{name} has {values.size} entries where its shape, {sizes}, announces {math.prod(sizes)}")
    return name, values.astype(values.dtype.newbyteorder("=")).reshape(sizes, order="F")
