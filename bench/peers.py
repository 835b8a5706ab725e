"""Whom a case is timed against, and fastrnn itself: one class each, all given the same arrays.

`prepare` builds everything that is built once, and gives two callables: one that does the work, the one that is
timed; and one that makes a dict of NumPy arrays of what it returned. In training that is the output, the gradient
of the input and of all parameters, the gradient of the output being given.
"""

import importlib
from functools import partial
from importlib.util import find_spec

import numpy as np

import fastrnn
from bench.cases import TASKS, suffixes
from fastrnn import reference

__all__ = ["PEERS", "installed"]


class Peer:
    """What a peer offers.

    Attributes
    ----------
    modules : tuple of str
        What has to be installed.
    cells, tasks : tuple of str
        Which cases it can run.
    threaded : bool
        Whether it lets us set its threads; if not, it takes what it takes.
    """

    modules = ()
    cells = ("RNN",)
    tasks = TASKS
    threaded = True

    def __init__(self):
        for module in self.modules:
            setattr(self, module, importlib.import_module(module))

    def covers(self, case):
        """Whether it can run the case."""
        return case.cell in self.cells and case.task in self.tasks

    def set_threads(self, threads):
        """Called before its calls whenever another contestant has had a turn."""

    def prepare(self, case, arrays, threads):
        """The call to be timed, and the function that reads its result."""
        raise NotImplementedError


class FastRNN(Peer):
    """This package."""

    modules = ("fastrnn",)

    def set_threads(self, threads):
        """Up to so many; the package uses fewer where it sees fit."""
        fastrnn.set_num_threads(threads)

    def prepare(self, case, arrays, threads):
        """A layer of the public interface."""
        layer = getattr(fastrnn, case.cell)(case.I, case.H, case.layers, bidirectional=case.bidirectional)
        layer.load_state_dict(arrays.params)
        if case.task == "inference":
            return partial(layer, arrays.x, arrays.hx), _read_forward

        def call():
            output, h_n, tape = layer.forward(arrays.x, arrays.hx)
            return output, h_n, layer.backward(tape, arrays.d_output)

        return call, lambda result: _named(*result[:2], result[2].input, result[2].params)


class Torch(Peer):
    """torch.nn, under inference_mode; in training the gradients are set to None before each pass."""

    modules = ("torch",)

    def set_threads(self, threads):
        """Of the whole process."""
        self.torch.set_num_threads(threads)

    def prepare(self, case, arrays, threads):
        """A module of torch.nn."""
        torch = self.torch
        module = getattr(torch.nn, case.cell)(case.I, case.H, case.layers, bidirectional=case.bidirectional)
        module.load_state_dict({name: torch.tensor(array) for name, array in arrays.params.items()})
        x, hx, d_output = map(torch.tensor, (arrays.x, arrays.hx, arrays.d_output))
        if case.task == "inference":
            return torch.inference_mode()(partial(module, x, hx)), _read_forward
        x.requires_grad_()

        def call():
            module.zero_grad()
            x.grad = None
            output, h_n = module(x, hx)
            output.backward(d_output)
            return output, h_n

        def read(result):
            gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
            return _named(*(array.detach() for array in result), x.grad, gradients)

        return call, read


class OnnxRuntime(Peer):
    """onnxruntime, on a model of ONNX's own operators; a session for each number of threads."""

    modules = ("onnx", "onnxruntime")
    tasks = ("inference",)

    def prepare(self, case, arrays, threads):
        """A session, and its call with NumPy arrays."""
        options = self.onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        model = self._model(case, arrays.params).SerializeToString()
        session = self.onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return partial(session.run, None, {"x": arrays.x, "hx": arrays.hx}), _read_forward

    def _model(self, case, params):
        """Weights are (D, H, features), both biases (D, 2 H); a layer's output is (T, D, B, H)."""
        onnx, node = self.onnx, self.onnx.helper.make_node
        T, B, D, H = case.T, case.B, case.directions, case.H
        float_array = partial(onnx.helper.make_tensor_value_info, elem_type=onnx.TensorProto.FLOAT)
        initial = [onnx.numpy_helper.from_array(np.array([T, B, D * H]), "shape")]
        nodes = [node("Split", ["hx"], [f"hx{k}" for k in range(case.layers)], num_outputs=case.layers)]
        x = "x"
        for k, names in enumerate(suffixes(case.layers, case.bidirectional)):
            weights = {
                "w": np.stack([params["weight_ih" + name] for name in names]),
                "r": np.stack([params["weight_hh" + name] for name in names]),
                "b": np.stack([np.concatenate([params["bias_ih" + n], params["bias_hh" + n]]) for n in names]),
            }
            initial += [onnx.numpy_helper.from_array(array, f"{name}{k}") for name, array in weights.items()]
            inputs = [x, f"w{k}", f"r{k}", f"b{k}", "", f"hx{k}"]
            direction = "bidirectional" if case.bidirectional else "forward"
            nodes.append(node(case.cell, inputs, [f"y{k}", f"h_n{k}"], hidden_size=H, direction=direction))
            if case.bidirectional:
                nodes.append(node("Transpose", [f"y{k}"], [f"z{k}"], perm=[0, 2, 1, 3]))
            x = "output" if k == case.layers - 1 else f"x{k + 1}"
            nodes.append(node("Reshape", [f"{'z' if case.bidirectional else 'y'}{k}", "shape"], [x]))
        nodes.append(node("Concat", [f"h_n{k}" for k in range(case.layers)], ["h_n"], axis=0))
        states = (D * case.layers, B, H)
        graph = onnx.helper.make_graph(
            nodes, "stack", [float_array("x", shape=(T, B, case.I)), float_array("hx", shape=states)],
            [float_array("output", shape=(T, B, D * H)), float_array("h_n", shape=states)], initial,
        )
        return onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 18)])


