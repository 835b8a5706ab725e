"""Several processes train one model over MPI, without PyTorch: fastrnn, and mpi4py to average the gradients.

mpirun -n 2 python -m bench.tasks.data_parallel_mpi

The model and the text are those of `data_parallel`. Each process, a rank, reads its share of the streams that the
text is cut into, and at every step the gradients are averaged over the ranks, which is the gradient of the whole
batch. Rank 0 then trains alone, with the whole batch, and the weights are compared.

Nothing here knows of machines: on which ones the ranks run is for `mpirun` to say.
"""

import time
from itertools import islice

import numpy as np

import fastrnn
from bench.tasks.needs import extra
from bench.tasks.shares import HIDDEN, command_line, report, share
from fastrnn import demo

with extra("mpi"):
    from mpi4py import MPI

__all__ = ["main", "train"]


def train(comm, steps, threads):
    """Train on this rank's share of every batch; the weights by name, and seconds."""
    fastrnn.set_num_threads(threads)
    characters, codes, _ = demo.split(demo.read_text())
    one_hot, state = np.eye(len(characters), dtype=np.float32), None
    rnn = fastrnn.LSTM(len(characters), HIDDEN, rng=0)  # the same weights on every rank
    head = fastrnn.Linear(HIDDEN, len(characters), rng=1)
    adam = fastrnn.Adam([rnn, head], lr=demo.LEARNING_RATE)
    start = time.perf_counter()
    for inputs, targets, first in share(islice(demo.chunks(codes), steps), comm.rank, comm.size):
        output, state, tape = rnn.forward(one_hot[inputs], None if first else state)
        logits, head_tape = head.forward(output)
        _, d_logits = fastrnn.cross_entropy(logits, targets)
        head_gradients = head.backward(head_tape, d_logits)
        gradients = [rnn.backward(tape, head_gradients.input), head_gradients]
        average(comm, gradients)
        fastrnn.clip_grad_norm(gradients, demo.MAX_NORM)
        adam.step(gradients)
    seconds = time.perf_counter() - start
    return rnn.state_dict() | head.state_dict(), seconds


def average(comm, gradients):
    """Those of each module are one vector, which is replaced by its mean over the ranks."""
    for gradient in gradients:
        comm.Allreduce(MPI.IN_PLACE, gradient.params.flat)
        gradient.params.flat /= comm.size


def wait(comm):
    """Until every rank is here, without keeping a processor busy, which MPI's own waiting does."""
    arrived = comm.Ibarrier()
    while not arrived.Test():
        time.sleep(0.01)


def arguments(comm, argv=None):
    """Parse the command line, as every rank does."""
    parser = command_line("mpirun -n N python -m bench.tasks.data_parallel_mpi", __doc__)
    options = parser.parse_args(argv)
    if demo.ROWS % comm.size:
        parser.error(f"-n: expected a divisor of the {demo.ROWS} rows, got {comm.size}")
    return options


def main(argv=None):
    """Train both ways and compare."""
    comm = MPI.COMM_WORLD
    options = arguments(comm, argv)
    threads = fastrnn.get_num_threads()
    each = max(1, threads // comm.Split_type(MPI.COMM_TYPE_SHARED).size)  # of the ranks on this machine
    found = comm.gather(train(comm, options.steps, each))
    if comm.rank == 0:
        report(options.steps, train(MPI.COMM_SELF, options.steps, threads), found, (threads, each))
    wait(comm)


if __name__ == "__main__":
    main()
