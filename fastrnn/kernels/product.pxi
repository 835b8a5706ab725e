# The one matrix product of the package, out = start + a @ w, on packed w: equation (1) of tile.pxi for all rows.
#
# Rows are dealt to tiles evenly (8 rows are 4 + 4, not 6 + 2). Where there are many k the sums rest in memory between
# blocks of them.
#
# A strip is some panels of some tiles: the rows of one tile, which stay in the first-level cache, meet all its panels,
# which the next tile finds in the second-level one. finish, if given, takes the sums while they are near and does with
# them what the cell does; otherwise they are stored in out. Where a cell needs several panels at once, all gates of its
# units, a strip has these `together`, and so has a tile, with fewer rows, unless too few would be left.
#
# A strip is as wide as its sums and weights allow: each costs some 100 cycles besides its products. One row, which
# costs as much however it is dealt, has a way of its own, and all panels in one strip where its weights are few:
# otherwise its finish had better run beside the products of the next strip.
#
# A step goes through the strips one way, the next step the other way: of weights that are larger than a cache it then
# begins with those that are there.

cdef enum:
    FEWEST_ROWS = 4          # for a tile to have all panels that finish needs
    STRIP_VECTORS = 192      # sums of the rows of one tile in a strip that is made wider
    STRIP_WEIGHTS = 4096     # vectors of weights: what was read last is to be in the cache on the strips' way back
    STRIP_WEIGHTS_OF_ONE_ROW = 800
    K_OF_A_BLOCK = 1024      # a strip of so many k stays in the second-level cache, beside the rows multiplied by it;
    ROWS_WORTH_BLOCKS = 24   # with fewer rows a strip is read too few times to matter


cdef inline void prefetch_tile(const real* out, Py_ssize_t out_row, Py_ssize_t rows, Py_ssize_t panels) noexcept nogil:
    cdef Py_ssize_t r, n
    for r in range(rows):
        n = 0
        while n < panels * PANEL:
            prefetch(out + r * out_row + n)
            n += CACHE_LINE


cdef inline const real* part_ahead(const Product* p, const real* ahead, Py_ssize_t panels, Py_ssize_t n) noexcept nogil:
    """Where a tile goes on to fetch if n numbers of so many panels have been fetched; NULL behind them."""
    while panels > 0 and n >= p.K * PANEL:
        n -= p.K * PANEL
        ahead += p.w.K * PANEL
        panels -= 1
    return ahead + n if panels > 0 else NULL


