"""The reference's readout and losses against finite differences, torch, and results known by hand."""

import numpy as np
import pytest
import torch
from helpers import FINITE_DIFFERENCES, assert_close, numerical_gradient

from fastrnn import reference

I, H = 3, 4


@pytest.mark.parametrize("leading", [(), (5,), (4, 2), (2, 3, 2), (0,)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_that_of_torch_and_of_finite_differences(leading, bias):
    rng = np.random.default_rng(9)
    x, weight, b = rng.standard_normal((*leading, I)), rng.standard_normal((H, I)), rng.standard_normal(H)
    r = rng.standard_normal((*leading, H))
    peer = [torch.tensor(a, requires_grad=True) for a in (x, weight, b)]
    peer_y = torch.nn.functional.linear(*peer[: 2 + bias])
    torch.sum(torch.tensor(r) * peer_y).backward()

    y = reference.linear(x, weight, b if bias else None)
    gradients = reference.linear_backward(x, weight, r)
    assert_close(y, peer_y.detach(), 1e-14)
    for gradient, tensor in zip(gradients[: 2 + bias], peer, strict=False):
        assert_close(gradient, tensor.grad, 1e-14)
    losses = [lambda v: np.sum(r * reference.linear(v, weight, b)),
              lambda v: np.sum(r * reference.linear(x, v, b)),
              lambda v: np.sum(r * reference.linear(x, weight, v))]
    for gradient, loss, array in zip(gradients, losses, (x, weight, b), strict=True):
        assert_close(gradient, numerical_gradient(loss, array), FINITE_DIFFERENCES)


@pytest.mark.parametrize("shape", [(5,), (4, 5), (3, 2, 5)])
def test_softmax_is_that_of_torch(shape):
    x = 20 * np.random.default_rng(10).standard_normal(shape)
    assert_close(reference.softmax(x), torch.softmax(torch.tensor(x), -1), 1e-14)
    assert_close(reference.softmax(x + 1e4), torch.softmax(torch.tensor(x + 1e4), -1), 1e-14)
    assert reference.softmax(x.astype("float32")).dtype == np.float32


@pytest.mark.parametrize("leading", [(6,), (3, 2), ()])
def test_cross_entropy_is_that_of_torch_and_of_finite_differences(leading):
    rng = np.random.default_rng(11)
    logits, target = 3 * rng.standard_normal((*leading, 5)), rng.integers(0, 5, leading)
    if leading == (6,):
        target[[1, 4]] = -100
    peer = torch.tensor(logits, requires_grad=True)
    peer_loss = torch.nn.functional.cross_entropy(peer.reshape(-1, 5), torch.tensor(target).reshape(-1))
    peer_loss.backward()
    loss, gradient = reference.cross_entropy(logits, np.asarray(target))
    assert type(loss) is float
    assert_close(loss, peer_loss.item(), 1e-14)
    assert_close(gradient, peer.grad, 1e-14)
    numerical = numerical_gradient(lambda v: reference.cross_entropy(v, np.asarray(target))[0], logits)
    assert_close(gradient, numerical, FINITE_DIFFERENCES)


def test_cross_entropy_of_nothing_is_nan_with_a_zero_gradient():
    loss, gradient = reference.cross_entropy(np.ones((2, 3)), np.array([7, 7]), ignore_index=7)
    assert np.isnan(loss) and gradient.shape == (2, 3) and not gradient.any()


def test_mse_is_that_of_torch_and_of_finite_differences():
    a, b = np.random.default_rng(12).standard_normal((2, 4, 3))
    peer = torch.tensor(a, requires_grad=True)
    peer_loss = torch.nn.functional.mse_loss(peer, torch.tensor(b))
    peer_loss.backward()
    loss, gradient = reference.mse(a, b)
    assert_close(loss, peer_loss.item(), 1e-14)
    assert_close(gradient, peer.grad, 1e-14)
    assert_close(gradient, numerical_gradient(lambda v: reference.mse(v, b)[0], a), FINITE_DIFFERENCES)
    loss, gradient = reference.mse(np.zeros((0, 3)), np.zeros((0, 3)))
    assert np.isnan(loss) and gradient.shape == (0, 3)


@pytest.mark.parametrize("name", ["cross_entropy", "mse"])
def test_losses_keep_the_dtype(name):
    target = np.zeros(2, int) if name == "cross_entropy" else np.zeros((2, 3), "float32")
    assert getattr(reference, name)(np.ones((2, 3), "float32"), target)[1].dtype == np.float32
