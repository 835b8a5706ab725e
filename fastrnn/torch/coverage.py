"""Which calls of torch's modules fastrnn runs: the reasons there are to leave one to torch's own code."""

import torch
from torch.autograd import forward_ad
from torch.nn import Parameter

__all__ = ["of_mode", "of_tensors"]

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
    if torch.jit.is_tracing():
        return "torch.jit is tracing the call"
    return None


def of_tensors(tensors, names, dtype):
    """Why fastrnn's kernels cannot read one of the tensors, which are all to have this dtype; or None."""
    compiling = torch.compiler.is_compiling()  # what can be asked of a tensor there is less
    for i, tensor in enumerate(tensors):
        if tensor.dtype is not dtype or not tensor.is_cpu:
            return _difference(names[i], tensor, dtype)
        if not compiling and (type(tensor) not in PLAIN or tensor.layout is not STRIDED or tensor.is_neg()):
            return _difference(names[i], tensor, dtype)
    return None if dtype in DTYPES else f"{names[0]} is {dtype}"


def _difference(name, tensor, dtype):
    if not tensor.is_cpu:
        return f"{name} is on {tensor.device}"
    if tensor.dtype is not dtype:
        return f"{name} is {tensor.dtype}, and the parameters are {dtype}"
    if type(tensor) not in PLAIN:
        return f"{name} is a {type(tensor).__name__}"
    return f"{name} is not a plain strided tensor"