cdef inline void row_of_tiles(const Product* p, Py_ssize_t m, Py_ssize_t rows, Py_ssize_t panels, real* out,
                              Py_ssize_t out_row, const real* start, Py_ssize_t start_row, Py_ssize_t column,
                              const real* ahead) noexcept nogil:
    """(1) for the rows of a tile, from row m on, and some panels.

    Those of the next strip, at `ahead` if not NULL, are fetched by all rows alike: any faster, and they would get in
    the way of what is read now. A tile that is added to what is there begins when that is: what the next one begins
    from is fetched ahead, too.
    """
    cdef Py_ssize_t width = most_panels(rows), turn = 0
    cdef const real* part = NULL
    cdef real* below = out + rows * out_row
    if ahead != NULL:
        turn = (STEPS * PANEL * rows + p.M - 1) // p.M
    while panels > 0:
        width = min(width, panels)
        if ahead != NULL:
            part = part_ahead(p, ahead, width, m // rows * width * turn * (p.K // STEPS))
            ahead += width * p.w.K * PANEL
        if start == out:
            prefetch_tile(out + width * PANEL if width < panels else below, out_row, rows, width)
        tile(rows, width, p, out, out_row, start, start_row, m, column, part, width * turn)
        out += width * PANEL
        if start != NULL:
            start += width * PANEL
        column += width * PANEL
        panels -= width


cdef void rows_of_tiles(const Product* p, Py_ssize_t m, Py_ssize_t tiles, Py_ssize_t rows, Py_ssize_t panels, real* out,
                        Py_ssize_t out_row, const real* start, Py_ssize_t start_row, Py_ssize_t column,
                        const real* ahead) noexcept nogil:
    """(1) for `tiles` of so many rows, one below the other, and some panels."""
    cdef Py_ssize_t i
    for i in range(tiles):
        row_of_tiles(p, m + i * rows, rows, panels, out + i * rows * out_row, out_row,
                     NULL if start == NULL else <real*>start + i * rows * start_row, start_row, column, ahead)


cdef void strip(const Product* p, Py_ssize_t m, Py_ssize_t tiles, Py_ssize_t rows, Py_ssize_t column,
                Py_ssize_t panels, const real* ahead) noexcept nogil:
    """Some panels of some tiles: by way of the stack for finish, and for a last panel that is not full."""
    cdef strip_values stage
    cdef real* values = stage.values
    cdef const real* start = NULL
    cdef real* out
    cdef Py_ssize_t start_row = p.start_row, width = panels * PANEL, columns = min(width, p.columns - column), r
    if p.start != NULL:
        start = p.start + m * start_row + column
    if p.finish == NULL and columns == width:
        out = p.out + m * p.out_row + column
        rows_of_tiles(p, m, tiles, rows, panels, out, p.out_row, start, start_row, column, ahead)
        return
    if start != NULL and columns < width:
        for r in range(tiles * rows * panels * WIDTH):
            store(values + r * LANES, splat(0))
        for r in range(tiles * rows):
            copy_columns(values + r * width, start + r * start_row, columns)
        start, start_row = values, width
    rows_of_tiles(p, m, tiles, rows, panels, values, width, start, start_row, column, ahead)
    if p.finish != NULL:
        p.finish(p.cell, values, width, m, tiles * rows, column, columns)
        return
    out = p.out + m * p.out_row + column
    for r in range(tiles * rows):
        copy_columns(out + r * p.out_row, values + r * width, columns)


cdef inline void strips_of_tiles(const Product* p, Py_ssize_t first, Py_ssize_t tiles, Py_ssize_t rows,
                                 Py_ssize_t column, Py_ssize_t panels, const real* ahead) noexcept nogil:
    """Some panels of any number of tiles, from row `first` on."""
    cdef Py_ssize_t i = 0, most = min(<Py_ssize_t>MOST_TILES, STAGE_VECTORS // (rows * panels * WIDTH))
    while i < tiles:
        strip(p, first + i * rows, min(most, tiles - i), rows, column, panels, ahead)
        i += most


cdef inline const real* next_strip(const Product* p, Py_ssize_t panel, Py_ssize_t onward) noexcept nogil:
    """Weights to be fetched during the strip at a panel; NULL for none: small ones stay in the cache."""
    cdef const real* w = p.w.data + panel * PANEL * p.w.K
    if p.K == 0 or p.w.count * PANEL * p.w.K < SMALL_WEIGHTS:
        return NULL
    if 0 <= panel + onward < p.w.count:
        return w + onward * PANEL * p.w.K
    return w + p.next_block if p.next_block else NULL


cdef inline Py_ssize_t panels_of_strip(const Product* p, Py_ssize_t least) noexcept nogil:
    """As many as are worth a strip: the least there may be, or several times as many."""
    cdef Py_ssize_t vectors = least * WIDTH, rows = min(p.M, <Py_ssize_t>MOST_ROWS)
    if least >= p.w.count:
        return least
    return least * max(1, min(STRIP_VECTORS // (rows * vectors), STRIP_WEIGHTS // (max(1, p.K) * vectors)))


cdef void strips(const Product* p) noexcept nogil:
    """(1) for all rows, strip after strip: all weights are read once."""
    cdef Py_ssize_t most = min(MOST_ROWS, TILE_VECTORS // (p.together * WIDTH))
    cdef Py_ssize_t tiles = 1, rows = p.M, taller = 0, widest, panels, panel = 0, onward
    cdef const real* ahead
    if p.M == 0:
        return
    if most < FEWEST_ROWS:
        most = MOST_ROWS
    if p.M > most:
        tiles = (p.M + most - 1) // most
        rows, taller = p.M // tiles, p.M % tiles
    widest = onward = panels_of_strip(p, max(1, most_panels(rows + (taller > 0)) // p.together) * p.together)
    if p.backwards and p.w.count > widest:
        panel, onward = (p.w.count - 1) // widest * widest, -widest
    while 0 <= panel < p.w.count:
        ahead, panels = next_strip(p, panel, onward), min(widest, p.w.count - panel)
        strips_of_tiles(p, 0, taller, rows + 1, panel * PANEL, panels, ahead)
        strips_of_tiles(p, taller * (rows + 1), tiles - taller, rows, panel * PANEL, panels, ahead)
        panel += onward


cdef inline void tiles_of_one_row(const Product* p, real* out, const real* start, Py_ssize_t first,
                                  Py_ssize_t panels) noexcept nogil:
    """(1) for some panels, from `first` on, of a single row."""
    cdef Py_ssize_t panel = 0, width
    while panel < panels:
        width = min(MOST_PANELS, panels - panel)
        if panels - panel == MOST_PANELS + 1:  # a tile of one panel would wait for its chains
            width = MOST_PANELS - 1
        tile_of_rows(1, width, p, out + panel * PANEL, 0, NULL if start == NULL else <real*>start + panel * PANEL, 0,
                     0, (first + panel) * PANEL, NULL, 0)
        panel += width


cdef void one_row(const Product* p) noexcept nogil:
    """(1) for a single row, strip after strip: a step of one has little else to do, so here nothing is dealt."""
    cdef strip_values stage
    cdef real* values = stage.values
    cdef const real* start
    cdef Py_ssize_t widest = p.w.count, done = 0, panels, panel, width, columns
    if widest * WIDTH > STRIP_VECTORS or p.K * widest * WIDTH > STRIP_WEIGHTS_OF_ONE_ROW:
        widest = MOST_PANELS // p.together * p.together
    while done < p.w.count:
        panels = min(widest, p.w.count - done)
        panel = p.w.count - done - panels if p.backwards else done
        width = panels * PANEL
        columns = min(width, p.columns - panel * PANEL)
        start = NULL if p.start == NULL else <real*>p.start + panel * PANEL
        if start != NULL and columns < width:
            place_row(values, NULL, width)
            copy_columns(values, start, columns)
            start = values
        tiles_of_one_row(p, values, start, panel, panels)
        if p.finish == NULL:
            copy_columns(p.out + panel * PANEL, values, columns)
        else:
            p.finish(p.cell, values, width, 0, 1, panel * PANEL, columns)
        done += panels


cdef void blocks_of_k(const Product* p) noexcept nogil:
    """(1), the sums in out between one block and the next."""
    cdef Product part = p[0]
    cdef Py_ssize_t k = 0
    part.K, part.finish, part.next_block = K_OF_A_BLOCK, NULL, K_OF_A_BLOCK * PANEL
    while p.K - k >= 2 * K_OF_A_BLOCK:
        strips(&part)
        part.a += K_OF_A_BLOCK * p.a_k
        part.w.data += part.next_block
        part.start, part.start_row = p.out, p.out_row
        part.before = NULL
        part.backwards = not part.backwards
        k += K_OF_A_BLOCK
    part.K, part.finish, part.next_block = p.K - k, p.finish, 0
    strips(&part)


cdef void product(Product* p) noexcept nogil:
    """(1): many k in blocks, for which there has to be room in out."""
    p.next_block = 0
    if p.M == 1:
        one_row(p)
    elif p.K >= 2 * K_OF_A_BLOCK and p.M >= ROWS_WORTH_BLOCKS and p.out != NULL:
        blocks_of_k(p)
    else:
        strips(p)
