"""The short way in: what is known of a module since its last call, and the checks that it is still true.

`modules` and `coverage` come to the same answer, and to a reason if it is no, in some 25 us; the kernels take 1 to 5 us
for a step of a cell. Hence one function with all checks in it, compiled, that reads tensors through DLPack's C
interface; with a torch that has none every call goes the long way.
"""

import weakref

import torch
from torch.autograd import forward_ad

from cpython.exc cimport PyErr_Clear
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free

from fastrnn.torch.dlpack cimport DLPackExchangeAPI, DLTensor, DLTensorFromPyObject, kDLCPU, kDLFloat

from fastrnn.torch.packs import renewed

__all__ = ["forward", "remember"]

cdef object Tensor = torch.Tensor
cdef object from_numpy = torch.from_numpy
cdef object grad_enabled = torch.is_grad_enabled
cdef object threads = torch.get_num_threads
cdef object autocast = torch._C._is_any_autocast_enabled
cdef object transforms = torch._C._are_functorch_transforms_active
cdef object tracing = torch._C._is_tracing
cdef object modes = torch._C._len_torch_dispatch_stack

# What a module's parameters, input and states are checked against, as far as it has them.
cdef tuple ATTRIBUTES = ("input_size", "hidden_size", "bias", "num_layers", "bidirectional", "proj_size", "batch_first",
                         "nonlinearity", "mode")

cdef dict plans = {}  # of id(module): Plan


cdef DLTensorFromPyObject reader_of(kind) except? NULL:
    """What reads a tensor of this type; NULL if nothing does."""
    cdef DLPackExchangeAPI* api
    capsule = getattr(kind, "__dlpack_c_exchange_api__", None)
    if capsule is None:
        return NULL
    api = <DLPackExchangeAPI*>PyCapsule_GetPointer(capsule, "dlpack_exchange_api")
    return api.dltensor_from_py_object_no_sync if api.major == 1 else NULL


cdef DLTensorFromPyObject read = reader_of(Tensor)


cdef bint contiguous(tensor, DLTensor* out) noexcept:
    """Read a tensor; False if it is not contiguous real numbers, one at least, in this processor's memory."""
    cdef int64_t count = 1
    cdef int i
    if read(<void*>tensor, out) != 0:
        PyErr_Clear()  # a sparse one, say: torch's own code says what is wrong with it, if anything is
        return False
    if out.device_type != kDLCPU or out.code != kDLFloat or out.lanes != 1 or out.byte_offset != 0:
        return False
    for i in range(out.ndim - 1, -1, -1):
        if out.shape[i] != 1 and out.strides[i] != count:
            return False
        count *= out.shape[i]
    return count > 0


cdef bint plain(tensor, int bits, DLTensor* out) except -1:
    """Read an input or state; False if the kernels, for numbers of so many bits, cannot take it as it lies."""
    return type(tensor) is Tensor and contiguous(tensor, out) and out.bits == bits and not tensor.is_neg()


cdef bint has_shape(const DLTensor* tensor, const int64_t* shape, int ndim) noexcept:
    cdef int i
    if tensor.ndim != ndim:
        return False
    for i in range(ndim):
        if tensor.shape[i] != shape[i]:
            return False
    return True


cdef struct Place:
    # where a parameter lies, and its shape
    void* data
    int64_t shape[2]
    int ndim


cdef struct Call:
    # input and states as they lie; of states there are none, one or two
    DLTensor x
    DLTensor state[2]
    int states


