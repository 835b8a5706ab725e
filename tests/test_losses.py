"""Losses and softmax against torch, the reference, finite differences, and on awkward input."""

import numpy as np
import pytest
import torch
from helpers import FINITE_DIFFERENCES, assert_close, numerical_gradient, tolerance

from fastrnn import reference
from fastrnn.losses import cross_entropy, mse
from fastrnn.readout import softmax

LEADING = [(), (1,), (7,), (4, 3), (2, 3, 4)]


def torch_cross_entropy(logits, target, **options):
    """Loss and gradient by torch, the classes last."""
    x = torch.tensor(logits, requires_grad=True)
    flat = x.reshape(-1, logits.shape[-1]), torch.tensor(np.asarray(target, np.int64)).reshape(-1)
    loss = torch.nn.functional.cross_entropy(*flat, **options)
    loss.backward()
    return loss.item(), x.grad.numpy()


def problem(leading, classes=5, dtype="float64", seed=0):
    """Random logits and targets."""
    rng = np.random.default_rng(seed)
    return 3 * rng.standard_normal((*leading, classes)).astype(dtype), rng.integers(0, classes, leading)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("leading", LEADING)
def test_cross_entropy_is_that_of_torch_and_of_the_reference(leading, dtype):
    logits, target = problem(leading, dtype=dtype)
    loss, gradient = cross_entropy(logits, target)
    assert type(loss) is float
    assert gradient.shape == logits.shape and gradient.dtype == logits.dtype
    target = np.asarray(target)
    for expected in (torch_cross_entropy(logits, target), reference.cross_entropy(logits, target)):
        assert_close(loss, expected[0], tolerance(dtype, 5), "loss")
        assert_close(gradient, expected[1], tolerance(dtype, 5), "gradient")


@pytest.mark.parametrize("leading", LEADING)
def test_cross_entropy_gradient_is_that_of_finite_differences(leading):
    logits, target = problem(leading, seed=1)
    numerical = numerical_gradient(lambda x: cross_entropy(x, target)[0], logits)
    assert_close(cross_entropy(logits, target)[1], numerical, FINITE_DIFFERENCES)


@pytest.mark.parametrize("ignore_index", [-100, -1, 2, 99])
def test_ignored_targets_do_not_count(ignore_index):
    logits, target = problem((6, 4), seed=2)
    target[1:3, ::2] = ignore_index
    loss, gradient = cross_entropy(logits, target, ignore_index)
    counted = target != ignore_index
    assert 0 < counted.sum() < target.size
    for expected in (torch_cross_entropy(logits, target, ignore_index=ignore_index),
                     reference.cross_entropy(logits, target, ignore_index),
                     (cross_entropy(logits[counted], target[counted])[0], gradient)):
        assert_close(loss, expected[0], 1e-14, "loss")
        assert_close(gradient, expected[1], 1e-14, "gradient")
    assert not gradient[~counted].any()
    assert gradient[counted].all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_at_ignored_targets_do_not_reach_the_rest(value):
    logits, target = problem((3,), seed=3)
    logits[1] = value
    target[1] = -100
    loss, gradient = cross_entropy(logits, target)
    expected_loss, expected = cross_entropy(logits[::2], target[::2])
    assert loss == expected_loss
    assert np.array_equal(gradient[::2], expected)
    assert gradient[1].tolist() == [0] * 5


def test_all_targets_ignored_gives_nan_and_a_zero_gradient_as_torch():
    logits, target = problem((2, 3))
    target[:] = -100
    loss, gradient = cross_entropy(logits, target)
    peer_loss, peer_gradient = torch_cross_entropy(logits, target)
    assert np.isnan(peer_loss) and np.isnan(loss) and type(loss) is float
    assert not peer_gradient.any() and not gradient.any()
    assert gradient.shape == logits.shape


