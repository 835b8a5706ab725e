"""Sequences of different lengths in one array: padded, or packed as torch.nn.utils.rnn does it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrnn.parameters import describe

__all__ = ["PackedSequence", "pack_padded_sequence", "pack_sequence", "pad_packed_sequence", "pad_sequence"]


class PackedSequence(NamedTuple):
    """Sequences sorted by length, the longest first, and then stored step by step, without padding.

    Made by `pack_padded_sequence` or `pack_sequence`; the layers take and give it as torch's.

    Attributes
    ----------
    data : ndarray, (sum of lengths, ...)
        All rows of step 0, then all rows that have a step 1, and so on.
    batch_sizes : ndarray of int64, (longest length,)
        How many rows there are at each step.
    sorted_indices, unsorted_indices : ndarray of int64, (N,), or None
        Where each of the sorted rows was before, and where each row is now; None if they came sorted. There may be
        more of them than `batch_sizes[0]`: the last have no steps.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> packed = fastrnn.pack_sequence([np.array([1, 2, 3]), np.array([4, 5])])
    >>> packed.data, packed.batch_sizes
    (array([1, 4, 2, 5, 3]), array([2, 2, 1]))
    """

    data: NDArray[Any]
    batch_sizes: NDArray[np.integer[Any]]
    sorted_indices: NDArray[np.integer[Any]] | None = None
    unsorted_indices: NDArray[np.integer[Any]] | None = None

    def rows(self) -> int:
        """How many sequences there are."""
        if self.sorted_indices is not None:
            return len(self.sorted_indices)
        return int(self.batch_sizes[0]) if len(self.batch_sizes) else 0

    def sorted_lengths(self) -> NDArray[np.intp]:
        """Their lengths, in the order in which they are stored."""
        steps = np.asarray(self.batch_sizes)
        return (np.arange(self.rows())[:, None] < steps).sum(axis=1).astype(np.intp)

    def padded_rows(self, data: NDArray[Any], padding_value: float = 0) -> NDArray[Any]:
        """`data`, laid out as this sequence's, as an array (L, N, ...) in the order in which it is stored."""
        out = np.full((len(self.batch_sizes), self.rows(), *data.shape[1:]), padding_value, data.dtype)
        out[self._present()] = data
        return out

    def _present(self):
        return np.arange(self.rows()) < np.asarray(self.batch_sizes)[:, None]


def pack_padded_sequence(input: ArrayLike, lengths: ArrayLike, batch_first: bool = False,
                         enforce_sorted: bool = True) -> PackedSequence:
    """Pack an array of padded sequences.

    Parameters
    ----------
    input : array_like, (L, N, ...), or (N, L, ...) with `batch_first`
    lengths : array_like of int, (N,)
        From 0 to L. torch refuses 0; here a row may be empty.
    batch_first : bool
    enforce_sorted : bool
        True: the rows have to come sorted, the longest first. False: they are sorted here.

    Returns
    -------
    PackedSequence

    Raises
    ------
    ValueError
        Lengths that are out of range, not one for each row, or, with `enforce_sorted`, not sorted.
    TypeError
        Lengths that are not integers.
    """
    input = np.asarray(input)
    if input.ndim < 2:
        raise ValueError(f"input: expected at least 2 dimensions, got {input.ndim}")
    padded = input.swapaxes(0, 1) if batch_first else input
    lengths = checked_lengths(lengths, len(padded), padded.shape[1:2])
    order = None
    if enforce_sorted and (np.diff(lengths) > 0).any():
        raise ValueError("lengths: expected sorted, the longest first, since enforce_sorted is True, "
                         f"got {lengths.tolist()}")
    if not enforce_sorted or (lengths == 0).any():
        order = np.argsort(-lengths, kind="stable")
        padded, lengths = padded[:, order], lengths[order]
    present = np.arange(lengths.max(initial=0))[:, None] < lengths
    return PackedSequence(padded[: len(present)][present], present.sum(axis=1), order,
                          None if order is None else np.argsort(order))


def checked_lengths(lengths, T, shape):
    """Lengths as an array of ints of that shape, each from 0 to T."""
    lengths = np.asarray(lengths)
    if lengths.dtype.kind not in "iu" and lengths.size:
        raise TypeError(f"lengths: expected integers, got {lengths.dtype}")
    if lengths.shape != shape:
        raise ValueError(f"lengths: expected shape {describe(shape)}, got {describe(lengths.shape)}")
    lengths = lengths.astype(np.intp)
    wrong = (lengths < 0) | (lengths > T)
    if wrong.any():
        raise ValueError(f"lengths: expected from 0 to {T} (the steps of input), got {lengths[wrong][0]}")
    return lengths


