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
from bench.case import CELLS, TASKS, suffixes
from fastrnn import reference

__all__ = ["PEERS", "installed"]


class Peer:
    """What a peer offers.

    Attributes
    ----------
    modules : tuple of str
        What has to be installed.
    tasks : tuple of str
        Which cases it can run.
    threaded : bool
        Whether it lets us set its threads; if not, it takes what it takes.
    """

    modules = ()
    tasks = TASKS
    threaded = True

    def __init__(self):
        for module in self.modules:
            setattr(self, module, importlib.import_module(module))

    def covers(self, case):
        """Whether it can run the case."""
        return case.task in self.tasks

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
        """A layer of the public interface, or a cell."""
        module = getattr(fastrnn, case.cell)(case.I, case.H, **_arguments(case))
        module.load_state_dict(_of_module(case, arrays.params))
        x, states, d_output = _for_module(case, arrays)
        if case.task == "inference":
            return partial(module, x, states), partial(_read_forward, case)

        def call():
            *results, tape = module.forward(x, states)
            d_hx = (d_output, np.zeros_like(d_output)) if case.single and case.kind == "LSTM" else d_output
            return results[0] if case.single else results, module.backward(tape, d_hx)

        return call, lambda result: _named(case, result[0], result[1].input, dict(result[1].params))


class Torch(Peer):
    """torch.nn, under inference_mode; in training the gradients are set to None before each pass."""

    modules = ("torch",)

    def set_threads(self, threads):
        """Of the whole process."""
        self.torch.set_num_threads(threads)

    def prepare(self, case, arrays, threads):
        """A module of torch.nn."""
        torch = self.torch
        module = self._module(case)
        module.load_state_dict({name: torch.tensor(array) for name, array in _of_module(case, arrays.params).items()})
        x, states, d_output = _for_module(case, arrays)
        x, d_output = torch.tensor(x), torch.tensor(d_output)
        states = tuple(map(torch.tensor, states)) if case.kind == "LSTM" else torch.tensor(states)
        if case.task == "inference":
            return (torch.inference_mode()(partial(module, x, states)),
                    lambda result: _read_forward(case, self._fetched(result)))
        x.requires_grad_()

        def call():
            module.zero_grad()
            x.grad = None
            result = module(x, states)
            output = result[0] if isinstance(result, tuple) else result
            output.backward(d_output)
            return result

        def read(result):
            d_params = {name: self._fetched(p.grad) for name, p in module.named_parameters()}
            return _named(case, self._fetched(result), self._fetched(x.grad), d_params)

        return call, read

    def _module(self, case):
        return getattr(self.torch.nn, case.cell)(case.I, case.H, **_arguments(case))

    def _fetched(self, result):
        return tuple(map(self._fetched, result)) if isinstance(result, tuple) else result.detach().cpu()


class Accelerated(Torch):
    """torch.nn with fastrnn's kernels behind it: no peer of the benchmark, but what `shipping` compares with both."""

    def _module(self, case):
        return importlib.import_module("fastrnn.torch").accelerate(super()._module(case))


class Cuda(Torch):
    """torch.nn on a GPU, that is cuDNN, arrays staying there: no peer of the benchmark; `scaling` shows it."""

    threaded = False

    def set_threads(self, threads):
        """None: the work is the GPU's."""

    def covers(self, case):
        """Whether there is a GPU."""
        return self.torch.cuda.is_available()

    def prepare(self, case, arrays, threads):
        """A module of torch.nn; a call waits for its result."""
        self.torch.backends.cudnn.allow_tf32 = False  # numbers of 10 bits would not pass the check
        with self.torch.device("cuda"):
            call, read = super().prepare(case, arrays, threads)

        def finished():
            result = call()
            self.torch.cuda.synchronize()
            return result

        return finished, read


