"""Several processes train one PyTorch model: DistributedDataParallel over gloo, with fastrnn's kernels in each.

python -m bench.tasks.data_parallel

The model and the text are those of `characters`. Each process reads its share of the streams that the text is cut
into, and at every step the gradients are averaged over the processes, which is the gradient of the whole batch. The
same is then trained by one process with the whole batch, and the weights are compared.

Here the processes share the processors of one machine, and meet at a file. On several machines `torchrun` starts
them, and `init_process_group("gloo")` finds from it who they are and where they meet.
"""

import tempfile
import time
from datetime import timedelta
from itertools import islice
from pathlib import Path

import fastrnn
from bench.tasks.needs import extra
from bench.tasks.shares import HIDDEN, command_line, report, share
from fastrnn import demo
from fastrnn.__main__ import positive_integer

with extra():
    import torch
    from torch import distributed
    from torch.nn.functional import cross_entropy
    from torch.nn.parallel import DistributedDataParallel

    from fastrnn.torch import accelerate

__all__ = ["main", "together", "train"]

PATIENCE = timedelta(minutes=2)  # after which a process gives up waiting for another one


class Model(torch.nn.Module):
    """Characters one-hot (L, N, different ones) and the state before -> logits of those that follow, and the state."""

    def __init__(self, count):
        super().__init__()
        self.rnn = torch.nn.LSTM(count, HIDDEN)
        self.head = torch.nn.Linear(HIDDEN, count)

    def forward(self, x, state):
        """Go on from a state, or from zero if it is None."""
        output, state = self.rnn(x, state)
        return self.head(output), state


def train(steps, threads, rank=0, processes=1, wrap=lambda model: model):
    """Train on a share of every batch; the model's weights by name, and seconds."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    characters, codes, _ = demo.split(demo.read_text())
    one_hot, module = torch.eye(len(characters)), accelerate(Model(len(characters)))
    model = wrap(module)
    adam, state = torch.optim.Adam(model.parameters(), lr=demo.LEARNING_RATE), None
    start = time.perf_counter()
    for inputs, targets, first in share(islice(demo.chunks(codes), steps), rank, processes):
        logits, state = model(one_hot[inputs], None if first else state)
        adam.zero_grad()
        cross_entropy(logits.flatten(0, 1), torch.from_numpy(targets).flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), demo.MAX_NORM)
        adam.step()
        state = tuple(part.detach() for part in state)
    return module.state_dict(), time.perf_counter() - start


def work(rank, processes, folder, steps, threads, options):
    """What each process does; leaves what `train` gives in a file."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=processes,
                                   timeout=PATIENCE)
    trained = train(steps, threads, rank, processes, lambda model: DistributedDataParallel(model, **options))
    torch.save(trained, f"{folder}/{rank}")
    distributed.destroy_process_group()


def together(processes, steps, threads, **options):
    """Train by several processes; what `train` gives in each. `options` are DistributedDataParallel's."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(work, (processes, folder, steps, threads, options), processes)
        return [torch.load(Path(folder, str(rank))) for rank in range(processes)]


def arguments(argv=None):
    """Parse the command line."""
    parser = command_line("python -m bench.tasks.data_parallel", __doc__)
    parser.add_argument("--processes", type=positive_integer, default=2, metavar="N", help="that share the batches")
    options = parser.parse_args(argv)
    if demo.ROWS % options.processes:
        parser.error(f"--processes: expected a divisor of the {demo.ROWS} rows, got {options.processes}")
    return options


def main(argv=None):
    """Train both ways and compare."""
    options = arguments(argv)
    threads = fastrnn.get_num_threads()
    each = max(1, threads // options.processes)
    found = together(options.processes, options.steps, each)
    report(options.steps, train(options.steps, threads), found, (threads, each))


if __name__ == "__main__":
    main()
