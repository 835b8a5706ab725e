# What simd.h gives to Cython. `real` and `vec` are float here only in name: the build defines the type.

cdef extern from "simd.h" nogil:
    ctypedef float real
    ctypedef float vec
    ctypedef struct strip_values:
        real values[1]
    const int LANES
    const int WIDTH
    const int PANEL
    const int TILE_VECTORS
    const int MOST_TILES
    const int STAGE_VECTORS
    const int CACHE_LINE
    const int STEPS
    const int FETCHING_ROWS
    const Py_ssize_t LARGE_WEIGHTS
    const Py_ssize_t SMALL_WEIGHTS
    const bint REAL_IS_DOUBLE
    const real ROUNDER
    const int HIGHER
    void fetch(const real* p)
    void prefetch(const real* p)
    const real* fresh(const real* p)
    const real* settled(const real* p)
    Py_ssize_t at_hand(Py_ssize_t n)
    vec in_register(vec v)
    vec plus_product(vec sum, vec x, vec y)
    vec add_product(vec sum, vec x, vec y)
    vec load(const real* p)
    void store(real* p, vec v)
    vec splat(real x)
    vec splat_at(const real* p, Py_ssize_t row, int n)
    vec load_first(const real* p, Py_ssize_t n)
    vec keep_first(vec v, Py_ssize_t n)
    void store_first(real* p, vec v, Py_ssize_t n)
    vec where_less(vec a, vec b, vec yes, vec no)
    vec lesser(vec a, vec b)
    vec greater(vec a, vec b)
    vec power_of_two(vec rounded)
    void begin_sums(int rows, int vectors, vec* sums, const real* start, Py_ssize_t row)
    void end_sums(int rows, int vectors, const vec* sums, real* out, Py_ssize_t row)
    int x86_level()
    const char* COMPILER
