# A fingerprint of numbers in memory, by which packed weights know whether what they were packed from has changed: some
# callers' arrays (a tensor's, through `.data`) can be written to without a trace.
#
# Each lane of 32 bits goes (1) f = rotate(f ^ w, 16) * PRIME over its words w. For fixed f that is one to one in w, and
# for fixed w in f, so that one changed word always shows; several in one lane cancel by chance, one in 2^32. A sum
# would be quicker by nothing, since reading is the limit, and would miss what `w.neg_()` does to two top bits.

cdef enum:
    CHAINS = 8               # lanes are chained in turn, to hide the latency of (1)

ctypedef unsigned int word

cdef extern from "simd.h" nogil:
    ctypedef word words      # a vector of them
    words load_words(const void* p)
    words splat_words(word x)
    words mixed(words f, words w)                   # (1)
    const int WORD_LANES


cdef unsigned long long fingerprint(unsigned long long before, const real* data, Py_ssize_t count) noexcept nogil:
    """Of `count` numbers after others with the fingerprint `before`."""
    cdef words chain[CHAINS]
    cdef word last[128]
    cdef const char* p = <const char*>data
    cdef size_t size = count * sizeof(real)
    cdef size_t vector = WORD_LANES * sizeof(word)
    cdef unsigned long long total = before
    cdef int i
    for i in range(CHAINS):
        chain[i] = splat_words(i)
    while size >= CHAINS * vector:
        for i in range(CHAINS):
            chain[i] = mixed(chain[i], load_words(p + i * vector))
        p += CHAINS * vector
        size -= CHAINS * vector
    memset(last, 0, sizeof(last))
    memcpy(last, p, size)
    for i in range(CHAINS):
        chain[i] = mixed(chain[i], load_words(<const char*>last + i * vector))
    for i in range(1, CHAINS):
        chain[0] = mixed(chain[0], chain[i])
    memcpy(last, chain, vector)
    for i in range(WORD_LANES):
        total = (total ^ last[i]) * 0x9E3779B97F4A7C15ULL
        total ^= total >> 29
    return total