class Jax(Peer):
    """jax.lax.scan under jit, the input projection of all steps being one product before it."""

    modules = ("jax",)
    threaded = False

    def __init__(self):
        super().__init__()
        self.jax.config.update("jax_platforms", "cpu")

    def prepare(self, case, arrays, threads):
        """A compiled function; a call waits for its result."""
        jax = self.jax
        x, hx, params, d_output = jax.tree.map(jax.numpy.asarray, tuple(arrays))
        stack = partial(self._stack, suffixes(case.layers, case.bidirectional))

        @jax.jit
        def train(x, hx, params, d_output):
            output, backward, h_n = jax.vjp(lambda x, params: stack(x, hx, params), x, params, has_aux=True)
            return output, h_n, *backward(d_output)

        if case.task == "training":
            return lambda: jax.block_until_ready(train(x, hx, params, d_output)), lambda result: _named(*result)
        infer = jax.jit(stack)
        return lambda: jax.block_until_ready(infer(x, hx, params)), _read_forward

    def _stack(self, names_of_layers, x, hx, params):
        np, h_n = self.jax.numpy, []
        for names in names_of_layers:
            outputs = []
            for direction, name in enumerate(names):
                output, h = self._layer(x, hx[len(h_n)], params, name, reverse=direction == 1)
                outputs.append(output)
                h_n.append(h)
            x = np.concatenate(outputs, axis=2)
        return x, np.stack(h_n)

    def _layer(self, x, h, params, name, reverse):
        z = x @ params["weight_ih" + name].T + params["bias_ih" + name] + params["bias_hh" + name]
        w_hh = params["weight_hh" + name].T

        def step(h, z):
            h = self.jax.numpy.tanh(z + h @ w_hh)
            return h, h

        h_n, output = self.jax.lax.scan(step, h, z, reverse=reverse)
        return output, h_n


class Reference(Peer):
    """The equations in NumPy, fastrnn.reference; in the dtype of the arrays. Its threads are those of NumPy's BLAS."""

    modules = ("numpy",)
    threaded = find_spec("threadpoolctl") is not None

    def set_threads(self, threads):
        """Of BLAS, if there is threadpoolctl to tell it."""
        if self.threaded:
            from threadpoolctl import threadpool_limits

            threadpool_limits(threads, user_api="blas")

    def prepare(self, case, arrays, threads):
        """The functions of the reference."""
        x, hx, params, d_output = arrays
        forward = partial(reference.rnn, x, hx, params, case.layers, bidirectional=case.bidirectional)
        if case.task == "inference":
            return forward, _read_forward
        d_h_n = np.zeros_like(hx)

        def call():
            output, h_n, saved = forward()
            return output, h_n, reference.rnn_stack_backward(saved, d_output, d_h_n)

        return call, lambda result: _named(*result[:2], result[2][0], result[2][2])


PEERS = {"torch": Torch, "onnxruntime": OnnxRuntime, "jax": Jax, "numpy": Reference}


def installed(name):
    """Whether all that the peer needs is there."""
    return all(find_spec(module) for module in PEERS[name].modules)


def _named(output, h_n, d_input, d_params):
    """What a training pass gives, as NumPy arrays by name."""
    arrays = {"output": output, "h_n": h_n, "the gradient of input": d_input}
    arrays |= {f"the gradient of {name}": gradient for name, gradient in d_params.items()}
    return {name: np.asarray(array) for name, array in arrays.items()}


def _read_forward(result):
    """What a forward pass gives, as NumPy arrays by name."""
    return {"output": np.asarray(result[0]), "h_n": np.asarray(result[1])}
