# tanh, sigmoid and relu on vectors, and what their derivatives need.
#
# Both rest on one argument reduction, x = n ln 2 + r with |r| <= ln 2 / 2, and one polynomial:
#
#   exp(r) = 1 + r + r^2 q(r)                                  (1)  q: Chebyshev fit, off by 0.2 ulp, in float64 0.01
#   tanh(x) = e / (e + 2),  e = exp(2x) - 1                    (2)  = 2^n (r + r^2 q) + (2^n - 1): exact near 0
#   sigmoid(x) = 2^(n+k) / (2^(n+k) + 2^k exp(-r))             (3)  small values keep all their digits
#
# No absolute value and no case is needed: e of (2) may lie on either side of 0, and k, HIGHER, makes a normal number of
# what would be subnormal in (3). x is clamped to where the functions have reached their limits; a clamp keeps its
# second operand when that is a NaN.

cdef enum Activation:
    TANH
    RELU
    SIGMOID
    IDENTITY  # for tests: integer data gives exact results


cdef inline vec exp_tail(vec r, vec square) noexcept nogil:
    """q of (1): pairs of terms, then powers of r^2, since one term after the other would wait for each product."""
    cdef vec q
    if REAL_IS_DOUBLE:
        q = splat(2.0915442297780115216e-9) * square + (splat(2.5106274733573294687e-8) * r
                                                        + splat(2.7557271810219799569e-7))
        q = q * square + (splat(2.7557252833516909748e-6) * r + splat(2.4801587327006731751e-5))
        q = q * square + (splat(1.9841269876864354929e-4) * r + splat(1.3888888888883326674e-3))
        q = q * square + (splat(8.3333333333255446996e-3) * r + splat(4.1666666666666670074e-2))
        return q * square + (splat(0.16666666666666671438) * r + splat(0.5))
    q = splat(1.392621346633244303707e-3) * square + (splat(8.36320297157585494652e-3) * r
                                                      + splat(4.166655443768593889945e-2))
    return q * square + (splat(0.1666657684599397631061) * r + splat(0.5))


cdef inline vec reduced(vec x, const real rounder, vec* rounded) noexcept nogil:
    """r of x = n ln 2 + r; rounded is n + rounder. ln 2 in two parts, the first so short that n times it is exact."""
    cdef vec n
    rounded[0] = x * splat(1.4426950408889634074) + splat(rounder)
    n = rounded[0] - splat(rounder)
    if REAL_IS_DOUBLE:
        return (x - n * splat(0.693147180559890330187045)) - n * splat(5.497923018708371174712472e-14)
    return (x - n * splat(0.693145751953125)) - n * splat(1.4286068203094172321e-6)


cdef inline vec tanh(vec x) noexcept nogil:
    cdef vec rounded, r, square, power, e
    cdef vec bound = splat(20.0 if REAL_IS_DOUBLE else 10.0)
    x = greater(-bound, lesser(bound, x))
    r = reduced(x + x, ROUNDER, &rounded)
    square = r * r
    power = power_of_two(rounded)
    e = power * (r + square * exp_tail(r, square)) + (power - splat(1))
    return e / (e + splat(2))


cdef inline vec sigmoid(vec x) noexcept nogil:
    cdef vec rounded, r, square, power
    x = greater(splat(-750.0 if REAL_IS_DOUBLE else -105.0), lesser(splat(40), x))
    r = -reduced(x, ROUNDER + HIGHER, &rounded)
    square = r * r
    power = power_of_two(rounded)
    return power / (power + splat(2.0 ** HIGHER) * ((splat(1) + r) + square * exp_tail(r, square)))


cdef inline vec relu(vec x) noexcept nogil:
    return greater(splat(0), x)


cdef inline vec activated(Activation activation, vec x) noexcept nogil:
    """f(x)."""
    if activation == TANH:
        return tanh(x)
    if activation == SIGMOID:
        return sigmoid(x)
    if activation == RELU:
        return relu(x)
    return x


cdef inline vec slope(Activation activation, vec y, vec dy) noexcept nogil:
    """dy times the derivative of f, written by its value y = f(x)."""
    if activation == TANH:
        return dy * (splat(1.0) - y * y)
    if activation == SIGMOID:
        return dy * (y * (splat(1.0) - y))
    if activation == RELU:
        return where_less(splat(0.0), y, dy, where_less(y, splat(1.0), splat(0.0), dy))
    return dy
