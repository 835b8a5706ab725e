"""How the caller lays out sequences, and the views and copies between that and what the kernels read."""

import numpy as np

from fastrnn.parameters import describe
from fastrnn.sequences import checked_lengths, checked_packed

__all__ = ["Layout"]


class Layout:
    """Sequences as the caller has them: batched or not, batch or time first, padded or packed, of what lengths.

    The kernels work on (L, N, features) or, where rows differ in length, on packed sequences: rows sorted by length,
    the longest first, all rows of step 0, then those that have a step 1, and so on, as (sum of lengths, 1, features).

    Attributes
    ----------
    T, B : int
        The caller's steps (of a PackedSequence those of the longest row) and rows.
    lengths : ndarray of intp or None
        Of the sorted rows, where they differ.
    reset : ndarray of uint8, (D, longest, N), or None
        For each direction in its own order of time: 1 where the state before a step is zero.
    """

    __slots__ = ("B", "T", "_order", "_packed", "_rows", "batch_first", "batched", "lengths", "reset")

    def __init__(self, T, B, batched=True, batch_first=False):
        self.T, self.B, self.batched, self.batch_first = T, B, batched, batched and batch_first
        self._order = self._packed = self._rows = self.lengths = self.reset = None

    @classmethod
    def of_array(cls, x, batch_first):
        """The layout of an array of 2 or 3 dimensions."""
        if x.ndim == 2:
            return cls(len(x), 1, batched=False)
        return cls(*(x.shape[1::-1] if batch_first else x.shape[:2]), batch_first=batch_first)

    @classmethod
    def of_packed(cls, packed):
        """The layout of a `PackedSequence`, which is checked."""
        packed = checked_packed(packed)
        layout = cls(len(packed.batch_sizes), packed.rows())
        layout._packed, layout._order, layout.lengths = packed, packed.sorted_indices, packed.sorted_lengths()
        return layout

    @property
    def packed(self):
        """Whether the caller's sequences are a `PackedSequence`."""
        return self._packed is not None

    def set_lengths(self, lengths):
        """Take the caller's lengths, checked: as many as there are rows, each from 0 to T."""
        if self.packed:
            raise ValueError("lengths: expected None beside a PackedSequence, which has its own, got an array")
        T, B = self.T, self.B
        found = checked_lengths(lengths, T, (B,) if self.batched else ()).reshape(B)
        if (found == T).all():
            return
        order = np.arange(B)
        if (np.diff(found) > 0).any():
            self._order = order = np.argsort(-found, kind="stable")
            found = found[order]
        self.lengths = found
        # Where each packed row lies among the caller's, which come step by step or row by row.
        places = np.arange(T)[:, None] + order * T if self.batch_first else np.arange(T)[:, None] * B + order
        self._rows = places[np.arange(T)[:, None] < found]

    def set_reset(self, reset, directions):
        """Take the caller's resets, checked: booleans in the shape of the input without features."""
        found = np.asarray(reset)
        shape = self.shown_shape(0)[:-1]
        if found.dtype != np.bool_:
            raise TypeError(f"reset: expected booleans, got {found.dtype}")
        if found.shape != shape:
            raise ValueError(f"reset: expected shape {describe(shape)}, got {describe(found.shape)}")
        if self.packed:
            found = self._packed.padded_rows(found)
        else:
            found = self._sorted(found.T if self.batch_first else found.reshape(self.T, self.B))
        if self.lengths is not None:
            T = self.lengths.max(initial=0)
            found = found[:T] & (np.arange(T)[:, None] < self.lengths)
        self.reset = np.zeros((directions, *found.shape), np.uint8)
        self.reset[0] = found
        if directions == 2:  # from step t + 1 back to t
            self.reset[1, 1:] = found[:0:-1]

    def sequence(self, array):
        """The caller's sequence as the kernels read it."""
        if self.packed:
            return array[:, None]
        if self.lengths is not None:
            return np.take(array.reshape(-1, array.shape[-1]), self._rows, axis=0)[:, None]
        return self._time_major(array)

    def shown(self, array):
        """The reverse of `sequence`; zeros behind the end of a row."""
        if self.packed:
            return self._packed._replace(data=array[:, 0])
        if self.lengths is not None:
            out = np.zeros((self.T * self.B, array.shape[-1]), array.dtype)
            out[self._rows] = array[:, 0]
            return out.reshape(self.shown_shape(array.shape[-1]))
        return array.swapaxes(0, 1) if self.batch_first else array if self.batched else array[:, 0]

    def shown_shape(self, features):
        """Shape of a sequence as the caller knows it; of a PackedSequence that of its data."""
        T, B = self.T, self.B
        if self.packed:
            return (len(self._packed.data), features)
        return (B, T, features) if self.batch_first else (T, B, features) if self.batched else (T, features)

    def state(self, array):
        """The caller's states as (D * num_layers, N, size) in the kernels' order."""
        return self._sorted(array if self.batched else array[:, None])

    def shown_state(self, array):
        """The reverse of `state`."""
        if self._order is not None:
            sorted_rows, array = array, np.empty_like(array)
            array[:, self._order] = sorted_rows
        return array if self.batched else array[:, 0]

    def empty(self, features, dtype, last=True):
        """A new sequence for the kernels to write.

        That of the last layer is contiguous as the caller sees it, those between two layers as the kernels do.
        """
        if self.lengths is not None:
            return np.empty((self.lengths.sum(), 1, features), dtype)
        if last:
            return self._time_major(np.empty(self.shown_shape(features), dtype))
        return np.empty((self.T, self.B, features), dtype)

    def _time_major(self, array):
        return array.swapaxes(0, 1) if self.batch_first else array if self.batched else array[:, None]

    def _sorted(self, array):
        return array if self._order is None else array[:, self._order]
