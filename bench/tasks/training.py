"""Training a model of fastrnn and its twin of torch: the same start, the same batches, the same rule."""

import time
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

import fastrnn
from bench.tasks.needs import extra

with extra():
    import torch
    from tqdm import tqdm

__all__ = ["FastRNN", "Run", "Task", "Torch", "learners", "train"]

MAX_NORM = 1.0  # of the gradients
REPORTS = 10  # of loss and metric, over a training


class Task:
    """What a program gives: the data, two models, a metric. Made once; a seed only changes weights and batches.

    Attributes
    ----------
    metric : str
        Name of what `score` measures.
    baseline : (str, float) or None
        What it is without learning, and for whom.
    steps, hidden, cells, learning_rate
        Defaults of the training. Several cells are trained one after another.
    choices : tuple of str
        Cells that the models can be made of.
    """

    metric, baseline = "", None
    steps, hidden, cells, learning_rate = 1000, 64, ("GRU",), 3e-3
    choices = ("RNN", "LSTM", "GRU")

    def models(self, cell, hidden, rng):
        """The model in fastrnn, and its twin in torch, whose weights do not matter yet.

        The first has `modules`, a list; `gradients(*batch)`, which gives the loss and a list of the modules'
        gradients; and can be called. The second has as many children, in the same order; `loss(*batch)`; and can be
        called for the same results.
        """
        raise NotImplementedError

    def batches(self, rng):
        """Tuples of arrays, one a step, without end."""
        raise NotImplementedError

    def score(self, predict):
        """The metric on held-out data; `predict` calls the model with NumPy arrays, and gives one."""
        raise NotImplementedError


class FastRNN:
    """A model of fastrnn in training."""

    name = "fastrnn"

    def __init__(self, model, learning_rate):
        self.predict, self.gradients = model, model.gradients
        self.adam = fastrnn.Adam(model.modules, lr=learning_rate)

    def step(self, *batch):
        """One step of training; the loss before it."""
        loss, gradients = self.gradients(*batch)
        fastrnn.clip_grad_norm(gradients, MAX_NORM)
        self.adam.step(gradients)
        return loss


class Torch:
    """A model of torch in training."""

    name = "torch"

    def __init__(self, model, learning_rate):
        self.model = model
        self.adam = torch.optim.Adam(model.parameters(), lr=learning_rate)

    def step(self, *batch):
        """One step of training; the loss before it."""
        self.adam.zero_grad()
        loss = self.model.loss(*map(torch.as_tensor, batch))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_NORM)
        self.adam.step()
        return loss.item()

    @torch.inference_mode()
    def predict(self, *arrays):
        """Call the model."""
        return self.model(*map(torch.as_tensor, arrays)).numpy()


def learners(task, cell, hidden, rng):
    """Both models of a task, ready to train from the same weights."""
    ours, twin = task.models(cell, hidden, rng)
    for mine, its in zip(ours.modules, twin.children(), strict=True):
        its.load_state_dict({name: torch.from_numpy(array) for name, array in mine.state_dict().items()})
    return FastRNN(ours, task.learning_rate), Torch(twin, task.learning_rate)


@dataclass
class Run:
    """How a training went.

    Attributes
    ----------
    framework, cell : str
    seed : int
    losses : list of float
        One a step.
    scores : list of (int, float)
        The metric, and the step after which it was measured.
    seconds : float
        Spent in the steps of training.
    """

    framework: str
    cell: str
    seed: int
    losses: list = field(default_factory=list)
    scores: list = field(default_factory=list)
    seconds: float = 0.0

    @property
    def score(self):
        """The metric at the end."""
        return self.scores[-1][1]

    @property
    def loss(self):
        """At the end: the mean over the last tenth of the steps."""
        return float(np.mean(self.losses[-max(1, len(self.losses) // REPORTS):]))


def train(task, learner, run, batches, steps):
    """Train for a number of steps, and print now and then how it goes; the run, filled in."""
    title = f"{run.framework:8}{run.cell:5}seed {run.seed}"
    with tqdm(total=steps, desc=title, unit="step", disable=None, leave=False) as bar:
        for step, batch in enumerate(islice(batches, steps), 1):
            start = time.perf_counter()
            run.losses.append(learner.step(*batch))
            run.seconds += time.perf_counter() - start
            bar.update()
            if step * REPORTS // steps > (step - 1) * REPORTS // steps:
                run.scores.append((step, task.score(learner.predict)))
                bar.write(f"{title}  step {step:5}  loss {run.loss:.4f}  {task.metric} {run.score:.4f}")
    return run
