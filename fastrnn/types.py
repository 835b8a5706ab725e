"""Types that the annotations of several files share. What shapes an array has, the docstrings say."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Array", "Pair", "PairLike", "Rng"]

Array: TypeAlias = NDArray[np.floating[Any]]  # float32 or float64, as the module's dtype says
Pair: TypeAlias = tuple[Array, Array]  # h and c of an LSTM
PairLike: TypeAlias = tuple[ArrayLike, ArrayLike]
Rng: TypeAlias = "int | np.random.Generator | None"  # in quotes: NumPy imports its random numbers when they are used
