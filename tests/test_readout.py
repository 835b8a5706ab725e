"""Linear against torch."""

import numpy as np
import pytest
import torch
from helpers import assert_close

import fastrnn


@pytest.mark.parametrize(("K", "N"), [(1, 1), (33, 70), (128, 5)])
def test_linear_against_torch(K, N):
    rng = np.random.default_rng(0)
    head = fastrnn.Linear(K, N, dtype=np.float64, rng=0)
    twin = torch.nn.Linear(K, N, dtype=torch.float64)
    twin.load_state_dict({name: torch.from_numpy(a) for name, a in head.state_dict().items()})
    x, d = rng.standard_normal((40, 9, K)), rng.standard_normal((40, 9, N))
    tx = torch.from_numpy(x).requires_grad_()
    twin(tx).backward(torch.from_numpy(d))
    y, tape = head.forward(x)
    g = head.backward(tape, d)
    assert_close(y, twin(tx).detach().numpy(), 1e-12, "y")
    assert_close(g.input, tx.grad.numpy(), 1e-12, "input")
    assert_close(g.params["weight"], twin.weight.grad.numpy(), 1e-12, "weight")
    assert_close(g.params["bias"], twin.bias.grad.numpy(), 1e-12, "bias")
    assert np.array_equal(head(x[3, 4]), y[3, 4])
    assert head(x[:0]).shape == (0, 9, N)
