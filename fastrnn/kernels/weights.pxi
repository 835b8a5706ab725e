# Packed weights as Python objects: made once for a version of the weights, and read by all calls until the next.
#
# What the way back needs is packed when it is first asked for, which any number of threads may do at once. No lock
# keeps two from packing the same: a child forked meanwhile would wait for it for ever. One gets there first, and the
# others throw theirs away.

cdef extern from * nogil:
    """
    #define data_there(panels) __atomic_load_n(&(panels)->data, __ATOMIC_ACQUIRE)
    #define first_to_put(panels, made) __sync_bool_compare_and_swap(&(panels)->data, NULL, made)
    """
    real* data_there(Panels* panels)
    bint first_to_put(Panels* panels, real* made)


cdef Panels without_data(Py_ssize_t K, Py_ssize_t columns) noexcept:
    cdef Panels w
    w.data = NULL
    w.K = K
    w.columns = columns
    w.count = panels_for(columns)
    return w


cdef int make_room(Panels* w, Py_ssize_t K, Py_ssize_t columns) except -1:
    """Room for packed weights."""
    w[0] = without_data(K, columns)
    w.data = allocate(w.count * K * PANEL)
    return 0


cdef int pack_back_once(Panels* w, const real* weight, Py_ssize_t units, const int* gates, int slots) except -1:
    """`pack_back` into panels whose sizes stand there, unless they have data."""
    cdef Panels made
    if data_there(w) == NULL:
        make_room(&made, w.K, w.columns)
        pack_back(&made, weight, units, gates, slots)
        if not first_to_put(w, made.data):
            free(made.data)
    return 0


cdef real* new_dealt(const real[::1] first, const real[::1] second, Py_ssize_t count, Py_ssize_t units, int gates,
                     Py_ssize_t span) except NULL:
    """The sum of two vectors, either of which may be None, dealt as `pack_forward` deals columns."""
    cdef real* out = allocate(count)
    memset(out, 0, count * sizeof(real))
    if first is not None:
        deal(out, count, &first[0], units, gates, span)
    if second is not None:
        deal(out, count, &second[0], units, gates, span)
    return out


cdef class Affine:
    """Packed weight (N, K) of y = x W^T + bias: ready for y, and on first use also for dx = dy W."""

    cdef const real[:, ::1] weight
    cdef Panels w
    cdef Panels w_back
    cdef real* bias

    def __cinit__(self, const real[:, ::1] weight not None, const real[::1] bias=None):
        cdef Py_ssize_t N = weight.shape[0], K = weight.shape[1]
        self.weight = weight
        make_room(&self.w, K, N)
        pack_forward(&self.w, &weight[0, 0], N, 1, PANEL)
        self.w_back = without_data(N, K)
        self.bias = new_dealt(bias, None, self.w.count * PANEL, N, 1, PANEL)

    def __dealloc__(self):
        free(self.w.data)
        free(self.w_back.data)
        free(self.bias)

    cdef int prepare_backward(self) except -1:
        """Pack for dx = dy W."""
        cdef int only = 0
        return pack_back_once(&self.w_back, &self.weight[0, 0], self.weight.shape[0], &only, 1)


cdef int named_cell(Cell* out, str name, bint projected) except -1:
    """The cell that Python calls "RNN", "LSTM", "GRU" or "GRU, reset before"."""
    if name == "RNN":
        rnn_cell(out)
    elif name == "LSTM":
        lstm_cell(out, projected)
    elif name == "GRU":
        gru_cell(out)
    else:
        gru_reset_before_cell(out)
    return 0


def saved_columns(str cell not None, Py_ssize_t H):
    """Numbers of a row's step that the way back needs, besides states."""
    cdef Cell c
    named_cell(&c, cell, False)
    return c.saved * whole_vectors(H)


