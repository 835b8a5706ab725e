"""python -m fastrnn demo: a recurrent network learns to write, one character at a time.

A text is cut into parallel streams, and each step of training takes the next characters of every stream: the
state is carried over from step to step, the gradients are not (truncated back-propagation through time,
Williams & Peng 1990). The network reads characters one-hot and predicts the next one of each.
"""

import statistics
import textwrap
import time
from importlib import resources
from itertools import islice
from pathlib import Path

import numpy as np

from fastrnn import kernels, reference
from fastrnn.layers import RNN
from fastrnn.losses import cross_entropy
from fastrnn.optim import Adam, clip_grad_norm
from fastrnn.readout import Linear, softmax
from fastrnn.threads import get_num_threads

__all__ = ["Model", "TextError", "chunks", "read_text", "run", "split", "train"]

SHIPPED = "persuasion.txt"
ORIGIN = ("Jane Austen, Persuasion (1818), volume one; transcribed by Project Gutenberg, ebook 105\n"
          "       licence: none needed, public domain; see fastrnn/data/README")

ROWS, LENGTH = 32, 32  # streams, and characters of each in a step
SHORTEST = 2 * ROWS * LENGTH  # text; enough for a step and for holding some out
HIDDEN_SIZE, NUM_LAYERS = 128, 2
STEPS, LEARNING_RATE, MAX_NORM = 3000, 3e-3, 1.0
HELD_OUT = 20_000  # characters at most, and at most a tenth of the text
TEMPERATURE, PROMPT, SAMPLE = 0.6, 100, 240  # of the samples; characters that they go on from, and their own
LEGS = 4  # parts of the training, with a report after each
RECENT = 50  # steps that a training loss is the mean of


class TextError(Exception):
    """A text that cannot be read or learned from; its message says why."""


def read_text(path=None):
    """A text to learn from.

    Parameters
    ----------
    path : str or path, optional
        A file in UTF-8; the text that comes with the package if None.

    Returns
    -------
    str

    Raises
    ------
    TextError
        A file that cannot be read, that is not UTF-8, or that is too short to train on.
    """
    if path is None:
        return resources.files("fastrnn").joinpath("data", SHIPPED).read_text("utf-8")
    try:
        text = Path(path).read_text("utf-8-sig")
    except OSError as error:
        raise TextError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise TextError(f"{path}: expected UTF-8, got byte {error.object[error.start]:#04x} "
                        f"at position {error.start}") from None
    if len(text) < SHORTEST:
        raise TextError(f"{path}: expected at least {SHORTEST} characters, got {len(text)}")
    return text


