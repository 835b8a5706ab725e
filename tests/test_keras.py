"""Weights of Keras' own layers: what they compute there, and the errors of those that cannot be taken."""

import os

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("KERAS_HOME", os.devnull)  # else importing it writes to the user's home
import keras

import fastrnn

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' own, of NumPy 2

# Largest error of output and states, of magnitudes up to 3.3, in float32, in which Keras multiplies without TensorFlow
# whatever the layer's dtype: twice the worst measured, 4.8e-7.
BOUND = 1e-6
OPTIONS = {
    "SimpleRNN": [{}, {"activation": "relu"}, {"activation": "sigmoid"}, {"use_bias": False}],
    "LSTM": [{}, {"use_bias": False}],
    "GRU": [{"reset_after": reset_after, "use_bias": use_bias} for reset_after in (True, False)
            for use_bias in (True, False)],
}
CASES = [(kind, options) for kind, found in OPTIONS.items() for options in found]


def of_keras(kind, options, bidirectional=False, I=5, H=3):
    """A layer of Keras that gives output and states, its weights, all of them random, and the arguments they take."""
    layer = getattr(keras.layers, kind)(H, return_sequences=True, return_state=True, **options)
    if bidirectional:
        layer = keras.layers.Bidirectional(layer)
    layer.build((None, None, I))
    rng = np.random.default_rng(0)
    layer.set_weights([rng.uniform(-0.7, 0.7, weight.shape) for weight in layer.weights])
    arguments = {"activation": options["activation"]} if "activation" in options else {}
    if "reset_after" in options:
        arguments["reset_after"] = options["reset_after"]
    return layer, layer.get_weights(), arguments


def results(layer, x):
    """Output and states of a layer of Keras, as arrays."""
    return [keras.ops.convert_to_numpy(array) for array in layer(keras.ops.convert_to_tensor(x, str(x.dtype)))]


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("kind", "options"), CASES)
def test_same_as_keras(kind, options, bidirectional):
    twin, weights, arguments = of_keras(kind, options, bidirectional)
    layer = fastrnn.from_keras_weights(kind, weights, bidirectional=bidirectional, **arguments)
    x = np.random.default_rng(1).standard_normal((4, 7, 5), np.float32)
    expected, *states = results(twin, x)
    output, finals = layer(x)
    finals = np.stack(finals, 1) if kind == "LSTM" else finals[:, None]  # (directions, h or h and c, N, H)
    assert output.shape == expected.shape and np.abs(output - expected).max() <= BOUND
    assert np.abs(finals.reshape(-1, 4, 3) - np.stack(states)).max() <= BOUND
    time_major = fastrnn.from_keras_weights(kind, weights, bidirectional=bidirectional, batch_first=False, **arguments)
    assert np.array_equal(time_major(x.swapaxes(0, 1))[0].swapaxes(0, 1), output)


def test_the_bias_tells_reset_after():
    for reset_after in (True, False):
        _, weights, _ = of_keras("GRU", {"reset_after": reset_after})
        assert fastrnn.from_keras_weights("GRU", weights).reset_after is reset_after


@pytest.mark.parametrize(("given", "expected"), [
    (np.float16, np.float32), (np.float32, np.float32), (np.float64, np.float64)])
def test_dtype_is_that_of_the_kernel(given, expected):
    weights = [np.full((2, 3), 0.1, given), np.full((3, 3), 0.2, given)]
    layer = fastrnn.from_keras_weights("SimpleRNN", weights)
    assert layer.dtype == expected and np.array_equal(layer.params["weight_ih_l0"], weights[0].T)


def zeros(*shapes):
    return [np.zeros(shape) for shape in shapes]


GRU, LSTM = zeros((5, 9), (3, 9), (2, 9)), zeros((5, 12), (3, 12), (12,))


@pytest.mark.parametrize(("error", "message", "kind", "weights", "options"), [
    (ValueError, "kind: expected one of 'SimpleRNN', 'LSTM', 'GRU', got 'Dense'", "Dense", GRU, {}),
    (ValueError, "activation: expected one of 'tanh', got 'relu'", "LSTM", LSTM, {"activation": "relu"}),
    (ValueError, "activation: expected one of 'tanh', 'relu', 'sigmoid', got 'linear'", "SimpleRNN",
     zeros((5, 3), (3, 3)), {"activation": "linear"}),
    (ValueError, "recurrent_activation: expected one of 'sigmoid', got 'hard_sigmoid'", "GRU", GRU,
     {"recurrent_activation": "hard_sigmoid"}),
    (ValueError, r"weights: expected 2 arrays \(without biases\) or 3, got 1", "GRU", GRU[:1], {}),
    (ValueError, r"weights: expected 4 arrays \(without biases\) or 6, got 3", "GRU", GRU, {"bidirectional": True}),
    (ValueError, r"weights\[0\]: expected shape \(input_size, 3 \* hidden_size\), got \(5, 8\)", "GRU",
     zeros((5, 8), (3, 9)), {}),
    (ValueError, r"weights\[0\]: expected shape \(input_size, 3 \* hidden_size\), got \(9,\)", "GRU",
     zeros(9, (3, 9)), {}),
    (ValueError, r"weights\[1\]: expected shape \(3, 9\), got \(9, 3\)", "GRU", zeros((5, 9), (9, 3), (2, 9)), {}),
    (ValueError, r"weights\[1\]: expected shape \(3000000, 9000000\), got \(3, 9\)", "GRU",
     zeros((1, 9000000), (3, 9), (9,)), {}),
    (ValueError, r"weights\[2\]: expected shape \(2, 9\), got \(9, 2\)", "GRU", zeros((5, 9), (3, 9), (9, 2)), {}),
    (ValueError, r"weights\[2\]: expected shape \(12,\), got \(2, 12\)", "LSTM",
     zeros((5, 12), (3, 12), (2, 12)), {}),
    (ValueError, r"weights\[5\]: expected shape \(2, 9\), got \(9,\)", "GRU", [*GRU, *GRU[:2], np.zeros(9)],
     {"bidirectional": True}),
    (ValueError, "reset_after: expected True or False for weights without a bias, got None", "GRU", GRU[:2], {}),
    (ValueError, r"reset_after: expected True for a bias of shape \(2, 9\), got False", "GRU", GRU,
     {"reset_after": False}),
    (ValueError, r"reset_after: expected False for a bias of shape \(9,\), got True", "GRU",
     [*GRU[:2], np.zeros(9)], {"reset_after": True}),
    (ValueError, "reset_after: expected None of kind 'LSTM', got True", "LSTM", LSTM, {"reset_after": True}),
    (TypeError, "reset_after: expected True or False, got 1", "GRU", GRU, {"reset_after": 1}),
    (TypeError, "bidirectional: expected True or False, got 1", "GRU", GRU, {"bidirectional": 1}),
    (TypeError, "batch_first: expected True or False, got 1", "GRU", GRU, {"batch_first": 1}),
    (TypeError, r"weights\[0\]: expected real numbers, got dtype complex128", "GRU",
     [GRU[0] * 1j, *GRU[1:]], {}),
])
def test_bad_arguments(error, message, kind, weights, options):
    with pytest.raises(error, match=message):
        fastrnn.from_keras_weights(kind, weights, **options)