cdef class Weights:
    """Packed weights of one direction of a layer: ready for forward, and on first use also for back.

    cell is a name that `named_cell` knows; w_hr is the projection of an LSTM and p its peepholes, or None.
    """

    cdef Cell cell
    cdef Py_ssize_t I
    cdef Py_ssize_t H
    cdef Py_ssize_t P
    cdef const real[:, ::1] w_ih
    cdef const real[:, ::1] w_hh
    cdef const real[:, ::1] w_hr
    cdef const real[::1] b_ih
    cdef const real[::1] b_hh
    cdef const real[::1] p
    cdef unsigned long long packed_from
    cdef Panels ih
    cdef Panels hh
    cdef Panels second
    cdef Panels ih_back
    cdef Panels hh_back
    cdef Panels second_back
    cdef real* bias
    cdef real* y_bias
    cdef real* peephole

    def __cinit__(self, str cell not None, const real[:, ::1] w_ih not None, const real[:, ::1] w_hh not None,
                  const real[::1] b_ih=None, const real[::1] b_hh=None, const real[:, ::1] w_hr=None,
                  const real[::1] p=None):
        cdef Cell c
        cdef Py_ssize_t columns
        named_cell(&self.cell, cell, w_hr is not None)
        c = self.cell
        self.w_ih, self.w_hh, self.w_hr, self.b_ih, self.b_hh, self.p = w_ih, w_hh, w_hr, b_ih, b_hh, p
        self.I, self.H, self.P = w_ih.shape[1], w_ih.shape[0] // c.gates, w_hh.shape[1]
        self.packed_from = self.source()
        columns = (self.H + c.span - 1) // c.span * c.span  # of a gate
        make_room(&self.ih, self.I, c.gates * columns)
        pack_forward(&self.ih, &w_ih[0, 0], self.H, c.gates, c.span)
        make_room(&self.hh, self.P, c.recurrent_gates * columns)
        pack_forward(&self.hh, &w_hh[0, 0], self.H, c.recurrent_gates, c.span)
        if w_hr is not None:
            make_room(&self.second, self.H, self.P)
            pack_forward(&self.second, &w_hr[0, 0], self.P, 1, PANEL)
        elif c.second:
            make_room(&self.second, self.P, self.H)
            pack_forward(&self.second, &w_hh[c.recurrent_gates * self.H, 0], self.H, 1, PANEL)
        self.pack_biases(b_ih, b_hh)
        columns = whole_vectors(self.H)
        if p is not None:
            self.peephole = new_dealt(p, None, 3 * columns, self.H, 3, LANES)
        self.ih_back = without_data(c.gates * columns, self.I)
        self.hh_back = without_data(c.recurrent_slots * columns, self.P)
        if c.second:
            self.second_back = without_data(whole_vectors(self.P), self.H)

    cdef int pack_biases(self, const real[::1] b_ih, const real[::1] b_hh) except -1:
        """The candidate of a GRU that resets after the product has its recurrent bias inside the reset."""
        cdef Py_ssize_t count = self.ih.count * PANEL, column
        cdef bint inside = self.cell.apart and not self.cell.second
        self.bias = new_dealt(b_ih, b_hh, count, self.H, self.cell.gates, self.cell.span)
        if inside and b_hh is not None:
            self.y_bias = new_dealt(b_hh, None, count, self.H, self.cell.gates, self.cell.span)
            self.bias = self.only_candidate(self.bias, b_ih, count)
            for column in range(count):
                if column // PANEL % 3 < 2:
                    self.y_bias[column] = 0
        return 0

    cdef real* only_candidate(self, real* bias, const real[::1] b_ih, Py_ssize_t count) except NULL:
        """The bias with the candidate's part that of b_ih alone."""
        cdef real* of_input = new_dealt(b_ih, None, count, self.H, self.cell.gates, self.cell.span)
        cdef Py_ssize_t column
        for column in range(count):
            if column // PANEL % 3 == 2:
                bias[column] = of_input[column]
        free(of_input)
        return bias

    def __dealloc__(self):
        free(self.ih.data)
        free(self.hh.data)
        free(self.second.data)
        free(self.ih_back.data)
        free(self.hh_back.data)
        free(self.second_back.data)
        free(self.bias)
        free(self.y_bias)
        free(self.peephole)

    cdef int prepare_backward(self) except -1:
        """Pack for the way back."""
        cdef int gates[4]
        cdef int gate
        if data_there(&self.hh_back) != NULL:  # the last
            return 0
        for gate in range(self.cell.gates):
            gates[gate] = gate
        if self.cell.second:
            if self.w_hr is not None:
                pack_back_once(&self.second_back, &self.w_hr[0, 0], self.P, gates, 1)
            else:
                pack_back_once(&self.second_back, &self.w_hh[self.cell.recurrent_gates * self.H, 0], self.H, gates, 1)
        pack_back_once(&self.ih_back, &self.w_ih[0, 0], self.H, gates, self.cell.gates)
        for gate in range(self.cell.recurrent_gates):
            gates[self.cell.recurrent_slot[gate]] = gate
        return pack_back_once(&self.hh_back, &self.w_hh[0, 0], self.H, gates, self.cell.recurrent_slots)

    cdef unsigned long long source(self) noexcept:
        """Fingerprint of the arrays that were packed, as they are now."""
        cdef unsigned long long found = fingerprint(0, &self.w_ih[0, 0], self.cell.gates * self.H * self.I)
        found = fingerprint(found, &self.w_hh[0, 0], self.cell.gates * self.H * self.P)
        if self.w_hr is not None:
            found = fingerprint(found, &self.w_hr[0, 0], self.P * self.H)
        if self.b_ih is not None:
            found = fingerprint(found, &self.b_ih[0], self.cell.gates * self.H)
        if self.b_hh is not None:
            found = fingerprint(found, &self.b_hh[0], self.cell.gates * self.H)
        if self.p is not None:
            found = fingerprint(found, &self.p[0], 3 * self.H)
        return found

    def stale(self):
        """Whether the arrays that were packed have other values now. Reads all of them once."""
        return self.source() != self.packed_from

    @property
    def saved_columns(self):
        """As `saved_columns`, of this layer."""
        return self.cell.saved * whole_vectors(self.H)

    @property
    def middle_columns(self):
        """Numbers of a row's step that the second product reads; 0 where there is none."""
        return self.H if self.cell.second else 0
