"""Object arrays as other tools save them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np


def objects(values):
    array = np.empty(len(values), object)
    for index, value in enumerate(values):
        array[index] = value
    return array


def save(path: Path, values, *, protocol=4):
    """As np.save does, with the protocol of an older NumPy where told."""
    array = objects(values)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        pickle.dump(array, file, protocol=protocol)
    return path
