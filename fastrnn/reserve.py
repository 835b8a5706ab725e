"""Memory of large tapes that have been used up, for those that come after."""

import math

import numpy as np

__all__ = ["Reserve"]

LARGE = 1 << 25  # bytes of an array, from which on a C library gives its memory back to the system when it is freed


class Reserve(list):
    """Large arrays that the last tape kept for itself alone, when that has been used up.

    The system clears memory that it hands out, at the first touch of a page: a twentieth of the training of large
    layers, if each pass has it anew. Threads may share a reserve: `pop` gives an array to one of them only.
    """

    def empty(self, shape, dtype):
        """As `np.empty`, in memory of the reserve that is as large and not twice; what does not fit is let go."""
        size = math.prod(shape)
        while self and size * dtype.itemsize >= LARGE:
            try:
                array = self.pop()
            except IndexError:  # another thread was faster
                break
            if size <= array.size < 2 * size:
                return array.reshape(-1)[:size].reshape(shape)
            del array
        return np.empty(shape, dtype)

    def keep(self, records, *, cells):
        """Take the large arrays of used `recurrence.Record`s, maybe with their cells, in place of what there is."""
        saved = records[0][3]
        if self or (saved is not None and saved.nbytes >= LARGE):
            arrays = [array for record in records for array in record[2 if cells else 3:]]
            self[:] = [array if array.base is None else array.base for array in reversed(arrays)  # as `empty` pops them
                       if array is not None and array.nbytes >= LARGE]
