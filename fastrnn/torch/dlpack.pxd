# DLPack's C interface, version 1 (https://dmlc.github.io/dlpack), under its own names: a framework's tensors are read
# by it without a call of Python's.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    kDLCPU = 1               # a device_type
    kDLFloat = 2             # a code

cdef struct DLTensor:
    void* data
    int32_t device_type
    int32_t device_id
    int32_t ndim
    uint8_t code
    uint8_t bits
    uint16_t lanes
    int64_t* shape           # the tensor's own, as are the strides
    int64_t* strides         # in numbers
    uint64_t byte_offset

# -1, with an exception set, where there is nothing to be read.
ctypedef int (*DLTensorFromPyObject)(void* tensor, DLTensor* out) noexcept

cdef struct DLPackExchangeAPI:
    uint32_t major
    uint32_t minor
    void* prev_api
    void* managed_tensor_allocator
    void* managed_tensor_from_py_object_no_sync
    void* managed_tensor_to_py_object_no_sync
    DLTensorFromPyObject dltensor_from_py_object_no_sync  # NULL if the framework has none
    void* current_work_stream
