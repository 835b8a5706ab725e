"""For the tests of fastrnn.torch: modules of both kinds over the same weights, and how far results are apart."""

import copy

import torch

import fastrnn.torch

NAMES = ("RNN", "LSTM", "GRU")


def twins(name, *args, dtype=torch.float64, **kwargs):
    """A module of torch, and fastrnn's with the same parameters."""
    plain = getattr(torch.nn, name)(*args, dtype=dtype, **kwargs)
    return plain, fastrnn.torch.accelerate(copy.deepcopy(plain))


def apart(actual, expected):
    """The largest difference of two tensors."""
    return (actual - expected).detach().abs().max().item()