@pytest.mark.parametrize("leading", [(0,), (3, 0), (0, 3)])
def test_no_targets_gives_nan_and_an_empty_gradient_as_torch(leading):
    logits, target = problem(leading)
    loss, gradient = cross_entropy(logits, target)
    assert np.isnan(torch_cross_entropy(logits, target)[0]) and np.isnan(loss)
    assert gradient.shape == (*leading, 5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("offset", [1e4, -1e4, 1e30])
def test_large_logits_neither_overflow_nor_vanish(dtype, offset):
    logits, target = problem((8,), dtype=dtype, seed=4)
    logits = (logits + offset).astype(dtype)
    loss, gradient = cross_entropy(logits, target)
    expected_loss, expected = torch_cross_entropy(logits.astype("float64"), target)
    assert np.isfinite(expected_loss)
    assert_close(loss, expected_loss, tolerance(dtype, 5), "loss")
    assert_close(gradient, expected, tolerance(dtype, 5), "gradient")


def test_a_sure_and_wrong_prediction_has_the_loss_of_its_margin():
    loss, gradient = cross_entropy(np.array([[1000.0, -1000.0]]), np.array([1]))
    assert loss == 2000
    assert gradient.tolist() == [[1, -1]]
    assert cross_entropy(np.array([[1000.0, -1000.0]]), np.array([0]))[0] == 0


@pytest.mark.parametrize("row", [[0, np.nan, 1], [0, np.inf, 1], [-np.inf, 0, 1], [-np.inf] * 3])
@pytest.mark.parametrize("target", [0, 1])
def test_logits_that_are_not_finite_give_what_torch_gives(row, target):
    logits = np.array([row, [1.0, 2.0, 3.0]])
    loss, gradient = cross_entropy(logits, np.array([target, 0]))
    expected_loss, expected = torch_cross_entropy(logits, [target, 0])
    assert_close(loss, expected_loss, 1e-14, "loss")
    assert_close(gradient, expected, 1e-14, "gradient")


@pytest.mark.parametrize("name", ["cross_entropy", "mse"])
def test_float32_means_over_millions_stay_accurate(name):
    rng = np.random.default_rng(5)
    if name == "cross_entropy":
        x, target = rng.standard_normal((1_000_000, 4)).astype("float32"), rng.integers(0, 4, 1_000_000)
        loss, expected = cross_entropy(x, target)[0], cross_entropy(x.astype("float64"), target)[0]
    else:
        x, target = rng.standard_normal((2, 4_000_000)).astype("float32")
        loss, expected = mse(x, target)[0], mse(x.astype("float64"), target.astype("float64"))[0]
    assert abs(loss - expected) < np.finfo("float32").eps / 2 * expected


def test_the_float32_mean_of_equal_terms_is_the_term():
    term = np.log(np.float32(3))
    loss, _ = cross_entropy(np.zeros((1_000_003, 3), "float32"), np.zeros(1_000_003, int))
    assert abs(loss - float(term)) < 1e-10
    loss, _ = mse(np.full(1_000_003, 0.1, "float32"), np.zeros(1_000_003))
    assert abs(loss - float(np.float32(0.1)) ** 2) < 1e-12


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint64", ">i4"])
def test_targets_of_any_integer_dtype(dtype):
    logits, target = problem((6,), seed=6)
    loss, gradient = cross_entropy(logits, target.astype(dtype))
    expected_loss, expected = cross_entropy(logits, target)
    assert loss == expected_loss
    assert np.array_equal(gradient, expected)


@pytest.mark.parametrize("leading", [*LEADING, (0,), (3, 0)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_mse_is_that_of_torch_and_of_the_reference(leading, dtype):
    a, b = np.random.default_rng(7).standard_normal((2, *leading)).astype(dtype)
    a, b = np.asarray(a), np.asarray(b)
    x = torch.tensor(a, requires_grad=True)
    peer = torch.nn.functional.mse_loss(x, torch.tensor(b))
    peer.backward()
    loss, gradient = mse(a, b)
    assert type(loss) is float
    assert gradient.shape == leading and gradient.dtype == dtype
    for expected in ((peer.item(), x.grad.numpy()), reference.mse(a, b)):
        assert_close(loss, expected[0], tolerance(dtype, a.size), "loss")
        assert_close(gradient, expected[1], tolerance(dtype, 1), "gradient")


@pytest.mark.parametrize("leading", LEADING)
def test_mse_gradient_is_that_of_finite_differences(leading):
    a, b = (np.asarray(v) for v in np.random.default_rng(8).standard_normal((2, *leading)))
    assert_close(mse(a, b)[1], numerical_gradient(lambda x: mse(x, b)[0], a), FINITE_DIFFERENCES)


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("offset", [0, 1e4, -1e4])
def test_softmax_is_that_of_torch_and_of_the_reference(dtype, axis, offset):
    x = (10 * np.random.default_rng(9).standard_normal((3, 4, 5)) + offset).astype(dtype)
    p = softmax(x, axis)
    assert p.dtype == dtype
    assert_close(p, torch.softmax(torch.tensor(x), axis), tolerance(dtype, 5))
    assert_close(np.moveaxis(p, axis, -1), reference.softmax(np.moveaxis(x, axis, -1)), tolerance(dtype, 5))
    if axis == -1:
        assert np.array_equal(softmax(x), p)


@pytest.mark.parametrize("row", [[0, np.nan, 1], [0, np.inf, 1], [-np.inf, 0, 1], [-np.inf] * 3])
def test_softmax_of_what_is_not_finite_is_that_of_torch(row):
    assert_close(softmax(np.array(row)), torch.softmax(torch.tensor(row, dtype=torch.float64), -1), 1e-14)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,)])
def test_softmax_of_nothing(shape):
    assert softmax(np.zeros(shape)).shape == shape


