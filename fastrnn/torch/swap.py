"""Putting fastrnn's modules in place of torch's in a whole model, and back."""

from typing import TypeVar

import torch

from fastrnn.torch import modules

__all__ = ["accelerate", "restore"]

Model = TypeVar("Model", bound=torch.nn.Module)

TWINS = {getattr(torch.nn, name): getattr(modules, name)
         for name in ("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell")}


def accelerate(model: Model) -> Model:
    """Let every RNN, LSTM, GRU and cell of a model run in fastrnn.

    The modules stay the same objects, with their parameters, hooks and places in the model; only their class is
    changed to its twin here. Subclasses of torch's modules that a model defines itself are left alone, since
    their `forward` is theirs; so are modules that have been compiled to TorchScript.

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place. It may itself be recurrent.

    Returns
    -------
    torch.nn.Module
        `model`.

    Examples
    --------
    >>> import torch, fastrnn.torch
    >>> model = torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.GRU(4, 8))
    >>> type(fastrnn.torch.accelerate(model)[1]) is fastrnn.torch.GRU
    True
    >>> type(fastrnn.torch.restore(model)[1]) is torch.nn.GRU
    True
    """
    return _swap(model, TWINS)


def restore(model: Model) -> Model:
    """Undo `accelerate`: every twin in a model becomes torch's own module again, in place.

    Parameters
    ----------
    model : torch.nn.Module

    Returns
    -------
    torch.nn.Module
        `model`.
    """
    return _swap(model, {twin: plain for plain, twin in TWINS.items()})


def _swap(model, others):
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    for module in model.modules():
        kind = type(module)
        if kind in others:
            module.__class__ = others[kind]
        elif torch.nn.utils.parametrize.is_parametrized(module) and kind.__base__ in others:
            kind.__bases__ = (others[kind.__base__],)  # torch made this class for this one module
    return model
