"""The checker finds what it is there to find."""

import numpy as np
import pytest
from helpers import FINITE_DIFFERENCES, assert_close, numerical_gradient, tolerance


@pytest.fixture(params=["float32", "float64"])
def pair(request):
    """An array of magnitudes in [0.1, 1), a copy of it, and the tolerance of a sum of 1000 products."""
    rng = np.random.default_rng(0)
    expected = (rng.uniform(0.1, 1, (6, 5, 4)) * rng.choice([-1, 1], (6, 5, 4))).astype(request.param)
    return expected.copy(), expected, tolerance(request.param, 1000)


def test_equal_arrays_pass(pair):
    assert_close(*pair)


def test_an_error_within_the_tolerance_passes_and_one_above_fails(pair):
    actual, expected, allowed = pair
    largest = np.abs(expected).max()
    actual[1, 2, 3] += 0.9 * allowed * largest
    assert_close(actual, expected, allowed)
    actual[1, 2, 3] += 0.9 * allowed * largest
    with pytest.raises(AssertionError, match="1 of 120 elements wrong"):
        assert_close(actual, expected, allowed)


def test_one_percent_in_any_single_element_fails(pair):
    actual, expected, allowed = pair
    for index in np.ndindex(expected.shape):
        actual[:] = expected
        actual[index] *= 1.01
        with pytest.raises(AssertionError, match=f"worst at \\({index[0]}, {index[1]}, {index[2]}\\)"):
            assert_close(actual, expected, allowed)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_fails(pair, value):
    actual, expected, allowed = pair
    actual[3, 0, 1] = value
    with pytest.raises(AssertionError, match=r"d_x: 1 of 120 elements wrong, worst at \(3, 0, 1\)"):
        assert_close(actual, expected, allowed, "d_x")
    with pytest.raises(AssertionError, match="1 of 120 elements wrong"):
        assert_close(expected, actual, allowed)
    assert_close(actual, actual.copy(), allowed)


def test_infinity_of_the_other_sign_and_nan_for_infinity_fail():
    for wrong in (-np.inf, np.nan):
        with pytest.raises(AssertionError, match="1 of 2 elements wrong"):
            assert_close(np.array([1.0, wrong]), np.array([1.0, np.inf]), 1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_two_swapped_rows_fail(pair, axis):
    actual, expected, allowed = pair
    order = np.arange(expected.shape[axis])
    order[[0, 1]] = 1, 0
    with pytest.raises(AssertionError, match="elements wrong"):
        assert_close(actual.take(order, axis), expected, allowed)


def test_another_shape_fails_even_where_it_would_broadcast():
    with pytest.raises(AssertionError, match=r"array: expected shape \(2, 3\), got \(1, 3\)"):
        assert_close(np.zeros((1, 3)), np.zeros((2, 3)), 1e-6)


def test_zeros_must_be_zero():
    with pytest.raises(AssertionError, match="1 of 3 elements wrong"):
        assert_close(np.array([0.0, 1e-300, 0.0]), np.zeros(3), 1e-6)


def test_empty_arrays_pass():
    assert_close(np.zeros((0, 3)), np.zeros((0, 3)), 1e-6)


def test_tolerance_grows_with_length_and_eps():
    assert tolerance("float64", 1000) > tolerance("float64", 10)
    assert tolerance("float32", 92) == 100 * 2.0**-23
    assert tolerance("float64", 92) == 100 * 2.0**-52


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tolerance_holds_for_a_sum_of_products_and_is_not_generous_without_limit(dtype):
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, 50, 300)).astype(dtype)
    total = np.zeros(50, dtype)
    for k in range(300):
        total += a[:, k] * b[:, k]
    exact = np.einsum("ij,ij->i", a.astype(np.longdouble), b.astype(np.longdouble)).astype(np.float64)
    assert_close(total, exact, tolerance(dtype, 300))
    with pytest.raises(AssertionError, match="of 50 elements wrong"):
        assert_close(total, exact, tolerance(dtype, 300) / 1000)


def test_numerical_gradient_of_a_known_function():
    x = np.random.default_rng(2).uniform(0.5, 2, (2, 3))
    before = x.copy()
    gradient = numerical_gradient(lambda a: float(np.sum(np.sin(a)) + a[0, 0] * a[1, 2]), x)
    expected = np.cos(x)
    expected[0, 0] += x[1, 2]
    expected[1, 2] += x[0, 0]
    assert_close(gradient, expected, FINITE_DIFFERENCES)
    assert np.array_equal(x, before)


def test_numerical_gradient_tells_a_wrong_one():
    x = np.linspace(0.5, 2, 6)
    wrong = np.cos(x)
    wrong[4] *= 1.01
    with pytest.raises(AssertionError, match=r"worst at \(4,\)"):
        assert_close(wrong, numerical_gradient(lambda a: float(np.sin(a).sum()), x), FINITE_DIFFERENCES)
