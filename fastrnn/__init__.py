"""Recurrent networks on a CPU: forward and back through time, as fast as the processor allows."""

from fastrnn.cells import GRUCell, LSTMCell, RNNCell
from fastrnn.denormals import set_flush_denormal
from fastrnn.files import load, save
from fastrnn.keras import from_keras_weights
from fastrnn.layers import GRU, LSTM, RNN
from fastrnn.losses import cross_entropy, mse
from fastrnn.module import Tape
from fastrnn.optim import SGD, Adam, clip_grad_norm
from fastrnn.parameters import Gradients, Parameters
from fastrnn.readout import Linear, softmax
from fastrnn.sequences import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
)
from fastrnn.threads import get_num_threads, set_num_threads

__version__ = "0.1.0"

__all__ = [
    "GRU", "LSTM", "RNN", "SGD", "Adam", "GRUCell", "Gradients", "LSTMCell", "Linear", "PackedSequence", "Parameters",
    "RNNCell", "Tape", "clip_grad_norm", "cross_entropy", "from_keras_weights", "get_num_threads", "load", "mse",
    "pack_padded_sequence", "pack_sequence", "pad_packed_sequence", "pad_sequence", "save", "set_flush_denormal",
    "set_num_threads", "softmax",
]