def variants(array):
    """The same values, laid out awkwardly."""
    spaced = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    spaced[..., ::2] = array
    frozen = array.copy()
    frozen.flags.writeable = False
    return [spaced[..., ::2], np.asfortranarray(array), array[::-1].copy()[::-1], frozen,
            array.astype(array.dtype.newbyteorder())]


def test_layout_does_not_matter_and_arguments_are_not_changed():
    logits, target = problem((4, 3), seed=10)
    other = np.random.default_rng(11).standard_normal(logits.shape)
    for function, second in ((cross_entropy, target), (mse, other), (lambda x, _: (0, softmax(x)), None)):
        loss, gradient = function(logits, second)
        for x in variants(logits):
            before = x.copy()
            actual_loss, actual = function(x, second)
            assert actual_loss == loss
            assert np.array_equal(actual, gradient) and actual.flags.c_contiguous and actual.flags.writeable
            assert actual.dtype == np.dtype("float64") and actual.dtype.isnative
            assert np.array_equal(x, before)


@pytest.mark.parametrize("convert, dtype", [
    (list, "float32"),
    (lambda x: x.astype("float16"), "float32"),
    (lambda x: x.astype("float32"), "float32"),
    (lambda x: x.astype("int16"), "float32"),
    (lambda x: x.astype("longdouble"), "float32" if np.longdouble is not np.float64 else "float64"),
    (lambda x: x.astype("float64"), "float64"),
    (lambda x: torch.tensor(x, dtype=torch.float32), "float32"),
    (lambda x: torch.tensor(x, dtype=torch.float64), "float64"),
])  # fmt: skip
def test_real_numbers_become_float32_unless_they_are_float64(convert, dtype):
    x = np.array([[1.0, 2.0, -3.0], [0.0, 5.0, 1.0]])
    assert softmax(convert(x)).dtype == dtype
    for function, target in ((cross_entropy, [0, 2]), (mse, x + 1)):
        loss, gradient = function(convert(x), target)
        expected_loss, expected = function(x, target)
        assert gradient.dtype == dtype
        assert_close(loss, expected_loss, tolerance("float32", 6))
        assert_close(gradient, expected, tolerance("float32", 6))


def test_mse_takes_a_target_in_the_precision_of_the_prediction():
    assert mse(np.array([0.1]), [0.1])[0] == 0
    assert mse(np.array([0.1], "float32"), np.array([0.1]))[0] == 0


@pytest.mark.parametrize("bad", [np.ones((2, 3), complex), np.full((2, 3), None), [["a", "b", "c"]] * 2,
                                 np.ones((2, 3), bool)])
def test_values_that_are_not_real_numbers_are_type_errors(bad):
    with pytest.raises(TypeError, match=r"^logits: expected real numbers, got dtype "):
        cross_entropy(bad, [0, 1])
    with pytest.raises(TypeError, match=r"^prediction: expected real numbers, got dtype "):
        mse(bad, np.ones((2, 3)))
    with pytest.raises(TypeError, match=r"^target: expected real numbers, got dtype "):
        mse(np.ones((2, 3)), bad)
    with pytest.raises(TypeError, match=r"^x: expected real numbers, got dtype "):
        softmax(bad)


@pytest.mark.parametrize("bad", [[0.0, 1.0], [True, False], ["0", "1"], [None, 0]])
def test_targets_that_are_not_integers_are_type_errors(bad):
    with pytest.raises(TypeError, match=r"^target: expected integer class indices, got dtype "):
        cross_entropy(np.ones((2, 3)), bad)


@pytest.mark.parametrize("target, got", [([0, 12, 1], "12"), ([0, 1, -1], "-1"), ([10, -100, 0], "10"),
                                         (np.array([0, 1, 2**64 - 1], "uint64"), "18446744073709551615")])
def test_class_indices_out_of_range(target, got):
    with pytest.raises(ValueError, match=rf"^target: expected class indices in \[0, 10\), got {got}$"):
        cross_entropy(np.ones((3, 10)), target)


def test_shapes_that_do_not_match():
    with pytest.raises(ValueError, match=r"^target: expected shape \(3, 4\), got \(3,\)$"):
        cross_entropy(np.ones((3, 4, 5)), np.zeros(3, int))
    with pytest.raises(ValueError, match=r"^target: expected shape \(3,\), got \(\)$"):
        cross_entropy(np.ones((3, 5)), 0)
    with pytest.raises(ValueError, match=r"^target: expected shape \(3, 4\), got \(4,\)$"):
        mse(np.ones((3, 4)), np.ones(4))
    at_least_one = r"^logits: expected shape \(\.\.\., classes\) with at least one class, got \("
    for shape in [(), (3, 0)]:
        with pytest.raises(ValueError, match=at_least_one):
            cross_entropy(np.ones(shape), np.zeros(shape[:-1], int))
    with pytest.raises(ValueError, match="axis 2 is out of bounds"):
        softmax(np.ones((3, 4)), 2)