def split(text):
    """A text as its characters, and as indices into them: those to train on, and those held out.

    Returns
    -------
    characters : str
        Each character of the text once, in the order of their code points.
    training, held_out : ndarray of int
        The text, cut in two.

    Examples
    --------
    >>> split("to be or not to be, ")
    (' ,benort', array([7, 5, 0, 2, 3, 0, 5, 6, 0, 4, 5, 7, 0, 7, 5, 0, 2, 3]), array([1, 0]))
    """
    points, codes = np.unique(np.frombuffer(text.encode("utf-32-le"), "<u4"), return_inverse=True)
    end = len(codes) - min(len(codes) // 10, HELD_OUT)
    return "".join(map(chr, points)), codes[:end], codes[end:]


def chunks(codes, rows=ROWS, length=LENGTH):
    """The data of each step of training, without end.

    Parameters
    ----------
    codes : ndarray of int
        At least ``rows * length + 1`` characters.
    rows, length : int
        Streams that the text is cut into, and characters of each in a step.

    Yields
    ------
    inputs, targets : ndarray of int, shape (length, rows)
        Each target is the character after its input. A step goes on in each stream where the last one ended.
    first : bool
        Whether this is the first step of a pass over the text: there is no state to carry over.

    Examples
    --------
    >>> steps = chunks(np.arange(9), rows=2, length=2)
    >>> inputs, targets, first = next(steps)
    >>> inputs.tolist(), targets.tolist(), first
    ([[0, 4], [1, 5]], [[1, 5], [2, 6]], True)
    >>> next(steps)[0].tolist()
    [[2, 6], [3, 7]]
    """
    columns = (len(codes) - 1) // rows
    inputs, targets = (codes[i : i + rows * columns].reshape(rows, columns).T for i in (0, 1))
    while True:
        for start in range(0, columns - length + 1, length):
            yield inputs[start : start + length], targets[start : start + length], start == 0


class Model:
    """Predicts the next character: one-hot characters, a recurrent network, a readout to one logit each.

    Parameters
    ----------
    characters : str
        Those that it knows.
    hidden_size, num_layers : int
        Of the recurrent network.
    seed : int
        Of the initial weights.

    Attributes
    ----------
    rnn, head : RNN, Linear
    characters : str
    """

    def __init__(self, characters, hidden_size=HIDDEN_SIZE, num_layers=NUM_LAYERS, seed=0):
        rng, self.characters = np.random.default_rng(seed), characters
        self.rnn = RNN(len(characters), hidden_size, num_layers, rng=rng)
        self.head = Linear(hidden_size, len(characters), rng=rng)
        self._one_hot = np.eye(len(characters), dtype=self.rnn.dtype)

    def inputs(self, codes):
        """Characters' indices, of any shape, one-hot."""
        return self._one_hot[codes]

    def gradients(self, inputs, targets, h=None):
        """One step forward and back.

        Parameters
        ----------
        inputs, targets : ndarray of int, shape (length, rows)
        h : ndarray, optional
            State that the step before ended in.

        Returns
        -------
        loss : float
            Mean cross entropy, in nats a character.
        h_n : ndarray
            State that this one ends in.
        gradients : list of Gradients
            Of `rnn` and of `head`.
        """
        output, h_n, tape = self.rnn.forward(self.inputs(inputs), h)
        logits, head_tape = self.head.forward(output)
        loss, d_logits = cross_entropy(logits, targets)
        head_gradients = self.head.backward(head_tape, d_logits)
        return loss, h_n, [self.rnn.backward(tape, head_gradients.input), head_gradients]

    def loss(self, codes):
        """Mean cross entropy of a stretch of text, in nats a character."""
        output, _ = self.rnn(self.inputs(codes[:-1]))
        return cross_entropy(self.head(output), codes[1:])[0]

    def sample(self, prompt, length, rng, temperature=TEMPERATURE):
        """Write on.

        Parameters
        ----------
        prompt : ndarray of int
            What to go on from, at least one character.
        length : int
            Characters to write.
        rng : numpy.random.Generator
            What draws them.
        temperature : float
            Divides the logits: near 0 for the likeliest character each time, 1 for what the model believes.

        Returns
        -------
        str
        """
        output, h = self.rnn(self.inputs(prompt))
        written = []
        for _ in range(length):
            p = softmax(self.head(output[-1]).astype(np.float64) / temperature)
            written.append(rng.choice(len(p), p=p))
            output, h = self.rnn(self.inputs(written[-1:]), h)
        return "".join(self.characters[code] for code in written)


def train(model, steps, learning_rate=LEARNING_RATE):
    """Train a model by Adam with clipped gradients, one step for each loss asked for.

    Parameters
    ----------
    model : Model
    steps : iterable
        What `chunks` gives.
    learning_rate : float

    Yields
    ------
    float
        The loss of each step, before its change of the weights.
    """
    adam, h = Adam([model.rnn, model.head], lr=learning_rate), None
    for inputs, targets, first in steps:
        loss, h, gradients = model.gradients(inputs, targets, None if first else h)
        clip_grad_norm(gradients, MAX_NORM)
        adam.step(gradients)
        yield loss


def reference_gradients(model, inputs, targets):
    """What `Model.gradients` computes, by the NumPy reference: the loss, and the parameters' gradients."""
    weight, bias = model.head.params.values()
    x, layers = model.inputs(inputs), model.rnn.num_layers
    h0 = np.zeros((layers, x.shape[1], model.rnn.hidden_size), x.dtype)
    output, _, saved = reference.stack(reference.RNN(), x, (h0,), model.rnn.params, layers)
    loss, d_logits = reference.cross_entropy(reference.linear(output, weight, bias), targets)
    d_output, d_weight, d_bias = reference.linear_backward(output, weight, d_logits)
    _, _, gradients = reference.stack_backward(saved, d_output, (np.zeros_like(h0),))
    return loss, gradients | {"weight": d_weight, "bias": d_bias}


def speed(gradients, model, inputs, targets):
    """Characters a second that `gradients` goes through: the median of a few calls, for half a second."""
    seconds, start = [], time.perf_counter()
    while len(seconds) < 3 or time.perf_counter() - start < 0.5:
        before = time.perf_counter()
        gradients(model, inputs, targets)
        seconds.append(time.perf_counter() - before)
    return inputs.size / statistics.median(seconds)


def progress(losses, steps):
    """The losses, behind a bar where tqdm is installed and standard error is a terminal."""
    try:
        from tqdm import tqdm
    except ImportError:
        return losses
    return tqdm(losses, total=steps, unit=" steps", disable=None, leave=False)


def report(title, model, held_out, seed):
    """Print a title, the held-out loss, and how the model goes on from the held-out text's beginning; that loss."""
    loss = model.loss(held_out)
    print(f"\n{title}, held-out loss {loss:.3f}")
    sample = model.sample(held_out[:PROMPT], SAMPLE, np.random.default_rng(seed))
    print(textwrap.indent(sample.strip(), "    | ", lambda line: True), flush=True)
    return loss


def run(path=None, seed=0, steps=STEPS):
    """Train on a text and print how it goes: losses, samples, characters a second.

    Parameters
    ----------
    path : str or path, optional
        As `read_text` takes it.
    seed : int
        Of the initial weights and of the samples.
    steps : int
        Of training.

    Raises
    ------
    TextError
        As `read_text` does.
    """
    text = read_text(path)
    characters, training, held_out = split(text)
    model = Model(characters, seed=seed)
    print(f"text   {ORIGIN if path is None else path}\n       {len(text):,} characters, {len(characters)} different; "
          f"the last {len(held_out):,} held out")
    print(f"model  {model.rnn!r}, {model.head!r}; {ROWS} streams, {LENGTH} characters of each a step")
    print(f"here   build {kernels.build}, threads {get_num_threads()}")
    before = report("before", model, held_out, seed)

    losses, elapsed = train(model, chunks(training)), 0.0
    for leg in range(LEGS):
        done, until = steps * leg // LEGS, steps * (leg + 1) // LEGS
        if until > done:
            start = time.perf_counter()
            recent = list(progress(islice(losses, until - done), until - done))[-RECENT:]
            elapsed += time.perf_counter() - start
            after = report(f"step {until} of {steps}, {elapsed:.1f} s, training loss {np.mean(recent):.3f}",
                           model, held_out, seed)

    print(f"\nloss   {before:.3f} before, {after:.3f} after: nats a character, held out")
    inputs, targets, _ = next(chunks(training))
    ours, plain = (speed(function, model, inputs, targets) for function in (Model.gradients, reference_gradients))
    print(f"speed  {steps * inputs.size / elapsed:,.0f} characters a second trained on; forward and backward alone "
          f"{ours:,.0f},\n       by the NumPy reference {plain:,.0f}: {ours / plain:.1f} times as many")
