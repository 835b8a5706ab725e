"""How the caller lays out sequences, and the views and copies between that and what the kernels read."""

import numpy as np

from fastrnn.parameters import describe
from fastrnn.sequences import checked_lengths

__all__ = ["TIME_MAJOR", "Layout"]


class Layout:
    """Sequences as the caller has them: batched or not, batch or time first, padded or packed, of what lengths.

    The kernels work on (L, N, features) whose rows, if they differ in length, are sorted, the longest first.

    Attributes
    ----------
    lengths : ndarray of intp or None
        Of the sorted rows, where they differ.
    reset : ndarray of uint8, (D, L, N), or None
        For each direction in its own order of time: 1 where the state before a step is zero.
    """

    __slots__ = ("_order", "_packed", "batch_first", "batched", "lengths", "reset")

    def __init__(self, batched, batch_first):
        self.batched, self.batch_first = batched, batched and batch_first
        self._order = self._packed = self.lengths = self.reset = None

    @classmethod
    def of_packed(cls, packed):
        """The layout of a `PackedSequence`."""
        layout = cls(True, False)
        layout._packed = packed
        layout._order = packed.sorted_indices
        layout.lengths = packed.sorted_lengths()
        return layout

    @property
    def packed(self):
        """Whether the caller's sequences are a `PackedSequence`."""
        return self._packed is not None

    def set_lengths(self, lengths, T, B):
        """Take the caller's lengths, checked: as many as there are rows, each from 0 to T."""
        if self._packed is not None:
            raise ValueError("lengths: expected None beside a PackedSequence, which has its own, got an array")
        found = checked_lengths(lengths, T, (B,) if self.batched else ()).reshape(B)
        if (found == T).all():
            return
        if (np.diff(found) > 0).any():
            self._order = np.argsort(-found, kind="stable")
            found = found[self._order]
        self.lengths = found

    def set_reset(self, reset, T, B, directions):
        """Take the caller's resets, checked: booleans in the shape of the input without features."""
        found = np.asarray(reset)
        shape = self.shown_shape(T, B, 0)[:-1]
        if found.dtype != np.bool_:
            raise TypeError(f"reset: expected booleans, got {found.dtype}")
        if found.shape != shape:
            raise ValueError(f"reset: expected shape {describe(shape)}, got {describe(found.shape)}")
        found = self.sequence(found[..., None])[..., 0]
        if self.lengths is not None:
            found = found & (np.arange(T)[:, None] < self.lengths)
        self.reset = np.zeros((directions, T, B), np.uint8)
        self.reset[0] = found
        if directions == 2:  # from step t + 1 back to t
            self.reset[1, 1:] = found[:0:-1]

    def time_major(self, array):
        """The caller's array as (L, N, features)."""
        return array.swapaxes(0, 1) if self.batch_first else array if self.batched else array[:, None]

    def sorted(self, array):
        """An (L, N, features) array, or states, with the rows in the kernels' order."""
        return array if self._order is None else array[:, self._order]

    def unsorted(self, array):
        """The reverse of `sorted`."""
        if self._order is None:
            return array
        out = np.empty_like(array)
        out[:, self._order] = array
        return out

    def sequence(self, array):
        """The caller's sequence as the kernels read it."""
        if self._packed is not None:
            return self._packed.padded_rows(array)
        return self.sorted(self.time_major(array))

    def shown(self, array):
        """The kernels' (L, N, features) array as the caller knows it."""
        if self._packed is not None:
            return self._packed.with_rows(array)
        array = self.unsorted(array)
        return array.swapaxes(0, 1) if self.batch_first else array if self.batched else array[:, 0]

    def shown_shape(self, T, B, features):
        """Shape of such an array as the caller knows it; of a PackedSequence that of its data."""
        if self._packed is not None:
            return (len(self._packed.data), features)
        return (B, T, features) if self.batch_first else (T, B, features) if self.batched else (T, features)

    def state(self, array):
        """The caller's states as (D * num_layers, N, size) in the kernels' order."""
        return self.sorted(array if self.batched else array[:, None])

    def shown_state(self, array):
        """The reverse of `state`."""
        array = self.unsorted(array)
        return array if self.batched else array[:, 0]

    def empty(self, T, B, features, dtype):
        """A new (L, N, features) array, contiguous as the caller sees it, and zero where rows may end early."""
        make = np.empty if self.lengths is None else np.zeros
        if self._packed is not None:
            return make((T, B, features), dtype)
        return self.time_major(make(self.shown_shape(T, B, features), dtype))

    def zeros(self, T, B, features, dtype):
        """A new (L, N, features) array of zeros for between two layers."""
        return np.zeros((T, B, features), dtype)


TIME_MAJOR = Layout(True, False)
