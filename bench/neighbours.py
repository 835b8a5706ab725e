"""python -m bench.neighbours: the kernels beside NumPy and torch in one process, on Python's threads, and in silence.

Three tables of ratios, each the median of what a call takes under some condition over what it takes without: beside
another library, which computes between the calls; shared by Python's threads; on input and gradients that fade into
subnormal numbers, with and without `fastrnn.set_flush_denormal`. Needs torch.
"""

from concurrent.futures import ThreadPoolExecutor
from statistics import median
from time import perf_counter

import numpy as np
import torch

import fastrnn

ROUNDS, CALLS, FEW_CALLS = 5, 60, 20  # calls in a round
QUIET = "fading", "subnormal throughout", "gradient of the last step alone, trained"


def seconds(call):
    """Seconds that a call takes."""
    start = perf_counter()
    call()
    return perf_counter() - start


def beside(call, other):
    """How many times as long a call takes where another one precedes each."""
    ratios = []
    for _ in range(ROUNDS):
        alone = median(seconds(call) for _ in range(CALLS))
        alternating = median((other(), seconds(call))[1] for _ in range(CALLS))
        ratios.append(alternating / alone)
    return median(ratios)


def neighbours():
    """Ratios of our calls beside others', and of theirs beside ours."""
    lstm, x = fastrnn.LSTM(128, 128, rng=0), np.ones((50, 32, 128), np.float32)
    a = np.random.default_rng(0).standard_normal((768, 768), np.float32)
    b = torch.from_numpy(a)
    print(f"fastrnn beside a copy of 2 MB, by one thread {beside(lambda: lstm(x), lambda: np.copy(a)):.2f}")
    theirs = {"numpy": lambda: a @ a, "torch": lambda: b @ b}
    with torch.no_grad():
        for name, other in theirs.items():
            print(f"fastrnn beside {name}'s matmul {beside(lambda: lstm(x), other):.2f}   "
                  f"that beside fastrnn {beside(other, lambda: lstm(x)):.2f}")


def throughput(layer, x, number):
    """Calls a second of so many Python threads that share a layer."""
    with ThreadPoolExecutor(number) as pool:
        return 200 / seconds(lambda: [*pool.map(lambda _: layer(x), range(200))])


def shared():
    """Throughput of more Python threads, in that of one."""
    layer, x, before = fastrnn.GRU(64, 128, rng=0), np.ones((50, 16, 64), np.float32), fastrnn.get_num_threads()
    for each in sorted({1, before}):
        fastrnn.set_num_threads(each)
        rates = [median(throughput(layer, x, number) for _ in range(ROUNDS)) for number in (1, 2, 4)]
        print(f"Python threads 1, 2, 4 on calls of up to {each}: " + "  ".join(f"{r / rates[0]:.2f}" for r in rates))
    fastrnn.set_num_threads(before)


def compared(call, plain):
    """How many times as long one call takes as another."""
    ratios = []
    for _ in range(ROUNDS):
        usual = median(seconds(plain) for _ in range(FEW_CALLS))
        ratios.append(median(seconds(call) for _ in range(FEW_CALLS)) / usual)
    return median(ratios)


def quiet(layer, noise):
    """Ratios to noise: of input that fades, of input that is subnormal throughout, of a gradient that vanishes."""
    fading = noise * np.float32(0.5) ** np.float32(range(len(noise)))[:, None, None]  # subnormal from step 126 to 149
    low = noise * np.float32(1e-41)
    everywhere = np.ones_like(layer(noise)[0])
    at_the_end = np.zeros_like(everywhere)
    at_the_end[-1] = 1

    def back(d):
        layer.backward(layer.forward(noise)[2], d)

    return (compared(lambda: layer(fading), lambda: layer(noise)), compared(lambda: layer(low), lambda: layer(noise)),
            compared(lambda: back(at_the_end), lambda: back(everywhere)))


def silence():
    """Those ratios, with subnormal numbers and with zeros in their place."""
    rng = np.random.default_rng(0)
    for H in (32, 128):
        noise = rng.standard_normal((1000, 1, H), np.float32)
        for name, options in [("RNN", {}), ("RNN", {"nonlinearity": "relu"}), ("LSTM", {}), ("GRU", {})]:
            layer = getattr(fastrnn, name)(H, H, rng=0, bias=False, **options)
            for flush in (False, True):
                fastrnn.set_flush_denormal(flush)
                found = [f"{what} {ratio:5.2f}" for what, ratio in zip(QUIET, quiet(layer, noise), strict=True)]
                label = f"H{H} {name}{' relu' * bool(options)}{', flushed' * flush}"
                print(f"{label:22}", *found, sep="  ", flush=True)
            fastrnn.set_flush_denormal(False)


if __name__ == "__main__":
    neighbours()
    shared()
    silence()
