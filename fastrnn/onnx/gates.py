"""Where fastrnn and ONNX differ in one layer's weights: the order of the gates."""

import numpy as np

__all__ = ["FROM_ONNX", "PEEPHOLES", "TO_ONNX", "ordered"]

# For each of ONNX's gates (i o f c of an LSTM, z r h of a GRU) its place among fastrnn's (i f g o; r z n).
TO_ONNX = {"RNN": (0,), "LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}
FROM_ONNX = {kind: tuple(map(order.index, range(len(order)))) for kind, order in TO_ONNX.items()}
PEEPHOLES = (0, 2, 1)  # i o f in ONNX's P, i f o here: the same order either way


def ordered(array, order):
    """A weight or bias, whose first axis is the gates one below the other, with its gates in another order."""
    blocks = np.split(array, len(order))
    return np.concatenate([blocks[gate] for gate in order])
