# A tile of a product, some rows by some panels of packed weights (pack.pxi), which it reads as one stream. a is read in
# place, as rows or as columns that were gathered: a tile of R rows takes R scalars a step of k and multiplies each by
# the P panels' vectors, keeping R x P x WIDTH sums in registers. Each element is
#
#   out[m, n] = ((start[m, n] + a[m, 0] w[0, n]) + a[m, 1] w[1, n]) + ...                                  (1)
#
# one accumulator, k in order, whatever the tile: a row's bits depend neither on the other rows nor on how
# rows and columns are shared among threads.
#
# A tile's shape follows from the registers. Few rows take several panels, since a chain of fused multiply-adds
# has a latency of four and two start in a cycle: eight sums must be under way. bench/NOTES.md has what each shape gave.

cdef enum:
    GRADIENT_ROWS = 48       # of dW in a product: MOST_TILES of MOST_ROWS
    MOST_ROWS = 6
    MOST_PANELS = 4
    MOST_LINES = 4           # of the cache that it fetches in a turn of its loop


ctypedef void (*Finish)(const void* cell, real* tile, Py_ssize_t tile_row, Py_ssize_t m, Py_ssize_t rows,
                        Py_ssize_t column, Py_ssize_t columns) noexcept nogil


cdef struct Product


cdef struct Product:
    real* out               # (M, columns); with finish room for sums between blocks of k, or NULL
    Py_ssize_t out_row
    const real* start       # likewise; NULL for zeros, start_row = 0 for the same in all rows
    Py_ssize_t start_row
    const real* a           # (M, K)
    Py_ssize_t a_row
    Py_ssize_t a_k          # 1 or, of columns that were gathered, GRADIENT_ROWS
    Py_ssize_t M
    Py_ssize_t K            # w.K, or 0: out = finish(start)
    Panels w
    const Product* before   # of as many rows and columns: its sums, from start on, are where these begin; NULL for none
    bint backwards          # the last strip first: what was read last is still in the cache when it is read again
    Py_ssize_t next_block   # where from here the weights of the next block of k are; 0 for none
    int together            # panels that finish needs at once: 1, 2 or 3
    Py_ssize_t columns      # those of out that may be written and of start that may be read
    Finish finish
    const void* cell