cdef class Plan:
    """A module as it was when it was last called."""

    cdef list parameters
    cdef list packs                  # one a layer
    cdef list names                  # of the parameters
    cdef Place* places               # of the parameters
    cdef dict attributes
    cdef list weights                # of the packs
    cdef object engine
    cdef int activation
    cdef int bits                    # of a number
    cdef int64_t features            # of the input
    cdef tuple sizes                 # features of the states
    cdef bint cell
    cdef bint memory
    cdef bint batch_first
    cdef bint drops                  # has a place to drop something: between layers
    cdef int64_t layers              # times directions, the first size of a state; not of a cell

    def __cinit__(self, module, list parameters, list packs):
        kind = packs[0].kind
        self.parameters, self.packs = parameters, packs
        self.names = list(module._names())
        self.attributes = {name: module.__dict__[name] for name in ATTRIBUTES if name in module.__dict__}
        self.weights = [pack.weights for pack in packs]
        self.engine, self.activation = packs[0].engine, kind.activation
        self.bits, self.features, self.sizes = 8 * packs[0].dtype.itemsize, kind.input_size, kind.state_sizes()
        self.cell, self.memory, self.batch_first = module._is_cell, module._memory, module._batch_first
        self.layers = 0 if self.cell else module._count * kind.directions
        self.drops = module._count > 1
        self.places = <Place*>calloc(len(parameters), sizeof(Place))
        if self.places == NULL:
            raise MemoryError(f"expected {len(parameters) * sizeof(Place)} bytes for a plan, got none")

    def __dealloc__(self):
        free(self.places)

    cdef bint locate(self) noexcept:
        """Note where the parameters lie; False if the kernels cannot read them there."""
        cdef DLTensor tensor
        cdef Py_ssize_t i
        for i in range(len(self.parameters)):
            if not contiguous(self.parameters[i], &tensor) or tensor.ndim > 2:
                return False
            self.places[i].data, self.places[i].ndim = tensor.data, tensor.ndim
            self.places[i].shape[0], self.places[i].shape[1] = tensor.shape[0], tensor.shape[tensor.ndim - 1]
        return True

    cdef bint holds(self, dict module) except -1:
        """Whether the module, of which these are the attributes, has the parameters that it had, where they were."""
        cdef dict own = module["_parameters"]
        cdef DLTensor tensor
        cdef Place* place
        cdef Py_ssize_t i
        for name, value in self.attributes.items():
            if module.get(name) is not value and module.get(name) != value:
                return False
        for i in range(len(self.names)):
            parameter = own.get(self.names[i])
            place = &self.places[i]
            if parameter is not self.parameters[i] or not contiguous(parameter, &tensor) \
                    or tensor.data != place.data or not has_shape(&tensor, place.shape, place.ndim):
                return False
        return True

    cdef bint takes(self, x, hx, Call* call) except -1:
        """Whether these are what the kernels can read, in the shapes that torch asks for."""
        cdef int64_t shape[3]
        cdef int ndim = 0, last
        if not plain(x, self.bits, &call.x):
            return False
        last = call.x.ndim - 1
        if not 1 - self.cell <= last <= 2 - self.cell or call.x.shape[last] != self.features:
            return False
        if not self.cell:
            shape[0] = self.layers
            ndim = 1
        if last == 2 - self.cell:
            shape[ndim] = call.x.shape[0 if self.cell or self.batch_first else 1]
            ndim += 1
        return self.takes_states(hx, shape, ndim, call)

    cdef bint takes_states(self, hx, int64_t* shape, int ndim, Call* call) except -1:
        """The same of the states, given a state's shape but for its features."""
        cdef int i
        call.states = 0 if hx is None else 1 + self.memory
        if hx is None:
            return True
        if self.memory and (type(hx) is not tuple or len(hx) != 2):
            return False
        for i in range(call.states):
            shape[ndim] = self.sizes[i]
            if not plain(hx[i] if self.memory else hx, self.bits, &call.state[i]) \
                    or not has_shape(&call.state[i], shape, ndim + 1):
                return False
        return True

    cdef bint stale(self) except -1:
        """Whether a parameter has other values than when it was packed."""
        for of_layer in self.weights:
            for weights in of_layer:  # of one direction
                if weights.stale():
                    return True
        return False

    cdef bint differentiated(self, x, hx) except -1:
        """Whether torch wants a graph of a call."""
        if not grad_enabled():
            return False
        states = () if hx is None else hx if self.memory else (hx,)
        return any([tensor.requires_grad for tensor in (x, *states, *self.parameters)])

    cdef object infer(self, const Call* call):
        """What the module's `forward` gives where no graph is built."""
        cdef int i
        shape = tuple([call.x.shape[i] for i in range(call.x.ndim)])
        result = self.engine.infer_at(
            self.weights, self.activation, shape, <size_t>call.x.data,
            <size_t>call.state[0].data if call.states else 0, <size_t>call.state[1].data if call.states == 2 else 0,
            self.cell, self.batch_first, threads())
        return tensors(result) if self.cell else (from_numpy(result[0]), tensors(result[1]))


cdef object tensors(arrays):
    """Of a state, or of both."""
    if type(arrays) is tuple:
        return from_numpy(arrays[0]), from_numpy(arrays[1])
    return from_numpy(arrays)


def remember(module, parameters, packs):
    """Keep a plan for the module's next call, and return it, if that can have the same parameters; else None."""
    if read == NULL:
        return None
    cdef Plan plan = Plan(module, list(parameters), list(packs))
    if not plan.locate() or not plan.holds(module.__dict__):
        return None
    if id(module) not in plans:
        weakref.finalize(module, plans.pop, id(module), None).atexit = False
    plans[id(module)] = plan
    return plan


def forward(module, x, hx):
    """The module's forward pass, the short way if that is right for this call."""
    cdef Call call
    cdef Plan plan = plans.get(id(module))
    if plan is None or modes() or autocast() or transforms() or forward_ad._current_level >= 0 or tracing() \
            or not plan.holds(module.__dict__) or not plan.takes(x, hx, &call):
        return module._forward_anew(x, hx)
    if plan.stale():  # others may be using it: plans are never changed
        plan = remember(module, plan.parameters, [renewed(*layer) for layer in module._layers(plan.parameters)])
        if plan is None:
            return module._forward_anew(x, hx)
    if plan.drops and module._drops() or plan.differentiated(x, hx):
        return module._run(x, module._as_tuple(hx), plan.parameters, plan.packs)
    return plan.infer(&call)
