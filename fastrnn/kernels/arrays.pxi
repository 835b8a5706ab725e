# NumPy's arrays by its C interface. Through Python, by `numpy.empty` and the buffer protocol, each costs a third of a
# microsecond more, where a step of a small cell takes one.

cimport numpy as np

cdef extern from *:
    """
    #undef I  /* of <complex.h>, which NumPy includes: here it is the size of an input */
    """

np.import_array()

cdef int REAL_TYPE = np.NPY_FLOAT64 if REAL_IS_DOUBLE else np.NPY_FLOAT32


cdef struct Numbers:
    # of a contiguous array
    real* data
    int ndim
    const Py_ssize_t* shape
    Py_ssize_t count


cdef inline real* data_of(object array) noexcept:
    """Where the numbers of an array of ours lie as long as it is kept; NULL for None."""
    return NULL if array is None else <real*>np.PyArray_DATA(<np.ndarray>array)


cdef inline bint numbers_of(object array, bint writable, Numbers* numbers) noexcept:
    """Look into a contiguous array of reals with something in it; False if it is none."""
    cdef np.ndarray a
    if not np.PyArray_CheckExact(array):
        return False
    a = <np.ndarray>array
    if np.PyArray_TYPE(a) != REAL_TYPE or not (np.PyArray_ISCARRAY(a) if writable else np.PyArray_ISCARRAY_RO(a)):
        return False
    numbers.data = <real*>np.PyArray_DATA(a)
    numbers.ndim = np.PyArray_NDIM(a)
    numbers.shape = <const Py_ssize_t*>np.PyArray_DIMS(a)
    numbers.count = np.PyArray_SIZE(a)
    return numbers.count > 0


cdef inline void make_read_only(object array) noexcept:
    np.PyArray_CLEARFLAGS(<np.ndarray>array, np.NPY_ARRAY_WRITEABLE)


cdef inline object new_array(int ndim, const Py_ssize_t* shape):
    """Of so many dimensions, not filled."""
    return np.PyArray_SimpleNew(ndim, <np.npy_intp*>shape, REAL_TYPE)
