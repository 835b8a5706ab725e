"""What is timed: every cell in inference and in training over a grid of shapes, and the shapes of published models."""

from bench.case import CELLS, TASKS, Case

__all__ = ["CASES", "QUICK"]

STEPS = [  # T, B, I and H of one step in a stream: of a layer, and of the cell that is made for it
    (1, 1, 64, 64),
    (1, 1, 128, 128),
    (1, 1, 512, 512),
]
SHAPES = [  # T steps, B sequences, I inputs, H hidden units, layers, both directions
    (63, 1, 24, 32, 1, False),
    (63, 1, 24, 32, 1, True),
    (100, 1, 32, 32, 1, False),
    (100, 1, 128, 128, 1, False),
    (100, 1, 512, 512, 1, False),
    (50, 32, 128, 128, 1, False),
    (1000, 16, 64, 64, 1, False),
    (100, 64, 256, 256, 1, False),
    (50, 64, 512, 512, 2, False),
    (50, 128, 1024, 1024, 1, False),
]
GRID = [Case(cell + suffix, task, *shape) for cell in CELLS for shape in STEPS for suffix in ("", "Cell")
        for task in TASKS]
GRID += [Case(cell, task, *shape) for cell in CELLS for shape in SHAPES for task in TASKS]


def model(name, cell, task, *shape, **more):
    """A case with the shape of a published model."""
    return Case(cell, task, *shape, **more, model=name)


# By the code that they were published with. A T that is only "how much there is at once" is cut where that is long:
# from some dozens of steps on, time is in proportion to it.
MODELS = [
    model("Silero VAD", "LSTMCell", "inference", 1, 1, 128, 128),  # a step is 32 ms of speech
    model("RNNoise", "GRU", "inference", 1, 1, 384, 384, 3),  # a step is 10 ms of sound
    model("RNNoise", "GRU", "training", 50, 128, 384, 384, 3),  # 2000 steps
    model("DTLN", "LSTM", "inference", 1, 1, 257, 128, 2),  # a step is 8 ms; the first of two such pairs of layers
    model("DTLN", "LSTM", "training", 375, 32, 257, 128, 2),  # 1875 steps
    model("NAM", "LSTM", "inference", 64, 1, 1, 24),  # a block of samples, of 48,000 a second
    model("NAM", "LSTM", "training", 512, 16, 1, 24),  # a window, 16 of which make a row of 8192
    model("Precise", "GRU", "inference", 29, 1, 13, 20),
    model("pyannote", "LSTM", "inference", 589, 1, 60, 128, 2, True),
    model("pyannote", "LSTM", "inference", 589, 32, 60, 128, 2, True),
    model("icefall", "LSTM", "inference", 16, 1, 512, 1024, 12, proj_size=512),  # a chunk
    model("oneDNN 837", "LSTM", "inference", 63, 1, 24, 32, 1, True),
    model("oneDNN 837", "LSTM", "inference", 31, 1, 48, 32, 1, True),
    model("oneDNN 837", "LSTM", "inference", 15, 1, 96, 32, 1, True),
    model("Bonito", "LSTM", "inference", 50, 96, 384, 384, 5),  # 2000 steps; every other layer goes backwards
    model("DeepAR", "LSTM", "inference", 1, 3200, 32, 40, 2),  # 100 samples of 32 series go on by a step
    model("DeepAR", "LSTM", "training", 48, 32, 32, 40, 2),
    model("neuralhydrology", "LSTM", "training", 365, 256, 31, 128),
    model("RecurrentPPO", "LSTM", "inference", 1, 8, 64, 256),  # 8 environments, of 64 features
    model("RecurrentPPO", "LSTM", "training", 128, 8, 64, 256),  # without its resets, which no peer has
    model("g2p_en", "GRU", "inference", 8, 1, 256, 256),  # a word's letters,
    model("g2p_en", "GRUCell", "inference", 1, 1, 256, 256),  # and a phoneme of it
]

CASES = GRID + MODELS

QUICK_SHAPES = ["T1 B1 I128 H128", "T63 B1 I24 H32 both", "T100 B1 I128 H128", "T50 B32 I128 H128"]
QUICK_MODELS = ["NAM", "Precise", "g2p_en"]
QUICK = [case for case in GRID if case.shape in QUICK_SHAPES and not case.single]
QUICK += [case for case in MODELS if case.model in QUICK_MODELS and case.task == "inference"]