class OnnxRuntime(Peer):
    """onnxruntime, on a model of ONNX's own operators; a session for each number of threads."""

    modules = ("onnx", "onnxruntime")
    tasks = ("inference",)

    def covers(self, case):
        """ONNX's LSTM has no projection."""
        return super().covers(case) and not case.proj_size

    def prepare(self, case, arrays, threads):
        """A session, and its call with NumPy arrays."""
        options = self.onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        model = self._model(case, arrays.params).SerializeToString()
        session = self.onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        states = dict(zip(("hx", "cx"), arrays.states, strict=False))

        def read(result):
            return _named_forward(*result)

        return partial(session.run, None, {"x": arrays.x, **states}), read

    def _model(self, case, params):
        """Weights are (D, gates * H, features), both biases (D, 2 gates * H); a layer's output is (T, D, B, H)."""
        onnx, node = self.onnx, self.onnx.helper.make_node
        T, B, D, H = case.T, case.B, case.directions, case.H
        states = ("h", "c") if case.kind == "LSTM" else ("h",)
        initial = [onnx.numpy_helper.from_array(np.array([T, B, D * H]), "shape")]
        nodes = [node("Split", [f"{s}x"], [f"{s}x{k}" for k in range(case.layers)], num_outputs=case.layers)
                 for s in states]
        attributes = {"hidden_size": H, "direction": "bidirectional" if case.bidirectional else "forward"}
        if case.kind == "GRU":
            attributes["linear_before_reset"] = 1
        x = "x"
        for k, names in enumerate(suffixes(case.layers, case.bidirectional)):
            weights = {
                "w": np.stack([self._gates(case, params["weight_ih" + name]) for name in names]),
                "r": np.stack([self._gates(case, params["weight_hh" + name]) for name in names]),
                "b": np.stack([np.concatenate([self._gates(case, params[bias + name])
                                               for bias in ("bias_ih", "bias_hh")]) for name in names]),
            }
            initial += [onnx.numpy_helper.from_array(array, f"{name}{k}") for name, array in weights.items()]
            inputs = [x, f"w{k}", f"r{k}", f"b{k}", "", *(f"{s}x{k}" for s in states)]
            nodes.append(node(case.kind, inputs, [f"y{k}", *(f"{s}_n{k}" for s in states)], **attributes))
            if case.bidirectional:
                nodes.append(node("Transpose", [f"y{k}"], [f"z{k}"], perm=[0, 2, 1, 3]))
            x = "output" if k == case.layers - 1 else f"x{k + 1}"
            nodes.append(node("Reshape", [f"{'z' if case.bidirectional else 'y'}{k}", "shape"], [x]))
        nodes += [node("Concat", [f"{s}_n{k}" for k in range(case.layers)], [f"{s}_n"], axis=0) for s in states]
        array = partial(onnx.helper.make_tensor_value_info, elem_type=onnx.TensorProto.FLOAT)
        of_states = (D * case.layers, B, H)
        graph = onnx.helper.make_graph(
            nodes, "stack", [array("x", shape=(T, B, case.I)), *(array(f"{s}x", shape=of_states) for s in states)],
            [array("output", shape=(T, B, D * H)), *(array(f"{s}_n", shape=of_states) for s in states)], initial,
        )
        return onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 18)])

    def _gates(self, case, array):
        """A weight or bias with its gates in ONNX's order: i o f g of an LSTM, z r n of a GRU."""
        order = {"RNN": [0], "LSTM": [0, 3, 1, 2], "GRU": [1, 0, 2]}[case.kind]
        return np.concatenate([np.split(array, CELLS[case.kind])[gate] for gate in order])


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
        x, states, params, d_output = jax.tree.map(jax.numpy.asarray, tuple(arrays))
        stack = partial(self._stack, case)

        @jax.jit
        def train(x, states, params, d_output):
            output, backward, finals = jax.vjp(lambda x, params: stack(x, states, params), x, params, has_aux=True)
            return output, finals, *backward(d_output)

        if case.task == "training":
            return (lambda: jax.block_until_ready(train(x, states, params, d_output)),
                    lambda result: _named_forward(result[0], *result[1]) | _named_gradients(*result[2:]))
        infer = jax.jit(stack)
        return (lambda: jax.block_until_ready(infer(x, states, params)),
                lambda result: _named_forward(result[0], *result[1]))

    def _stack(self, case, x, states, params):
        np, finals = self.jax.numpy, []
        for names in suffixes(case.layers, case.bidirectional):
            outputs = []
            for direction, name in enumerate(names):
                before = tuple(state[len(finals)] for state in states)
                output, final = self._layer(case.kind, x, before, params, name, reverse=direction == 1)
                outputs.append(output)
                finals.append(final)
            x = np.concatenate(outputs, axis=2)
        return x, tuple(map(np.stack, zip(*finals, strict=True)))

    def _layer(self, kind, x, state, params, name, reverse):
        w_hh, b_hh, w_hr = params["weight_hh" + name].T, params["bias_hh" + name], params.get("weight_hr" + name)
        z = x @ params["weight_ih" + name].T + params["bias_ih" + name]
        advance = {"RNN": self._rnn_step, "LSTM": self._lstm_step, "GRU": self._gru_step}[kind]

        def step(state, z):
            h, *c = advance(z, state[0] @ w_hh + b_hh, state)
            h = h if w_hr is None else h @ w_hr.T
            return (h, *c), h

        final, output = self.jax.lax.scan(step, state, z, reverse=reverse)
        return output, final

    def _rnn_step(self, z, y, state):
        return (self.jax.numpy.tanh(z + y),)

    def _lstm_step(self, z, y, state):
        sigmoid, tanh = self.jax.nn.sigmoid, self.jax.numpy.tanh
        i, f, g, o = self.jax.numpy.split(z + y, 4, axis=-1)
        c = sigmoid(f) * state[1] + sigmoid(i) * tanh(g)
        return sigmoid(o) * tanh(c), c

    def _gru_step(self, z, y, state):
        sigmoid, tanh = self.jax.nn.sigmoid, self.jax.numpy.tanh
        (z_r, z_u, z_n), (y_r, y_u, y_n) = (self.jax.numpy.split(part, 3, axis=-1) for part in (z, y))
        u = sigmoid(z_u + y_u)
        n = tanh(z_n + sigmoid(z_r + y_r) * y_n)
        return ((1 - u) * n + u * state[0],)


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
        x, states, params, d_output = arrays
        cell = {"RNN": reference.RNN, "LSTM": reference.LSTM, "GRU": reference.GRU}[case.kind]()
        forward = partial(reference.stack, cell, x, states, params, case.layers, case.bidirectional)
        if case.task == "inference":
            return forward, lambda result: _named_forward(result[0], *result[1])
        d_states = tuple(map(np.zeros_like, states))

        def call():
            output, finals, saved = forward()
            return output, finals, reference.stack_backward(saved, d_output, d_states)

        return call, lambda result: (_named_forward(result[0], *result[1])
                                     | _named_gradients(result[2][0], result[2][2]))