def checked_packed(packed):
    """A PackedSequence whose parts fit together, its indices as arrays of intp."""
    sizes = np.asarray(packed.batch_sizes)
    if sizes.ndim != 1 or (sizes.dtype.kind not in "iu" and sizes.size):
        raise TypeError(f"batch_sizes: expected integers of 1 dimension, got {sizes.dtype} of {sizes.ndim}")
    sizes = sizes.astype(np.intp)
    if (np.diff(sizes) > 0).any() or (sizes < 1).any():
        raise ValueError(f"batch_sizes: expected a falling sequence of at least 1, got {sizes.tolist()}")
    if sizes.sum() != len(packed.data):
        raise ValueError(f"batch_sizes: expected a sum of {len(packed.data)} (the rows of data), got {sizes.sum()}")
    packed = packed._replace(batch_sizes=sizes)
    if packed.sorted_indices is None:
        return packed
    order = np.asarray(packed.sorted_indices)
    if order.dtype.kind not in "iu" or not np.array_equal(np.sort(order), np.arange(order.size)) \
            or len(order) < sizes.max(initial=0):
        raise ValueError(f"sorted_indices: expected a permutation of at least {sizes.max(initial=0)} rows, "
                         f"got {order.tolist()}")
    return packed._replace(sorted_indices=order.astype(np.intp))


def pad_packed_sequence(sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0,
                        total_length: int | None = None) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The reverse of `pack_padded_sequence`.

    Parameters
    ----------
    sequence : PackedSequence
    batch_first : bool
    padding_value : float
    total_length : int, optional
        Steps of the result, if more than the longest sequence has.

    Returns
    -------
    padded : ndarray, (L, N, ...), or (N, L, ...) with `batch_first`
        The rows in their order before packing.
    lengths : ndarray of int64, (N,)

    Raises
    ------
    ValueError
        A `total_length` that is too short.
    """
    if not isinstance(sequence, PackedSequence):
        raise TypeError(f"sequence: expected a PackedSequence, got {type(sequence).__name__}")
    padded, lengths = sequence.padded_rows(sequence.data, padding_value), sequence.sorted_lengths()
    if total_length is not None:
        if total_length < len(padded):
            raise ValueError(f"total_length: expected at least {len(padded)} (the longest), got {total_length}")
        behind = np.full((total_length - len(padded), *padded.shape[1:]), padding_value, padded.dtype)
        padded = np.concatenate([padded, behind])
    if sequence.unsorted_indices is not None:
        padded, lengths = padded[:, sequence.unsorted_indices], lengths[sequence.unsorted_indices]
    return padded.swapaxes(0, 1) if batch_first else padded, lengths.astype(np.int64)


def pad_sequence(sequences: Sequence[ArrayLike], batch_first: bool = False,
                 padding_value: float = 0.0) -> NDArray[Any]:
    """Stack sequences of different lengths into one array, filled up behind each.

    Parameters
    ----------
    sequences : list of array_like, (length, ...)
    batch_first : bool
    padding_value : float

    Returns
    -------
    ndarray, (L, N, ...), or (N, L, ...) with `batch_first`

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> fastrnn.pad_sequence([np.array([1, 2, 3]), np.array([4, 5])], batch_first=True)
    array([[1, 2, 3],
           [4, 5, 0]])
    """
    sequences = [np.asarray(sequence) for sequence in sequences]
    if not sequences:
        raise ValueError("sequences: expected at least one, got none")
    if len({sequence.shape[1:] for sequence in sequences}) > 1 or not all(s.ndim for s in sequences):
        raise ValueError("sequences: expected equal shapes but for the length, got "
                         + ", ".join(describe(sequence.shape) for sequence in sequences))
    longest = max(map(len, sequences))
    out = np.full((len(sequences), longest, *sequences[0].shape[1:]), padding_value, np.result_type(*sequences))
    for row, sequence in zip(out, sequences, strict=True):
        row[: len(sequence)] = sequence
    return out if batch_first else np.ascontiguousarray(out.swapaxes(0, 1))


def pack_sequence(sequences: Sequence[ArrayLike], enforce_sorted: bool = True) -> PackedSequence:
    """Pack sequences of different lengths: `pad_sequence`, then `pack_padded_sequence`.

    Parameters
    ----------
    sequences : list of array_like, (length, ...)
    enforce_sorted : bool

    Returns
    -------
    PackedSequence
    """
    lengths = np.array([len(sequence) for sequence in sequences], np.int64)
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)
