"""Which calls of torch's modules fastrnn runs: the reasons there are to leave one to torch's own code."""

import torch
from torch.autograd import forward_ad
from torch.nn import Parameter

__all__ = ["of_mode", "of_tensor", "unreadable"]

PLAIN = (torch.Tensor, Parameter)
DTYPES = (torch.float32, torch.float64)
STRIDED = torch.strided


def of_mode():
    """A way of running code that only torch's operators know, or None."""
    if torch.is_autocast_enabled("cpu"):
        return "autocast is on"
    if torch.compiler.is_compiling():  # what follows cannot be asked there, and what is compiled has none of it
        return None
    if torch._C._are_functorch_transforms_active():
        return "a transform of torch.func (vmap, grad, ...) is active"
    if forward_ad._current_level >= 0:
        return "forward-mode differentiation is active"
    if torch._C._is_tracing():
        return "torch.jit is tracing the call"
    return None


def unreadable(tensors, dtype):
    """Which of the tensors, that are all to have this dtype, the kernels cannot read; None if they can read all."""
    compiling = torch.compiler.is_compiling()  # what can be asked of a tensor there is less
    for i, tensor in enumerate(tensors):
        if not isinstance(tensor, torch.Tensor) or tensor.dtype is not dtype or not tensor.is_cpu:
            return i
        if not compiling and (type(tensor) not in PLAIN or tensor.layout is not STRIDED or tensor.is_neg()):
            return i
    return None if dtype in DTYPES else 0


def of_tensor(name, tensor, dtype):
    """What about a tensor it is that they cannot read."""
    if not isinstance(tensor, torch.Tensor):
        return f"{name} is a {type(tensor).__name__}"
    if not tensor.is_cpu:
        return f"{name} is on {tensor.device}"
    if tensor.dtype is not dtype:
        return f"{name} is {tensor.dtype}, and the parameters are {dtype}"
    if dtype not in DTYPES:
        return f"{name} is {dtype}"
    if type(tensor) not in PLAIN:
        return f"{name} is a {type(tensor).__name__}"
    return f"{name} is not a plain strided tensor"
