"""The floor of a case: the time that no program takes less than, if it multiplies and reads at the processor's limits.

Per layer and direction there are two products: of the input by W_ih, of the state by W_hh (and W_hr, where h is
projected). On n threads, with the peak P of a core and the bandwidth b of a core from the nearest level of the memory
that the weights fit in, a product takes no less than

    max(its flops / (n P), the bytes of its weights / (n b) x how often they have to be read)

and a forward pass the sum of these. W_ih is read once: all steps can share it. W_hh is read once a step, since a step
needs the one before it: the first time from where all weights of the call fit, for they were last used a call ago;
then from where this layer's W_hh fits. The threads have a share of the weights each, and so their caches count
together.

Training takes the forward pass; the backward pass, whose products by W_hh and W_ih have the same flops and read
the same bytes; and the gradients of the weights, again the same flops, at the peak.

Activations, biases, and the reading and writing of anything but weights count nothing, nor do the threads' waiting for
each other and the call from Python: this is a floor of the products alone, and far below what one step of a small
layer can take.
"""

__all__ = ["floor"]

FLOAT = 4  # bytes


def floor(case, limits, threads):
    """Seconds that a call takes at least.

    Parameters
    ----------
    case : Case
    limits : Limits
    threads : int

    Returns
    -------
    float
    """
    peak = 1e9 * threads * limits.gflops
    everything = FLOAT * case.directions * sum(map(sum, case.weights))
    first_read = limits.bytes_per_second(everything, threads)
    one_direction = 0.0
    for layer in case.weights:
        next_reads = limits.bytes_per_second(FLOAT * layer.state, threads)
        for weights, times_again in [(layer.input, 0), (layer.state, case.T - 1)]:
            multiplying = 2 * case.T * case.B * weights / peak
            reading = FLOAT * weights * (1 / first_read + times_again / next_reads)
            one_direction += max(multiplying, reading)
    forward = case.directions * one_direction
    gradients = case.flops / 3 / peak  # of the weights, in training
    return 2 * forward + gradients if case.task == "training" else forward