cdef inline void add_products(const int rows, const int vectors, vec* acc, const real* a, const Py_ssize_t* row,
                              const int k, const real* w, Py_ssize_t w_panel) noexcept nogil:
    """One step of k, whose first scalar is at a[k]."""
    cdef vec held[8]
    cdef vec x
    cdef int m, v
    if rows == 1:  # no vector is used twice: each is an operand in memory, which saves its load
        x = splat(a[k])
        for v in range(vectors):
            acc[v] = plus_product(acc[v], x, load(w + (v // WIDTH) * w_panel + (v % WIDTH) * LANES))
    elif vectors < rows:
        for v in range(vectors):
            held[v] = load(w + (v // WIDTH) * w_panel + (v % WIDTH) * LANES)
        for m in range(rows):
            x = splat_at(a, row[m], k) if m else splat(a[k])
            for v in range(vectors):
                acc[m * vectors + v] = add_product(acc[m * vectors + v], x, held[v])
    else:
        for m in range(rows):
            held[m] = splat_at(a, row[m], k) if m else splat(a[k])
        for v in range(vectors):
            x = in_register(load(w + (v // WIDTH) * w_panel + (v % WIDTH) * LANES))
            for m in range(rows):
                acc[m * vectors + v] = add_product(acc[m * vectors + v], x, held[m])


cdef inline const real* add_turns(const int rows, const int vectors, const int a_k, const int lines, vec* acc,
                                  const real* a, const Py_ssize_t* row, const real* w, Py_ssize_t w_panel,
                                  Py_ssize_t turns, const real* ahead, Py_ssize_t ahead_turn) noexcept nogil:
    """STEPS steps of k a turn, each of which fetches so many lines, at `ahead` and on. a behind them."""
    cdef int n
    while turns > 0:
        for n in range(lines):
            fetch(ahead + n * CACHE_LINE)
        ahead += ahead_turn
        add_products(rows, vectors, acc, a, row, 0, w, w_panel)
        if STEPS == 4:
            a = fresh(a)
            add_products(rows, vectors, acc, a, row, a_k, w + PANEL, w_panel)
            a = fresh(a)
            add_products(rows, vectors, acc, a, row, 2 * a_k, w + 2 * PANEL, w_panel)
            a = fresh(a)
            add_products(rows, vectors, acc, a, row, 3 * a_k, w + 3 * PANEL, w_panel)
        a = fresh(a + STEPS * a_k)
        w += STEPS * PANEL
        turns -= 1
    return a


cdef inline void add_all_products(const int rows, const int vectors, const int a_k, const Product* p, vec* acc,
                                  Py_ssize_t m, Py_ssize_t column, const real* ahead,
                                  Py_ssize_t ahead_turn) noexcept nogil:
    """All steps of k, for rows from m on and columns from `column` on.

    Weights that are read later are fetched: from `ahead` on, unless it is NULL, ahead_turn in a turn of the loop, of
    which there is one for each number of lines: where another thread of the core is at work, each instruction counts.
    """
    cdef Py_ssize_t row[MOST_ROWS]
    cdef Py_ssize_t turns = p.K // STEPS, left = p.K % STEPS
    cdef Py_ssize_t w_panel = p.w.K * PANEL
    cdef const real* a = settled(p.a + m * p.a_row)
    cdef const real* w = p.w.data + column * p.w.K
    cdef int r
    for r in range(rows):
        row[r] = at_hand(r * p.a_row) if r else 0
    if rows < FETCHING_ROWS or ahead == NULL:
        a = add_turns(rows, vectors, a_k, 0, acc, a, row, w, w_panel, turns, ahead, 0)
    elif ahead_turn <= CACHE_LINE:
        a = add_turns(rows, vectors, a_k, 1, acc, a, row, w, w_panel, turns, ahead, ahead_turn)
    elif ahead_turn <= 2 * CACHE_LINE:
        a = add_turns(rows, vectors, a_k, 2, acc, a, row, w, w_panel, turns, ahead, ahead_turn)
    else:
        a = add_turns(rows, vectors, a_k, MOST_LINES, acc, a, row, w, w_panel, turns, ahead, ahead_turn)
    w += turns * STEPS * PANEL
    while left > 0:
        add_products(rows, vectors, acc, a, row, 0, w, w_panel)
        a += a_k
        w += PANEL
        left -= 1


cdef inline void tile_with(const int rows, const int panels, const int a_k, const Product* p, real* out,
                           Py_ssize_t out_row, const real* start, Py_ssize_t start_row, Py_ssize_t m,
                           Py_ssize_t column, const real* ahead, Py_ssize_t ahead_turn) noexcept nogil:
    """(1) for rows x panels, both known to the compiler, which then keeps acc in registers, and a_k, too."""
    cdef vec acc[24]
    cdef int vectors = panels * WIDTH
    begin_sums(rows, vectors, acc, start, start_row)
    if a_k == 1 and p.before != NULL:
        add_all_products(rows, vectors, 1, p.before, acc, m, column, NULL, 0)
    add_all_products(rows, vectors, a_k, p, acc, m, column, ahead, ahead_turn)
    end_sums(rows, vectors, acc, out, out_row)


cdef inline void tile_of(const int rows, const int panels, const Product* p, real* out, Py_ssize_t out_row,
                         const real* start, Py_ssize_t start_row, Py_ssize_t m, Py_ssize_t column,
                         const real* ahead, Py_ssize_t ahead_turn) noexcept nogil:
    """`tile_with` either of the two a_k that there are."""
    if p.a_k == 1:
        tile_with(rows, panels, 1, p, out, out_row, start, start_row, m, column, ahead, ahead_turn)
    else:
        tile_with(rows, panels, GRADIENT_ROWS, p, out, out_row, start, start_row, m, column, ahead, ahead_turn)


cdef inline void tile_of_rows(const int rows, Py_ssize_t panels, const Product* p, real* out,
                              Py_ssize_t out_row, const real* start, Py_ssize_t start_row, Py_ssize_t m,
                              Py_ssize_t column, const real* ahead, Py_ssize_t ahead_turn) noexcept nogil:
    if panels == 1:
        tile_of(rows, 1, p, out, out_row, start, start_row, m, column, ahead, ahead_turn)
    elif rows * 2 * WIDTH <= TILE_VECTORS and panels == 2:
        tile_of(rows, 2, p, out, out_row, start, start_row, m, column, ahead, ahead_turn)
    elif rows * 3 * WIDTH <= TILE_VECTORS and panels == 3:
        tile_of(rows, 3, p, out, out_row, start, start_row, m, column, ahead, ahead_turn)
    elif rows * 4 * WIDTH <= TILE_VECTORS:
        tile_of(rows, 4, p, out, out_row, start, start_row, m, column, ahead, ahead_turn)


cdef void tile(Py_ssize_t rows, Py_ssize_t panels, const Product* p, real* out, Py_ssize_t out_row,
               const real* start, Py_ssize_t start_row, Py_ssize_t m, Py_ssize_t column, const real* ahead,
               Py_ssize_t ahead_turn) noexcept nogil:
    if rows == 6:
        tile_of_rows(6, panels, p, out, out_row, start, start_row, m, column, ahead, ahead_turn)
    elif rows == 5:
        tile_of_rows(5, panels, p, out, out_row, start, start_row, m, column, ahead, ahead_turn)
    elif rows == 4:
        tile_of_rows(4, panels, p, out, out_row, start, start_row, m, column, ahead, ahead_turn)
    elif rows == 3:
        tile_of_rows(3, panels, p, out, out_row, start, start_row, m, column, ahead, ahead_turn)
    elif rows == 2:
        tile_of_rows(2, panels, p, out, out_row, start, start_row, m, column, ahead, ahead_turn)


cdef inline Py_ssize_t most_panels(Py_ssize_t rows) noexcept nogil:
    """Of a tile with so many rows."""
    return min(MOST_PANELS, TILE_VECTORS // (rows * WIDTH))
