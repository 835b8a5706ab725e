"""python -m fastrnn: `info` says what is installed and in use, `check` holds the kernels to the reference."""

import argparse
import platform
import sys

import numpy as np

import fastrnn
from fastrnn import kernels, reference, threads

BOUNDS = {"float32": 1e-5, "float64": 2e-14}  # of the largest element; worst measured 1.3e-6 and 2.2e-15
SHAPES = [(7, 5, 9, 33, "tanh"), (4, 14, 40, 17, "sigmoid"), (9, 1, 3, 70, "relu"), (60, 8, 128, 130, "tanh")]


def info():
    """Print version, build, threads, and what they rest on."""
    print(f"fastrnn {fastrnn.__version__}")
    print(f"build   {kernels.build}: {kernels.reason}; this processor runs {', '.join(kernels.runnable())}")
    print(f"threads {threads.get_num_threads()}: {threads.reason()}")
    print(f"numpy   {np.__version__}, Python {platform.python_version()}, {platform.platform()}")
    return 0


def worst_errors(build, dtype):
    """Largest errors of outputs and of gradients, relative to the largest element, over SHAPES."""
    rng, worst = np.random.default_rng(0), [0.0, 0.0]
    for T, B, features, H, nonlinearity in SHAPES:
        rnn = fastrnn.RNN(features, H, 2, nonlinearity, bidirectional=True, dtype=dtype, rng=rng)
        rnn._engine = kernels.load(build, dtype)
        x, d = (rng.standard_normal((T, B, n)).astype(dtype) for n in (features, 2 * H))
        zeros = np.zeros((4, B, H), dtype)
        output, _, tape = rnn.forward(x)
        g = rnn.backward(tape, d)
        expected, _, saved = reference.rnn(x, zeros, rnn.params, 2, nonlinearity, True)
        d_x, _, d_params = reference.rnn_stack_backward(saved, d, zeros)
        pairs = [(0, output, expected), (1, g.input, d_x)]
        pairs += [(1, g.params[name], d_params[name]) for name in rnn.params]
        for kind, got, value in pairs:
            error = float(np.abs(got - value).max() / np.abs(value).max())
            worst[kind] = max(worst[kind], error if np.isfinite(error) else np.inf)
    return worst


def check():
    """Compare every build that this processor runs with the reference; 1 if one is out of bounds."""
    failed = False
    for build in kernels.runnable():
        for dtype, bound in BOUNDS.items():
            output, gradients = worst_errors(build, dtype)
            wrong = max(output, gradients) > bound
            failed |= wrong
            print(f"{build:8} {dtype}  outputs {output:.1e}  gradients {gradients:.1e}  bound {bound:.0e}  "
                  f"{'FAILED' if wrong else 'ok'}")
    return int(failed)


def main(arguments=None):
    """Run a subcommand; its exit status."""
    parser = argparse.ArgumentParser(prog="fastrnn", description=__doc__)
    parser.add_argument("command", choices=["info", "check"])
    return {"info": info, "check": check}[parser.parse_args(arguments).command]()


if __name__ == "__main__":
    sys.exit(main())