PEERS = {"torch": Torch, "onnxruntime": OnnxRuntime, "jax": Jax, "numpy": Reference}


def installed(name):
    """Whether all that the peer needs is there."""
    return all(find_spec(module) for module in PEERS[name].modules)


def _arguments(case):
    """What a layer of fastrnn or torch is made with besides its sizes, or a cell."""
    if case.single:
        return {}
    projection = {"proj_size": case.proj_size} if case.proj_size else {}  # a word that only LSTM knows
    return {"num_layers": case.layers, "bidirectional": case.bidirectional, **projection}


def _of_module(case, params):
    """Parameters by the names that a layer has for them, or a cell."""
    return {name.removesuffix("_l0"): array for name, array in params.items()} if case.single else params


def _for_module(case, arrays):
    """Input, state and gradient of the output as a layer takes them, or a cell."""
    parts = [arrays.x, arrays.d_output, *arrays.states]
    x, d_output, *states = [array[0] for array in parts] if case.single else parts
    return x, tuple(states) if case.kind == "LSTM" else states[0], d_output


def _named_forward(output, *finals):
    """What a forward pass gives, as NumPy arrays by name."""
    return {"output": np.asarray(output)} | dict(zip(("h_n", "c_n"), map(np.asarray, finals), strict=False))


def _named_gradients(d_input, d_params):
    """What a backward pass gives, as NumPy arrays by name."""
    arrays = {"the gradient of input": d_input} | {f"the gradient of {name}": d for name, d in d_params.items()}
    return {name: np.asarray(array) for name, array in arrays.items()}


def _read_forward(case, result):
    """What a layer or a cell returned, with the shapes and names of a layer."""
    if case.single:
        finals = [np.asarray(state)[None] for state in (result if case.kind == "LSTM" else (result,))]
        return _named_forward(finals[0], *finals)
    output, finals = result
    return _named_forward(output, *(finals if case.kind == "LSTM" else (finals,)))


def _named(case, result, d_input, d_params):
    """What a layer or a cell gave in training, with the shapes and names of a layer."""
    if case.single:
        d_input, d_params = np.asarray(d_input)[None], {f"{name}_l0": d for name, d in d_params.items()}
    return _read_forward(case, result) | _named_gradients(d_input, d_params)
