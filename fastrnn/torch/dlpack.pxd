# DLPack's C interface, version 1 (https://dmlc.github.io/dlpack): what a framework's tensors are read by without a call
# of Python's.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    CPU = 1                  # a device_type
    FLOAT = 2                # a code

cdef struct DLTensor:
    void* data
    int32_t device_type
    int32_t device_id
    int32_t ndim
    uint8_t code
    uint8_t bits
    uint16_t lanes
    int64_t* shape           # the tensor's own, as strides, in numbers
    int64_t* strides
    uint64_t byte_offset

ctypedef int (*Read)(void* tensor, DLTensor* out) noexcept  # -1 with an exception set where it cannot be read

cdef struct ExchangeAPI:
    uint32_t major_version
    uint32_t minor_version
    void* older
    void* allocate
    void* hold
    void* tensor_of
    Read read
    void* current_stream
