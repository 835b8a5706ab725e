"""The tests of PyTorch's own suite for recurrent modules, on fastrnn's.

The cases are those that the installed torch carries in its database of modules (`torch.testing._internal`), with its
references and its expected errors; the checks follow its test_modules.py, which is not installed. Its database of
operators has no recurrent one. Not taken: what concerns a GPU, memory formats (of images) and multiple devices.
"""

import copy
import io
import pickle

import pytest
import torch
from torch.testing._internal.common_modules import ModuleErrorEnum, module_db

import fastrnn.torch
from fastrnn.torch.swap import TWINS

INFOS = [info for info in module_db if info.module_cls in TWINS]
DTYPES = torch.float32, torch.float64

pytestmark = [pytest.mark.usefixtures("torch_seed"),
              pytest.mark.parametrize("info", INFOS, ids=[info.module_cls.__name__ for info in INFOS]),
              pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")]


def cases(info, dtype, requires_grad=False, training=True, packed=False):
    """Pairs of one of fastrnn's modules and a case of the database, whose arguments it has."""
    kwargs = {"with_packed_sequence": True} if packed and not info.module_cls.__name__.endswith("Cell") else {}
    for case in info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=requires_grad,
                                        training=training, **kwargs):
        arguments = case.constructor_input
        module = TWINS[info.module_cls](*arguments.args, **arguments.kwargs).to(dtype).train(training)
        yield module, case


def tensors(results):
    """All tensors in nested tuples."""
    return [results] if isinstance(results, torch.Tensor) else [
        tensor for part in results if part is not None for tensor in tensors(part)]


def call(module, case):
    return module(*case.forward_input.args, **case.forward_input.kwargs)


def test_there_are_six(info):
    assert len(INFOS) == 6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("training", [True, False])
def test_forward(info, dtype, training):
    """Against the database's reference functions, and run by fastrnn."""
    references = 0
    for module, case in cases(info, dtype, training=training):
        assert fastrnn.torch.explain(module, *case.forward_input.args, **case.forward_input.kwargs) == "fastrnn"
        results = call(module, case)
        if case.reference_fn is not None:
            references += 1
            expected = case.reference_fn(fastrnn.torch.restore(copy.deepcopy(module)), *case.forward_input.args,
                                         **case.forward_input.kwargs)
            torch.testing.assert_close(results, expected)
    assert references


def test_packed_sequences(info):
    """Also those cases that the database leaves out unless asked."""
    for module, case in cases(info, torch.float64, packed=True):
        plain = fastrnn.torch.restore(copy.deepcopy(module))
        torch.testing.assert_close(tensors(call(module, case)), tensors(call(plain, case)))


def test_factory_arguments(info):
    """`device` and `dtype` reach all parameters."""
    for module, case in cases(info, torch.float32):
        arguments = case.constructor_input
        made = type(module)(*arguments.args, **arguments.kwargs, device="cpu", dtype=torch.float64)
        assert all(parameter.dtype == torch.float64 for parameter in made.parameters())


def test_multiple_threads_of_construction_and_device(info):
    """To `meta` and back, and to another dtype."""
    for module, _ in cases(info, torch.float32):
        assert all(parameter.is_meta for parameter in copy.deepcopy(module).to("meta").parameters())
        assert all(parameter.dtype == torch.float64 for parameter in module.double().parameters())


def test_repr(info):
    for module, _ in cases(info, torch.float32):
        assert repr(module) == repr(fastrnn.torch.restore(copy.deepcopy(module)))


@pytest.mark.parametrize("training", [True, False])
def test_pickle(info, training):
    for module, case in cases(info, torch.float32, training=training):
        expected = call(module, case)
        torch.testing.assert_close(call(pickle.loads(pickle.dumps(module)), case), expected, rtol=0, atol=0)
        file = io.BytesIO()
        torch.save(module, file)
        file.seek(0)
        torch.testing.assert_close(call(torch.load(file, weights_only=False), case), expected, rtol=0, atol=0)


def test_save_load_state_dict(info):
    for module, case in cases(info, torch.float32):
        other = type(module)(*case.constructor_input.args, **case.constructor_input.kwargs)
        assert not tensors(call(other, case))[0].equal(tensors(call(module, case))[0])
        other.load_state_dict(module.state_dict())
        torch.testing.assert_close(call(other, case), call(module, case), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_non_contiguous_tensors(info, dtype):
    """Every other number of twice as many, in inputs, parameters and gradients: the same results and gradients."""

    def spread(tensor):
        wide = torch.empty(*tensor.shape, 2, dtype=tensor.dtype)
        wide[..., 0], wide[..., 1] = tensor.detach(), float("nan")
        return wide[..., 0].requires_grad_(tensor.requires_grad)

    def given(case, change):
        return [tuple(map(change, value)) if isinstance(value, tuple) else value if value is None else change(value)
                for value in case.forward_input.args]

    def gradients(module, arguments):
        results = tensors(module(*arguments))
        wanted = [tensor for tensor in tensors(arguments) if tensor.requires_grad] + list(module.parameters())
        return torch.autograd.grad(results, wanted, [spread(torch.ones_like(result)) for result in results],
                                   allow_unused=True)

    for module, case in cases(info, dtype, requires_grad=True):
        whole = given(case, lambda tensor: tensor.detach().clone().requires_grad_())
        spread_out = given(case, spread)
        expected = gradients(module, whole)
        torch.testing.assert_close(gradients(module, spread_out), expected, rtol=0, atol=0)
        for parameter in module.parameters():
            parameter.data = spread(parameter).data
            assert not parameter.is_contiguous() or parameter.numel() == 1
        torch.testing.assert_close(gradients(module, spread_out), expected, rtol=0, atol=0)


@pytest.mark.parametrize("training", [True, False])
def test_grad(info, training):
    check(info, torch.autograd.gradcheck, training)


def test_gradgrad(info):
    check(info, torch.autograd.gradgradcheck, training=True)


def check(info, checker, training):
    """gradcheck or gradgradcheck of every case, over inputs and parameters together."""
    for module, case in cases(info, torch.float64, requires_grad=True, training=training):
        arguments = case.forward_input.args
        flat = tensors(arguments)
        parameters = dict(module.named_parameters())

        def function(*given, module=module, arguments=arguments, flat=flat, parameters=parameters):
            left = iter(given)

            def put(value):
                if isinstance(value, torch.Tensor):
                    return next(left)
                return value if value is None else tuple(map(put, value))

            inputs = [put(value) for value in arguments]
            return tuple(tensors(torch.func.functional_call(
                module, dict(zip(parameters, left, strict=True)), tuple(inputs))))

        assert checker(function, (*flat, *parameters.values()), fast_mode=True)  # as PyTorch's own runs do


def test_errors(info):
    """The database's wrong arguments, with its messages."""
    cases = info.module_error_inputs_func(info, device="cpu", dtype=torch.float32, requires_grad=False, training=True)
    for case in cases:
        arguments, forward = case.module_error_input.constructor_input, case.module_error_input.forward_input
        twin = TWINS[info.module_cls]
        if case.error_on == ModuleErrorEnum.CONSTRUCTION_ERROR:
            with pytest.raises(case.error_type, match=case.error_regex):
                twin(*arguments.args, **arguments.kwargs)
        else:
            module = twin(*arguments.args, **arguments.kwargs)
            with pytest.raises(case.error_type, match=case.error_regex):
                module(*forward.args, **forward.kwargs)
