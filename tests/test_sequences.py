"""Padding and packing against torch.nn.utils.rnn; sequences that do not fit together are errors."""

import numpy as np
import pytest
import torch

import fastrnn

utils = torch.nn.utils.rnn


def assert_same_packed(got, expected):
    for name in ("data", "batch_sizes", "sorted_indices", "unsorted_indices"):
        mine, its = getattr(got, name), getattr(expected, name)
        assert (mine is None) == (its is None), name
        if mine is not None:
            assert np.array_equal(mine, its.numpy()), name


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(("lengths", "enforce_sorted"), [([5, 3, 3, 1], True), ([1, 5, 2, 4], False), ([5], True)])
def test_packing_is_that_of_torch(lengths, enforce_sorted, batch_first):
    x = np.random.default_rng(0).standard_normal((5, len(lengths), 3)).astype(np.float32)
    x = x.swapaxes(0, 1) if batch_first else x
    packed = fastrnn.pack_padded_sequence(x, lengths, batch_first, enforce_sorted)
    peer = utils.pack_padded_sequence(torch.tensor(x), torch.tensor(lengths), batch_first, enforce_sorted)
    assert_same_packed(packed, peer)
    for total in (None, 8):
        padded, found = fastrnn.pad_packed_sequence(packed, batch_first, -1.5, total)
        peer_padded, peer_found = utils.pad_packed_sequence(peer, batch_first, -1.5, total)
        assert np.array_equal(padded, peer_padded.numpy()) and np.array_equal(found, peer_found.numpy())


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
def test_sequences_stacked_as_by_torch(shape, batch_first):
    rng = np.random.default_rng(0)
    sequences = [rng.standard_normal((length, *shape)) for length in (4, 4, 2, 1)]
    tensors = list(map(torch.tensor, sequences))
    padded = fastrnn.pad_sequence(sequences, batch_first, 7.0)
    assert np.array_equal(padded, utils.pad_sequence(tensors, batch_first, 7.0).numpy())
    assert_same_packed(fastrnn.pack_sequence(sequences), utils.pack_sequence(tensors))
    assert_same_packed(fastrnn.pack_sequence(sequences[::-1], enforce_sorted=False),
                       utils.pack_sequence(tensors[::-1], enforce_sorted=False))


def test_rows_of_no_steps_are_packed_and_come_back():
    x = np.arange(24.0).reshape(4, 3, 2)
    packed = fastrnn.pack_padded_sequence(x, [0, 4, 2], enforce_sorted=False)
    assert packed.batch_sizes.tolist() == [2, 2, 1, 1] and packed.rows() == 3
    padded, lengths = fastrnn.pad_packed_sequence(packed)
    assert lengths.tolist() == [0, 4, 2]
    assert np.array_equal(padded, np.where(np.arange(4)[:, None, None] < lengths[:, None], x, 0))


X = np.ones((4, 3, 2), np.float32)
PACKED = fastrnn.pack_padded_sequence(X, [4, 2, 1])


@pytest.mark.parametrize(("error", "message", "call"), [
    (ValueError, r"input: expected at least 2 dimensions, got 1", lambda: fastrnn.pack_padded_sequence(X[0, 0], [1])),
    (ValueError, r"lengths: expected shape \(3,\), got \(2,\)", lambda: fastrnn.pack_padded_sequence(X, [4, 2])),
    (ValueError, r"lengths: expected from 0 to 4 \(the steps of input\), got 5",
     lambda: fastrnn.pack_padded_sequence(X, [5, 2, 1])),
    (ValueError, "lengths: expected from 0 to 4.*, got -1", lambda: fastrnn.pack_padded_sequence(X, [4, 2, -1])),
    (TypeError, "lengths: expected integers, got float64", lambda: fastrnn.pack_padded_sequence(X, [4.0, 2, 1])),
    (ValueError, r"lengths: expected sorted, the longest first, since enforce_sorted is True, got \[1, 2, 4\]",
     lambda: fastrnn.pack_padded_sequence(X, [1, 2, 4])),
    (TypeError, "sequence: expected a PackedSequence, got ndarray", lambda: fastrnn.pad_packed_sequence(X)),
    (ValueError, r"total_length: expected at least 4 \(the longest\), got 3",
     lambda: fastrnn.pad_packed_sequence(PACKED, total_length=3)),
    (ValueError, "sequences: expected at least one, got none", lambda: fastrnn.pad_sequence([])),
    (ValueError, r"sequences: expected equal shapes but for the length, got \(3, 2\), \(3, 1\)",
     lambda: fastrnn.pad_sequence([X[0], X[0, :, :1]])),
])
def test_what_cannot_be_packed(error, message, call):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize(("error", "message", "changed"), [
    (ValueError, "batch_sizes: expected a sum of 7", {"batch_sizes": [3, 2, 1]}),
    (ValueError, "batch_sizes: expected a falling sequence of at least 1, got", {"batch_sizes": [1, 2, 3, 1]}),
    (ValueError, "batch_sizes: expected a falling sequence of at least 1, got", {"batch_sizes": [4, 3, 0]}),
    (TypeError, "batch_sizes: expected integers of 1 dimension", {"batch_sizes": [3.0, 2.0, 1.0, 1.0]}),
    (ValueError, "sorted_indices: expected a permutation of at least 3 rows", {"sorted_indices": [0, 1]}),
    (ValueError, "sorted_indices: expected a permutation of at least 3 rows", {"sorted_indices": [0, 1, 3]}),
    (ValueError, r"input: expected last dimension 2 \(input_size\), got 3", {"data": np.ones((7, 3), np.float32)}),
    (ValueError, r"input: expected 2 dimensions \(of a PackedSequence's data\), got 1", {"data": X[0, 0]}),
])
def test_parts_that_do_not_fit_together(kind, error, message, changed):
    layer = getattr(fastrnn, kind)(2, 3, rng=0)
    for call in (layer, layer.forward):
        with pytest.raises(error, match=message):
            call(PACKED._replace(**{k: v if k == "data" else np.array(v) for k, v in changed.items()}))
