"""python -m fastrnn: info, check and demo."""

import os
import platform
import pty
import re
import subprocess
import sys
import termios
from importlib import resources
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import assert_close, tolerance

import fastrnn
from fastrnn import __main__ as program
from fastrnn import check, demo, kernels, threads

VERSE = "The rain is on the roof, and the wind is in the reeds; so the heron stands and reads.\n"


def start(*arguments, **options):
    """The program in a process of its own, in no folder that has the package in it."""
    path = os.pathsep.join([str(Path(fastrnn.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen([sys.executable, "-m", "fastrnn", *arguments], text=True, encoding="utf-8",
                            env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, **options)


@pytest.fixture
def text(tmp_path):
    """A file that can be learned from in a few steps."""
    path = tmp_path / "verse.txt"
    path.write_text(VERSE * 30, "utf-8")
    return str(path)


# info

def test_info_names_what_is_in_use(capsys):
    assert program.main(["info"]) == 0
    shown = capsys.readouterr().out
    for part in (f"fastrnn  {fastrnn.__version__}\n", f"build    {kernels.build}: {kernels.reason}",
                 ", ".join(kernels.runnable()), f"threads  {fastrnn.get_num_threads()}: {threads.reason()}\n",
                 f"numpy    {np.__version__}, Python {platform.python_version()}", platform.platform()):
        assert part in shown
    assert re.search(r"^compiler (GCC|Clang) \d+\.\d+", shown, re.M)


def test_every_build_names_its_compiler():
    names = {kernels.load(build, dtype).compiler() for build in kernels.runnable() for dtype in check.BOUNDS}
    assert len(names) == 1  # one installation is built in one go


# check

def test_check_passes_for_every_build(capsys):
    before = fastrnn.get_num_threads()
    assert program.main(["check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    expected = [(build, dtype) for build in kernels.runnable() for dtype in ("float32", "float64")]
    assert [tuple(line.split()[:2]) for line in lines] == expected
    assert all(line.endswith(" ok") for line in lines)
    assert fastrnn.get_num_threads() == before


# What each kernel writes: the position of the array, or of the tuple of arrays, among its arguments; None for what it
# returns.
WRITTEN = {"infer": None, "train": None, "train_back": None, "layer_forward": 5, "layer_backward": 14,
           "linear_forward": 2, "linear_backward": 4}


def with_wrong_kernel(kernel, factor, only_with=None):
    """`kernels.load`, but one kernel of float64 writes a number times `factor` (on so many threads alone)."""
    right = kernels.load

    def load(build, dtype):
        engine = right(build, dtype)

        def wrong(*arguments):
            result = getattr(engine, kernel)(*arguments)
            if only_with in (None, arguments[-1]):
                written = result if WRITTEN[kernel] is None else arguments[WRITTEN[kernel]]
                while isinstance(written, tuple):
                    written = written[0]
                written.flags.writeable = True
                written[(-1,) * written.ndim] *= factor
            return result

        names = {name: getattr(engine, name) for name in ("Affine", "Weights", *WRITTEN)}
        return SimpleNamespace(**(names | {kernel: wrong} if dtype == "float64" else names))

    return load


@pytest.mark.parametrize("factor", [1 + 1e-6, np.nan])
@pytest.mark.parametrize("kernel", WRITTEN)
def test_check_fails_where_one_number_of_a_kernel_is_wrong(capsys, monkeypatch, kernel, factor):
    monkeypatch.setattr(kernels, "load", with_wrong_kernel(kernel, factor))
    monkeypatch.setattr(kernels, "runnable", lambda: [kernels.build])
    assert program.main(["check"]) == 1
    single, double = capsys.readouterr().out.splitlines()
    assert single.endswith(" ok") and double.endswith(" FAILED")


@pytest.mark.parametrize("only_with", [1, 2])
def test_check_fails_where_one_number_of_threads_is_wrong(capsys, monkeypatch, only_with):
    monkeypatch.setattr(kernels, "load", with_wrong_kernel("layer_backward", 1.01, only_with))
    monkeypatch.setattr(kernels, "runnable", lambda: [kernels.build])
    before = fastrnn.get_num_threads()
    try:
        fastrnn.set_num_threads(2)
        assert program.main(["check"]) == 1
    finally:
        fastrnn.set_num_threads(before)
    assert capsys.readouterr().out.count("FAILED") == 1


# demo: its parts

def test_shipped_text_is_there_with_its_origin():
    text = demo.read_text()
    assert len(text) == 215_485 and text.isascii() and text.startswith("Chapter 1\n") and "\r" not in text
    origin = resources.files("fastrnn").joinpath("data", "README").read_text("utf-8")
    for part in (demo.SHIPPED, "Jane Austen", "Persuasion", "Project Gutenberg, ebook 105", "Public domain"):
        assert part in origin
    assert all(part in demo.ORIGIN for part in ("Jane Austen", "Persuasion", "Project Gutenberg", "public domain"))


def test_text_is_split_without_loss():
    text = "zażółć gęślą jaźń \U0001f9a2\n" * 40
    characters, training, held_out = demo.split(text)
    assert characters == "".join(sorted(set(text)))
    assert "".join(characters[code] for code in np.concatenate([training, held_out])) == text
    assert len(held_out) == len(text) // 10
    assert len(demo.split("ab" * 200_000)[2]) == demo.HELD_OUT


def test_chunks_go_on_where_the_last_ended():
    codes, rows, length = np.arange(1000), 3, 10
    steps = list(islice(demo.chunks(codes, rows, length), 66))
    assert [first for *_, first in steps] == ([True] + [False] * 32) * 2
    for inputs, targets, _ in steps:
        assert inputs.shape == targets.shape == (length, rows)
        np.testing.assert_array_equal(targets, inputs + 1)  # the next character of arange
    np.testing.assert_array_equal(np.concatenate([inputs for inputs, *_ in steps[:33]]).T,
                                  np.arange(999).reshape(3, 333)[:, :330])


def test_fewest_characters_make_one_chunk():
    _, training, held_out = demo.split("ab" * (demo.SHORTEST // 2))
    inputs, targets, first = next(demo.chunks(training))
    assert inputs.shape == targets.shape == (demo.LENGTH, demo.ROWS) and first and len(held_out) > demo.PROMPT


def test_reference_is_timed_on_what_the_model_computes():
    characters, training, _ = demo.split(VERSE * 30)
    model = demo.Model(characters, 19)
    inputs, targets, _ = next(demo.chunks(training, rows=5, length=7))
    loss, _, (rnn, head) = model.gradients(inputs, targets)
    expected_loss, expected = demo.reference_gradients(model, inputs, targets)
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    got = dict(rnn.params) | dict(head.params)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(got[name], value, tolerance(np.float32, 7 * 40), name)


def test_sampling_is_seeded_and_sharp_at_low_temperature():
    characters, training, _ = demo.split(VERSE * 30)
    model = demo.Model(characters, 8)
    first, again, other = (model.sample(training[:5], 50, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again != other and len(first) == 50 and set(first) <= set(characters)
    cold = [model.sample(training[:5], 50, np.random.default_rng(seed), temperature=1e-4) for seed in (1, 2)]
    assert cold[0] == cold[1]
    logits = model.head(model.rnn(model.inputs(training[:5]))[0][-1])
    assert cold[0][0] == characters[logits.argmax()]


def test_training_is_the_same_for_the_same_seed():
    characters, training, _ = demo.split(VERSE * 30)
    losses = [list(islice(demo.train(demo.Model(characters, 8, seed=seed), demo.chunks(training, 4, 8)), 10))
              for seed in (3, 3, 4)]
    assert losses[0] == losses[1] != losses[2]


# demo: the program

def check_shown(shown):
    """The demo's output has all its parts, and the loss falls; the last loss."""
    assert shown.count("held-out loss") == 1 + demo.LEGS and "    | " in shown
    assert f"build {kernels.build}, threads" in shown
    before, after = map(float, re.search(r"loss +([\d.]+) before, ([\d.]+) after", shown).groups())
    assert after < before
    assert re.search(r"speed +[\d,]+ characters a second trained on;.*\n.*NumPy reference [\d,]+: [\d.]+ times", shown)
    return after


def test_demo_learns_from_a_file_and_shows_no_bar_in_a_pipe(text, tmp_path):
    process = start("demo", "--text", text, "--steps", "60", "--seed", "7", cwd=tmp_path, stderr=subprocess.PIPE)
    shown, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert f"{text}\n" in shown and f"{len(VERSE) * 30:,} characters" in shown
    assert check_shown(shown) < 1.5  # a verse by heart; knowing nothing is log 22 = 3.1


def test_demo_shows_a_bar_on_a_terminal(text, tmp_path):
    pytest.importorskip("tqdm")
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (24, 80))
    process = start("demo", "--text", text, "--steps", "40", cwd=tmp_path, stderr=end)
    os.close(end)  # now the program alone holds it, and reading the terminal ends where the program does
    bar = b""
    try:
        while part := os.read(terminal, 65536):
            bar += part
    except OSError:  # Linux says EIO where others give b""
        pass
    finally:
        os.close(terminal)
    shown, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and b" steps" in bar
    check_shown(shown)


def test_demo_needs_no_tqdm(text, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert program.main(["demo", "--text", text, "--steps", "5"]) == 0
    shown, errors = capsys.readouterr()
    assert errors == ""
    check_shown(shown)


def test_demo_takes_the_shipped_text_and_one_step(capsys):
    assert program.main(["demo", "--steps", "1"]) == 0
    shown = capsys.readouterr().out
    assert "Jane Austen" in shown and "public domain" in shown and "215,485 characters, 75 different" in shown
    assert shown.count("held-out loss") == 2  # before, and after the step


@pytest.mark.parametrize("content, message", [
    (None, "No such file or directory"),
    (b"", rf"expected at least {demo.SHORTEST} characters, got 0"),
    (b"a" * (demo.SHORTEST - 1), rf"expected at least {demo.SHORTEST} characters, got {demo.SHORTEST - 1}"),
    (b"caf\xe9" * 9999, "expected UTF-8, got byte 0xe9 at position 3"),
])
def test_demo_says_what_is_wrong_with_a_text(tmp_path, capsys, content, message):
    path = tmp_path / "text"
    if content is not None:
        path.write_bytes(content)
    assert program.main(["demo", "--text", str(path)]) == 2
    shown, errors = capsys.readouterr()
    assert shown == "" and errors == f"fastrnn demo: {path}: {message}\n"


def test_demo_refuses_a_folder_and_reads_past_a_byte_order_mark(tmp_path, capsys):
    assert program.main(["demo", "--text", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"fastrnn demo: {tmp_path}: Is a directory\n"
    (tmp_path / "marked").write_text(VERSE * 30, "utf-8-sig")
    assert demo.read_text(tmp_path / "marked") == VERSE * 30


def test_demo_without_a_traceback_in_a_process(tmp_path):
    process = start("demo", "--text", "missing", cwd=tmp_path, stderr=subprocess.PIPE)
    assert process.communicate(timeout=60) == ("", "fastrnn demo: missing: No such file or directory\n")
    assert process.returncode == 2


@pytest.mark.parametrize("arguments, message", [
    ([], "required: {info,check,demo}"),
    (["learn"], "invalid choice: 'learn'"),
    (["demo", "--steps", "0"], "argument --steps: expected a positive integer, got '0'"),
    (["demo", "--steps", "many"], "argument --steps: expected a positive integer, got 'many'"),
    (["demo", "--seed", "-1"], "argument --seed: expected an integer of at least 0, got '-1'"),
    (["info", "--text", "x"], "unrecognized arguments: --text x"),
])
def test_wrong_arguments_are_said(capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        program.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
