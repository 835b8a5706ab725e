"""The short way in: what is known of a module since its last call, and the checks that it is still true.

`modules` and `coverage` come to the same answer, and to a reason if it is no, in four to five times the time (25 us for
6); the kernels take 1 to 5 us for a step of a cell. Hence one function with all checks in it, and compiled.
"""

import weakref

import torch
from torch.autograd import forward_ad

from fastrnn.torch.packs import renewed

__all__ = ["Plan", "plan_of", "remember"]

cdef object Tensor = torch.Tensor
cdef object from_numpy = torch.from_numpy
cdef object grad_enabled = torch.is_grad_enabled
cdef object threads = torch.get_num_threads
cdef object autocast = torch.is_autocast_enabled
cdef object transforms = torch._C._are_functorch_transforms_active
cdef object tracing = torch._C._is_tracing

# What a module's parameters, input and states are checked against; a module that lacks one has None there.
cdef tuple ATTRIBUTES = ("input_size", "hidden_size", "bias", "num_layers", "bidirectional", "proj_size", "batch_first",
                         "nonlinearity", "mode")

cdef dict plans = {}  # of id(module): Plan


cdef class Plan:
    """A module as it was when it was last called."""

    cdef readonly list parameters
    cdef readonly list packs         # one a layer
    cdef list names                  # of the parameters
    cdef list addresses              # of the parameters
    cdef list attributes
    cdef list weights                # of the packs
    cdef object kind                 # of the first layer
    cdef object dtype
    cdef tuple sizes                 # features of the states
    cdef bint cell
    cdef bint memory
    cdef bint batch_first
    cdef object layers               # times directions, the first size of a state; None of a cell

    def __init__(self, module, list parameters, list packs):
        self.parameters, self.packs = parameters, packs
        self.names = list(module._names())
        self.addresses = [parameter.data_ptr() for parameter in parameters]
        self.attributes = attributes_of(module.__dict__)
        self.weights = [pack.weights for pack in packs]
        self.kind = packs[0].kind
        self.dtype = parameters[0].dtype
        self.sizes = self.kind.state_sizes()
        self.cell, self.memory, self.batch_first = module._is_cell, module._memory, module._batch_first
        self.layers = None if self.cell else module._count * self.kind.directions

    cdef bint holds(self, module):
        """Whether the module has the parameters that it had, where they were."""
        cdef Py_ssize_t i
        if attributes_of(module.__dict__) != self.attributes:
            return False
        own = module.__dict__["_parameters"]
        for i in range(len(self.names)):
            parameter = own.get(self.names[i])
            if parameter is not self.parameters[i] or parameter.data_ptr() != self.addresses[i] \
                    or not parameter.is_contiguous():
                return False
        return True

    cdef bint takes(self, x, tuple states):
        """Whether these are what the kernels can read, in the shapes that torch asks for."""
        cdef tuple shape, rows
        cdef Py_ssize_t last
        if not self.reads(x):
            return False
        shape = tuple(x.shape)
        last = len(shape) - 1  # -1 would not do: indices are not looked at, as in the kernels
        if 0 in shape or not 1 - self.cell <= last <= 2 - self.cell or shape[last] != self.kind.input_size:
            return False
        if self.cell:
            rows = shape[:last]
        else:
            rows = (self.layers,) if last == 1 else (self.layers, shape[0 if self.batch_first else 1])
        if len(states) not in (0, len(self.sizes)):
            return False
        for state, size in zip(states, self.sizes):
            if not self.reads(state) or state.shape != (*rows, size):
                return False
        return True

    cdef bint reads(self, tensor):
        """Whether the kernels can read a tensor as it lies."""
        return type(tensor) is Tensor and tensor.dtype is self.dtype and tensor.is_cpu and tensor.is_contiguous() \
            and not tensor.is_neg()

    cdef bint stale(self):
        """Whether a parameter has other values than when it was packed."""
        for of_layer in self.weights:
            for weights in of_layer:  # of one direction
                if weights.stale():
                    return True
        return False

    cdef tuple states_of(self, hx):
        """The states of a call, none, one or two."""
        return () if hx is None else <tuple>hx if self.memory and type(hx) is tuple else (hx,)

    def differentiated(self, x, hx):
        """Whether torch wants a graph of a call."""
        return grad_enabled() and any([tensor.requires_grad for tensor in (x, *self.states_of(hx), *self.parameters)])

    def infer(self, x, hx):
        """What the module's `forward` gives for x and hx that `plan_of` has seen; no graph is built."""
        cdef tuple states = self.states_of(hx)
        h = states[0].data_ptr() if states else 0
        c = states[1].data_ptr() if len(states) == 2 else 0
        result = self.packs[0].engine.infer_at(self.weights, self.kind.activation, x.shape, x.data_ptr(), h, c,
                                               self.packs[0].dtype, self.cell, self.batch_first, threads())
        if self.cell:
            return tensors(result)
        return from_numpy(result[0]), tensors(result[1])


cdef object tensors(arrays):
    """Of a state, or of both."""
    if type(arrays) is tuple:
        return from_numpy(arrays[0]), from_numpy(arrays[1])
    return from_numpy(arrays)


cdef list attributes_of(dict module):
    return [module.get(name) for name in ATTRIBUTES]


def remember(module, parameters, packs):
    """A new plan, kept for the module's next call if the parameters can be the same then."""
    cdef Plan plan = Plan(module, list(parameters), list(packs))
    if plan.holds(module):
        if id(module) not in plans:
            weakref.finalize(module, plans.pop, id(module), None).atexit = False
        plans[id(module)] = plan
    return plan


def plan_of(module, x, hx):
    """The module's plan if it is right for this call, which is then fastrnn's; None where it takes longer to say."""
    cdef Plan plan = plans.get(id(module))
    if plan is None or autocast("cpu") or transforms() or forward_ad._current_level >= 0 or tracing():
        return None
    if not plan.holds(module) or not plan.takes(x, plan.states_of(hx)):
        return None
    if plan.stale():
        return remember(module, plan.parameters, [renewed(*layer) for layer in module._layers(plan.parameters)])
    return plan
