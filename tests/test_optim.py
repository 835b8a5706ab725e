"""Optimizers and clipping against torch.optim, and what they refuse."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fastrnn.optim import SGD, Adam, clip_grad_norm
from fastrnn.parameters import Gradients, NamedArrays, Parameters

SHAPES = [{"weight": (3, 4), "bias": (3,)}, {"weight_ih_l0": (2, 3), "weight_hh_l0": (2, 2)}]

SGD_SETTINGS = [
    {},
    {"weight_decay": 0.1},
    {"momentum": 0.9},
    {"momentum": 0.9, "dampening": 0.3},
    {"momentum": 0.8, "dampening": 0.3, "weight_decay": 0.1},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
]
ADAM_SETTINGS = [
    {},
    {"betas": (0.8, 0.9)},
    {"betas": (0.0, 0.0)},
    {"eps": 1e-2},
    {"weight_decay": 0.1},
    {"betas": (0.5, 0.99), "eps": 1e-6, "weight_decay": 0.3},
]
ALL = [(SGD, {"lr": 0.1} | s) for s in SGD_SETTINGS] + [(Adam, {"lr": 0.01} | s) for s in ADAM_SETTINGS]
PEERS = {SGD: torch.optim.SGD, Adam: torch.optim.Adam}


def make_modules(dtype="float64", shapes=SHAPES, seed=0):
    """Modules of random parameters: as much of one as an optimizer asks for."""
    rng = np.random.default_rng(seed)
    modules = [SimpleNamespace(params=Parameters(s, dtype)) for s in shapes]
    for module in modules:
        for name, shape in module.params.shapes.items():
            # Values that float32 holds exactly, so that both dtypes begin the same.
            module.params[name] = rng.standard_normal(shape).astype("float32")
    return modules


def make_gradients(rng, dtype="float64", shapes=SHAPES):
    """Random gradients, one `Gradients` a module."""
    gradients = [Gradients(np.ones(3, dtype), np.ones(2, dtype), NamedArrays(s, dtype)) for s in shapes]
    for gradient in gradients:
        gradient.params.flat[:] = rng.standard_normal(gradient.params.flat.size)
    return gradients


def values(modules):
    """Copies of all parameters."""
    return [module.params.flat.copy() for module in modules]


def as_tensors(named_arrays):
    """torch copies of the arrays of several mappings."""
    return [torch.tensor(np.array(array)) for arrays in named_arrays for array in arrays.values()]


@pytest.mark.parametrize("kind, settings", ALL)
def test_twenty_steps_are_those_of_torch(kind, settings):
    modules, rng = make_modules(), np.random.default_rng(1)
    tensors = as_tensors([m.params for m in modules])
    optimizer, peer = kind(modules, **settings), PEERS[kind](tensors, **settings)
    for step in range(20):
        if step == 10:
            optimizer.lr = peer.param_groups[0]["lr"] = settings["lr"] / 3
        gradients = make_gradients(rng)
        for tensor, gradient in zip(tensors, as_tensors([g.params for g in gradients]), strict=True):
            tensor.grad = gradient
        before = values(modules)
        optimizer.step(gradients)
        peer.step()
        ours = [array for m in modules for array in m.params.values()]
        assert not any(np.array_equal(a, b) for a, b in zip(before, values(modules), strict=True))
        for array, tensor in zip(ours, tensors, strict=True):
            np.testing.assert_allclose(array, tensor.numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind, settings", ALL)
def test_float32_stays_float32_and_agrees_with_float64(kind, settings):
    results = []
    for dtype in ("float32", "float64"):
        modules, rng = make_modules(dtype), np.random.default_rng(2)
        optimizer = kind(modules, **settings)
        optimizer.lr = np.float64(settings["lr"])
        for _ in range(5):
            optimizer.step(make_gradients(rng, dtype))
        assert all(v.dtype == dtype for v in optimizer.state_dict().values() if isinstance(v, np.ndarray))
        results.append(np.concatenate(values(modules)))
    assert results[0].dtype == np.float32
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind, settings", ALL)
@pytest.mark.parametrize("way", ["dict", "file"])
def test_resumed_training_gives_the_same_bits(kind, settings, way, tmp_path):
    modules, rng = make_modules(), np.random.default_rng(3)
    gradients = [make_gradients(rng) for _ in range(6)]
    optimizer = kind(modules, **settings)
    for gradient in gradients[:3]:
        optimizer.step(gradient)
    optimizer.lr = settings["lr"] / 7
    state = optimizer.state_dict()
    weights = [{name: array.copy() for name, array in module.params.items()} for module in modules]
    if way == "file":
        np.savez(tmp_path / "state.npz", **state)
        with np.load(tmp_path / "state.npz") as file:
            state = dict(file)
    for gradient in gradients[3:]:
        optimizer.step(gradient)

    again = make_modules(seed=9)
    for module, mapping in zip(again, weights, strict=True):
        module.params.assign(mapping)
    resumed = kind(again, lr=1.0)
    resumed.load_state_dict(state)
    assert resumed.lr == settings["lr"] / 7 and resumed.steps == 3
    for gradient in gradients[3:]:
        resumed.step(gradient)
    for a, b in zip(values(modules), values(again), strict=True):
        assert np.array_equal(a, b)


def test_state_is_copied_out_and_in():
    modules, rng = make_modules(), np.random.default_rng(4)
    optimizer = SGD(modules, 0.1, momentum=0.9)
    optimizer.step(make_gradients(rng))
    state = optimizer.state_dict()
    assert list(state) == ["lr", "momentum", "dampening", "weight_decay", "nesterov", "steps",
                           "velocity.0", "velocity.1"]
    kept = state["velocity.0"].copy()
    optimizer.step(make_gradients(rng))
    assert np.array_equal(state["velocity.0"], kept)
    assert not np.array_equal(optimizer.state_dict()["velocity.0"], kept)
    optimizer.load_state_dict(state)
    optimizer.step(make_gradients(rng))
    assert np.array_equal(state["velocity.0"], kept)


def test_the_version_of_the_parameters_rises_and_gradients_are_not_changed():
    modules, gradients = make_modules(), make_gradients(np.random.default_rng(5))
    before, versions = [g.params.flat.copy() for g in gradients], [m.params.version for m in modules]
    for optimizer in (SGD(modules, 0.1, momentum=0.9, weight_decay=0.1), Adam(modules, weight_decay=0.1)):
        for _ in range(2):
            optimizer.step(gradients)
    assert [m.params.version for m in modules] == [v + 4 for v in versions]
    assert all(np.array_equal(g.params.flat, b) for g, b in zip(gradients, before, strict=True))


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_a_single_module_needs_no_list(kind):
    rng = np.random.default_rng(6)
    first, second, gradients = make_modules()[0], make_modules()[0], make_gradients(rng)[0]
    kind(first, lr=0.1).step(gradients)
    kind((m for m in [second]), lr=0.1).step(g for g in [gradients])
    assert np.array_equal(first.params.flat, second.params.flat)
    assert not np.array_equal(first.params.flat, make_modules()[0].params.flat)


def test_zero_learning_rate_changes_no_value():
    modules = make_modules()
    before = values(modules)
    for optimizer in (SGD(modules, 0), Adam(modules, 0)):
        optimizer.step(make_gradients(np.random.default_rng(7)))
    assert all(np.array_equal(a, b) for a, b in zip(before, values(modules), strict=True))


def swapped(gradients):
    """The same gradients, the arrays of the second module in another order."""
    other = NamedArrays(dict(reversed(SHAPES[1].items())), "float64")
    return [gradients[0], Gradients(gradients[1].input, gradients[1].hx, other)]


@pytest.mark.parametrize("kind", [SGD, Adam])
@pytest.mark.parametrize("change, error, message", [
    (lambda g: g[:1], ValueError, r"^gradients: expected 2, one a module, got 1$"),
    (lambda g: g[0], ValueError, r"^gradients: expected 2, one a module, got 1$"),
    (lambda g: [*g, g[0]], ValueError, r"^gradients: expected 2, one a module, got 3$"),
    (lambda g: [g[0], g[0]], ValueError,
     r"^gradients\[1\]: expected those of Parameters\(weight_ih_l0: .*, got NamedArrays\(weight: \(3, 4\)"),
    (swapped, ValueError, r"^gradients\[1\]: expected those of "),
    (lambda g: [g[0], g[1].params], TypeError, r"^gradients\[1\]: expected Gradients, got NamedArrays$"),
    (lambda g: None, TypeError, r"^gradients\[0\]: expected Gradients, got NoneType$"),
])  # fmt: skip
def test_a_step_with_the_wrong_gradients_changes_nothing(kind, change, error, message):
    modules, gradients = make_modules(), make_gradients(np.random.default_rng(8))
    optimizer = kind(modules, lr=0.1)
    optimizer.step(gradients)
    before, state, versions = values(modules), optimizer.state_dict(), [m.params.version for m in modules]
    with pytest.raises(error, match=message):
        optimizer.step(change(gradients))
    assert all(np.array_equal(a, b) for a, b in zip(before, values(modules), strict=True))
    assert [m.params.version for m in modules] == versions
    assert all(np.array_equal(value, state[name]) for name, value in optimizer.state_dict().items())


@pytest.mark.parametrize("kind, settings, message", [
    (SGD, {"lr": -0.1}, r"^lr: expected a number of at least 0, got -0.1$"),
    (SGD, {"lr": float("nan")}, r"^lr: expected a number of at least 0, got nan$"),
    (SGD, {"lr": 1, "momentum": -1}, r"^momentum: expected a number of at least 0, got -1$"),
    (SGD, {"lr": 1, "dampening": -1}, r"^dampening: expected a number of at least 0, got -1$"),
    (SGD, {"lr": 1, "weight_decay": -1}, r"^weight_decay: expected a number of at least 0, got -1$"),
    (SGD, {"lr": 1, "nesterov": True},
     r"^nesterov: expected a momentum above 0 and a dampening of 0, got 0.0 and 0.0$"),
    (SGD, {"lr": 1, "nesterov": True, "momentum": 0.9, "dampening": 0.5}, r"^nesterov: .* got 0.9 and 0.5$"),
    (Adam, {"lr": -1}, r"^lr: expected a number of at least 0, got -1$"),
    (Adam, {"betas": (0.9, 1)}, r"^betas\[1\]: expected a number in \[0, 1\), got 1.0$"),
    (Adam, {"betas": (1.5, 0.9)}, r"^betas\[0\]: expected a number in \[0, 1\), got 1.5$"),
    (Adam, {"betas": (-0.1, 0.9)}, r"^betas\[0\]: expected a number of at least 0, got -0.1$"),
    (Adam, {"betas": 0.9}, r"^betas: expected two numbers, got 0.9$"),
    (Adam, {"eps": -1}, r"^eps: expected a number of at least 0, got -1$"),
    (Adam, {"weight_decay": -1}, r"^weight_decay: expected a number of at least 0, got -1$"),
])  # fmt: skip
def test_settings_out_of_range(kind, settings, message):
    with pytest.raises(ValueError, match=message):
        kind(make_modules(), **settings)


def test_settings_that_are_not_numbers():
    with pytest.raises(TypeError, match=r"^lr: expected a real number, got str$"):
        SGD(make_modules(), "0.1")
    with pytest.raises(TypeError, match=r"^betas\[0\]: expected a real number, got NoneType$"):
        Adam(make_modules(), betas=(None, 0.9))


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_the_learning_rate_is_checked_when_it_is_assigned(kind):
    optimizer = kind(make_modules(), lr=0.5)
    with pytest.raises(ValueError, match=r"^lr: expected a number of at least 0, got -1$"):
        optimizer.lr = -1
    with pytest.raises(TypeError, match=r"^lr: expected a real number, got NoneType$"):
        optimizer.lr = None
    assert optimizer.lr == 0.5


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_modules_that_are_none(kind):
    module = make_modules()[0]
    with pytest.raises(ValueError, match=r"^modules: expected at least one, got none$"):
        kind([], lr=0.1)
    with pytest.raises(TypeError, match=r"^modules\[1\]: expected a module with params, got int$"):
        kind([module, 3], lr=0.1)
    with pytest.raises(TypeError, match=r"^modules\[0\]: expected a module with params, got NoneType$"):
        kind(None, lr=0.1)
    with pytest.raises(TypeError, match=r"^modules\[0\]: expected a module with params, got Simple"):
        kind(SimpleNamespace(params={}), lr=0.1)
    with pytest.raises(ValueError, match=r"^modules\[1\]: expected each module once, got one a second time$"):
        kind([module, module], lr=0.1)


@pytest.mark.parametrize("change, error, message", [
    (lambda s: s.pop("lr"), KeyError, r"state: expected lr, got none"),
    (lambda s: s.pop("velocity.1"), KeyError, r"got a difference in velocity.1"),
    (lambda s: s.pop("steps"), KeyError, r"got a difference in steps"),
    (lambda s: s.update({"mean.0": 0}), KeyError, r"got a difference in mean.0"),
    (lambda s: s.update(lr=-1), ValueError, r"^lr: expected a number of at least 0, got -1$"),
    (lambda s: s.update({"velocity.1": np.zeros(3)}), ValueError,
     r"^velocity.1: expected shape \(10,\), got \(3,\)$"),
    (lambda s: s.update({"velocity.1": np.zeros(10, complex)}), TypeError,
     r"^velocity.1: expected real numbers, got dtype complex128$"),
])  # fmt: skip
def test_a_wrong_state_changes_nothing(change, error, message):
    modules, rng = make_modules(), np.random.default_rng(9)
    optimizer = SGD(modules, 0.1, momentum=0.9)
    optimizer.step(make_gradients(rng))
    before = optimizer.state_dict()
    state = optimizer.state_dict() | {"lr": 0.2, "velocity.0": np.zeros(15)}
    change(state)
    with pytest.raises(error, match=message):
        optimizer.load_state_dict(state)
    after = optimizer.state_dict()
    assert after.keys() == before.keys()
    assert all(np.array_equal(after[name], before[name]) for name in before)


def with_grad(gradients):
    """One torch tensor a module, with its gradients as `grad`."""
    tensors = [torch.tensor(gradient.params.flat) for gradient in gradients]
    for tensor in tensors:
        tensor.grad = tensor.clone()
    return tensors


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("max_norm", [0.0, 0.5, 1e3])
def test_clipping_is_that_of_torch(dtype, max_norm):
    gradients = make_gradients(np.random.default_rng(10), dtype)
    before = [g.params.flat.copy() for g in gradients]
    tensors = with_grad(gradients)
    expected = torch.nn.utils.clip_grad_norm_(tensors, max_norm).item()
    norm = clip_grad_norm(gradients, max_norm)
    assert type(norm) is float
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(norm, expected, rtol=8 * eps)
    np.testing.assert_allclose(norm, np.linalg.norm(np.concatenate(before).astype("float64")), rtol=1e-14)
    for gradient, tensor, old in zip(gradients, tensors, before, strict=True):
        np.testing.assert_allclose(gradient.params.flat, tensor.grad.numpy(), rtol=8 * eps)
        assert np.array_equal(gradient.params.flat, old) == (max_norm == 1e3)
        assert np.array_equal(gradient.input, np.ones(3)) and np.array_equal(gradient.hx, np.ones(2))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_clipping_a_norm_that_is_not_finite_is_that_of_torch(value):
    gradients = make_gradients(np.random.default_rng(11))
    gradients[0].params.flat[3] = value
    tensors = with_grad(gradients)
    expected = torch.nn.utils.clip_grad_norm_(tensors, 1.0).item()
    np.testing.assert_equal(clip_grad_norm(gradients, 1.0), expected)
    for gradient, tensor in zip(gradients, tensors, strict=True):
        np.testing.assert_array_equal(gradient.params.flat, tensor.grad.numpy())


def test_clipping_sums_millions_of_float32_squares_accurately():
    shapes = [{"weight": (2_000_000,)}]
    gradient = make_gradients(np.random.default_rng(12), "float32", shapes)[0]
    gradient.params.flat[:] = np.abs(gradient.params.flat) * np.float32(1e25)  # squares that overflow float32
    exact = np.linalg.norm(gradient.params.flat.astype("float64"))
    np.testing.assert_allclose(clip_grad_norm(gradient, 1.0), exact, rtol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(gradient.params.flat.astype("float64")), 1.0, rtol=1e-6)


def test_clipping_refuses_what_it_cannot_clip():
    gradients = make_gradients(np.random.default_rng(13))
    before = [g.params.flat.copy() for g in gradients]
    with pytest.raises(TypeError, match=r"^gradients\[1\]: expected Gradients, got ndarray$"):
        clip_grad_norm([gradients[0], np.ones(3)], 0.1)
    with pytest.raises(ValueError, match=r"^max_norm: expected a number of at least 0, got -1$"):
        clip_grad_norm(gradients, -1)
    with pytest.raises(TypeError, match=r"^max_norm: expected a real number, got str$"):
        clip_grad_norm(gradients, "1")
    assert all(np.array_equal(g.params.flat, b) for g, b in zip(gradients, before, strict=True))
