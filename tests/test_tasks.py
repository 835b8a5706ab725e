"""bench.tasks: both models of a program do the same, what is measured is right, and what is said is complete."""

import importlib
import sys
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import fastrnn

ROOT = Path(__file__).parents[1]  # bench/ lies beside tests/ and is not installed
TASKS = {"digits": "Digits", "adding": "Adding", "characters": "Characters", "series": "Series",
         "generation": "Generation", "phonemes": "Phonemes"}
CASES = [(name, cell) for name in TASKS for cell in ("RNN", "LSTM", "GRU") if (name, cell) != ("generation", "LSTM")]
STEPS = 5


@pytest.fixture(scope="module")
def tasks():
    """The modules of bench.tasks, beside whichever fastrnn is under test."""
    import torch

    threads = fastrnn.get_num_threads(), torch.get_num_threads()
    sys.path.append(str(ROOT))
    names = [*TASKS, "curves", "needs", "program", "training"]
    yield SimpleNamespace(**{name: importlib.import_module(f"bench.tasks.{name}") for name in names})
    sys.path.remove(str(ROOT))
    fastrnn.set_num_threads(threads[0])
    torch.set_num_threads(threads[1])


@pytest.fixture(scope="module")
def made(tasks):
    """Every task, with its data."""
    return {name: getattr(getattr(tasks, name), cls)() for name, cls in TASKS.items()}


def pair(tasks, task, cell):
    return tasks.training.learners(task, cell, 24, np.random.default_rng(1))


def batches(task, count):
    return list(islice(task.batches(np.random.default_rng(2)), count))


@pytest.mark.parametrize("name, cell", CASES)
def test_losses_are_those_of_torch(tasks, made, name, cell):
    ours, twin = pair(tasks, made[name], cell)
    data = batches(made[name], STEPS)
    losses = np.array([[learner.step(*batch) for batch in data] for learner in (ours, twin)])
    np.testing.assert_allclose(losses[0, 0], losses[1, 0], rtol=1e-5)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    assert len(set(losses[0])) == STEPS


@pytest.mark.parametrize("name, cell", CASES)
def test_weights_after_a_step_are_those_of_torch(tasks, made, name, cell):
    ours, twin = pair(tasks, made[name], cell)
    before = [module.state_dict() for module in ours.predict.modules]
    for batch in batches(made[name], 2):  # the second goes on with the state of the first, where there is one
        ours.step(*batch)
        twin.step(*batch)
    for module, other, start in zip(ours.predict.modules, twin.model.children(), before, strict=True):
        for key, array in other.state_dict().items():
            moved = np.abs(module.params[key] - start[key])
            assert moved.max() > 0
            # Adam's first steps have one length whatever the gradient, so that tiny ones show how they were rounded.
            assert np.mean(np.abs(module.params[key] - array.numpy()) > 0.01 * moved.max()) < 0.01, key


@pytest.mark.parametrize("name, cell", CASES)
def test_scores_are_those_of_torch(tasks, made, name, cell):
    ours, twin = (made[name].score(learner.predict) for learner in pair(tasks, made[name], cell))
    assert ours == pytest.approx(twin, rel=5e-3)  # where symbols are chosen, rounding may choose another one


@pytest.mark.parametrize("name", TASKS)
def test_batches_depend_on_the_seed_alone(made, name):
    first, again = batches(made[name], 3), batches(made[name], 3)
    for one, other in zip(first, again, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0][0], first[1][0])


def test_digits_are_learned(tasks, capsys):
    tasks.program.main(tasks.digits.Digits, [])
    lines = capsys.readouterr().out.splitlines()
    line = next(line for line in lines if line.startswith("GRU     0"))
    ours, torch = map(float, line.split()[4:6])
    assert ours > 0.95 and torch > 0.95


def test_lstm_remembers_longer_than_an_rnn(tasks, monkeypatch):
    monkeypatch.setattr(tasks.adding, "LENGTH", 60)
    task, found = tasks.adding.Adding(), {}
    for cell in task.cells:
        ours, _ = tasks.training.learners(task, cell, 32, np.random.default_rng(0))
        for batch in batches(task, 1500):
            ours.step(*batch)
        found[cell] = task.score(ours.predict)
    assert found["LSTM"] < 0.01 < 0.1 < found["RNN"]
    assert task.score(lambda x: np.ones((x.shape[1], 1), np.float32)) == pytest.approx(1 / 6, rel=0.1)


def test_adding_marks_two_numbers_one_in_each_half(tasks):
    x, sums = tasks.adding.draw(np.random.default_rng(0), 200)
    half = len(x) // 2
    assert (x[:half, :, 1].sum(axis=0) == 1).all() and (x[half:, :, 1].sum(axis=0) == 1).all()
    assert set(np.unique(x[:, :, 1])) == {0, 1}
    for row in range(200):
        assert sums[row, 0] == pytest.approx(x[x[:, row, 1] == 1, row, 0].sum())


@pytest.mark.parametrize("written, right, expected", [
    ("", "", 0), ("abc", "abc", 0), ("", "abc", 3), ("abc", "", 3), ("abc", "abd", 1), ("abc", "bc", 1),
    ("bc", "abc", 1), ("kitten", "sitting", 3), ("abcd", "dcba", 4), ("ab", "ba", 2), ([1, 2, 3], [1, 3], 1),
])
def test_edit_distance(tasks, written, right, expected):
    assert tasks.phonemes.distance(written, right) == expected


def test_phoneme_error_rate_counts_errors_by_phonemes_and_not_by_words(tasks):
    assert tasks.phonemes.error_rate([[1, 2, 3], [5]], [[1, 2, 3], [4]]) == 0.25
    assert tasks.phonemes.error_rate([[], [9, 9]], [[1], [9]]) == 1.0


def test_score_of_phonemes_ends_at_the_end(tasks, made):
    task = made["phonemes"]
    right = fastrnn.pad_sequence([[task.codes[phoneme] for phoneme in phonemes] for _, phonemes in task.held_out])
    rubbish = np.concatenate([right, np.zeros_like(right[:1]), np.full_like(right[:2], 7)])  # behind an end
    assert task.score(lambda letters, lengths: rubbish) == 0
    assert task.score(lambda letters, lengths: np.zeros_like(right)) == 1


def test_words_are_what_the_dictionary_says(tasks):
    training, held_out, names = tasks.phonemes.read()
    found = dict(training + held_out)
    assert found["speech"] == ["S", "P", "IY", "CH"] and len(names) == 39
    assert all(word.isalpha() for word in found)


def test_decoder_reads_the_end_first_and_writes_it_last(tasks, made):
    task = made["phonemes"]
    letters, lengths, before, phonemes, counts = batches(task, 1)[0]
    assert letters.shape == (lengths.max(), len(lengths)) and before.shape == phonemes.shape
    assert (before[0] == tasks.phonemes.END).all()
    for row, count in enumerate(counts):
        assert phonemes[count - 1, row] == tasks.phonemes.END
        assert (phonemes[count:, row] == tasks.phonemes.NOTHING).all()
        np.testing.assert_array_equal(before[1:count, row], phonemes[: count - 1, row])


def test_words_held_out_are_not_trained_on(tasks):
    training, held_out, _ = tasks.phonemes.read()
    assert len(held_out) == tasks.phonemes.HELD_OUT
    assert not {word for word, _ in held_out} & {word for word, _ in training}


def test_digits_held_out_are_not_trained_on(tasks):
    (images, labels), (held_out, held_out_labels) = tasks.digits.read()
    assert len(images) == len(labels) and len(held_out) == len(held_out_labels) == tasks.digits.HELD_OUT
    assert len(images) + len(held_out) == 1797
    assert not {image.tobytes() for image in held_out} & {image.tobytes() for image in images}


def test_years_held_out_are_not_trained_on(tasks, made):
    task, end = made["series"], tasks.series.TRAINING
    seen = np.concatenate([np.concatenate([x.ravel(), y.ravel()]) for x, y, _ in batches(task, 50)])
    later = np.setdiff1d(task.values[end:], task.values[:end])
    assert len(later) > 50 and not np.isin(later, seen).any()
    assert task.values[:end].mean() == pytest.approx(0, abs=1e-5)


def test_text_held_out_is_not_trained_on(tasks, made):
    task, text = made["characters"], tasks.characters.demo.read_text()
    assert len(task.held_out) == 20_000 and len(task.training) + len(task.held_out) == len(text)
    stream = np.concatenate([x[:, 0].argmax(axis=1) for x, _, _ in batches(task, 3)])
    assert stream.tolist() == task.training[: len(stream)].tolist()


def test_persistence_is_the_error_of_repeating_the_last_year(tasks, made):
    task, end = made["series"], tasks.series.TRAINING
    spots = task.values[:, 0, 0] * task.deviation + task.mean
    assert spots[[0, 1, -1]] == pytest.approx([5.0, 11.0, 2.9], abs=1e-4)  # 1700, 1701, 2008
    assert task.baseline[1] == pytest.approx(np.mean(np.diff(spots)[end - 1:] ** 2) ** 0.5, rel=1e-5)
    assert task.score(lambda values: task.values[1:]) == 0


def test_images_are_drawn_by_the_chances(tasks):
    model = tasks.generation.Ours("GRU", 8, np.random.default_rng(0))
    labels = np.eye(10, dtype=np.float32)
    assert (model(labels, np.zeros((8, 10, 8), np.float32)) == 0).all()
    assert (model(labels, np.ones((8, 10, 8), np.float32)) == tasks.generation.BLACK).all()
    drawn = model(labels.repeat(500, axis=0), np.random.default_rng(0).random((8, 5000, 8), np.float32))
    p = fastrnn.softmax(model.head(model.rnn(np.zeros((1, 10, 8), np.float32), model.start(labels)[None])[0][0])
                        .reshape(10, 8, tasks.generation.SHADES))
    expected = (p * np.arange(tasks.generation.SHADES)).sum(axis=2)
    np.testing.assert_allclose(drawn[0].reshape(10, 500, 8).mean(axis=1), expected, atol=1.0)


def test_images_asked_for_and_written_are_told_from_others(made):
    task = made["generation"]
    digits = {digit: task.images[np.flatnonzero(task.labels[:, digit])[0]] for digit in range(10)}
    right = np.stack([digits[digit] for digit in task.asked], axis=1)
    assert task.score(lambda labels, chances: right) == 1
    assert task.score(lambda labels, chances: np.roll(right, 1, axis=1)) < 0.2


def test_program_prints_both_ends_and_draws(tasks, capsys, tmp_path):
    picture = tmp_path / "curves.png"
    tasks.program.main(tasks.series.Series, ["--steps", "20", "--seeds", "2", "--hidden", "4", "--cell", "RNN", "GRU",
                                             "--threads", "1", "--plot", str(picture)])
    shown, errors = capsys.readouterr()
    assert errors == ""  # no progress bar where there is no terminal
    lines = shown.splitlines()
    reports = [line for line in lines if " step " in line]
    assert len(reports) == 2 * 2 * 2 * 10
    table = [line.split() for line in lines if line[:3] in ("RNN", "GRU") and ":" not in line]
    assert [line[:2] for line in table] == [["RNN", "0"], ["RNN", "1"], ["GRU", "0"], ["GRU", "1"]]
    for cell, seed, loss, loss_torch, score, score_torch, *_ in table:
        for framework, ends in (("fastrnn", (loss, score)), ("torch", (loss_torch, score_torch))):
            last = [line.split() for line in reports if line.split()[:4] == [framework, cell, "seed", seed]][-1]
            assert (last[5], last[7], last[9]) == ("20", *ends)
    assert "RNN: RMSE: fastrnn" in shown and "GRU: RMSE: fastrnn" in shown and "within the spread" in shown
    assert "persistence: RMSE 30.4360" in shown and "seconds, 1 thread\n" in shown
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_difference_is_held_against_the_spread(tasks):
    def runs(ours, theirs):
        return [(tasks.training.Run("fastrnn", "GRU", seed, [0.0], [(1, a)]),
                 tasks.training.Run("torch", "GRU", seed, [0.0], [(1, b)]))
                for seed, (a, b) in enumerate(zip(ours, theirs, strict=True))]

    assert tasks.curves.compared("error", runs([1.0, 2.0, 3.0], [2.0, 3.0, 4.0])) == (
        "error: fastrnn 1.0000 to 3.0000, torch 2.0000 to 4.0000; means 1.0000 apart, torch's seeds 2.0000: "
        "within the spread")
    assert tasks.curves.compared("error", runs([4.0, 5.0], [1.0, 2.0])).endswith("outside the spread")
    assert "spread" not in tasks.curves.compared("error", runs([4.0], [1.0]))


def test_few_steps_are_all_reported(tasks, made, capsys):
    ours, _ = pair(tasks, made["series"], "RNN")
    run = tasks.training.Run("fastrnn", "RNN", 0)
    tasks.training.train(made["series"], ours, run, made["series"].batches(np.random.default_rng(0)), 3)
    assert [step for step, _ in run.scores] == [1, 2, 3] and len(run.losses) == 3 and run.seconds > 0
    assert run.loss == run.losses[-1] and run.score == run.scores[-1][1]


def test_missing_package_is_said_in_a_line(tasks):
    message = r"^nowhere: not installed; pip install -e '\.\[tasks\]'$"
    with pytest.raises(SystemExit, match=message), tasks.needs.extra():
        import nowhere  # noqa: F401


@pytest.mark.parametrize("arguments, message", [
    (["--seeds", "0"], "expected a positive integer, got '0'"),
    (["--cell", "LSTM"], "invalid choice: 'LSTM'"),
    (["--plot", "nowhere/curves.png"], "--plot: expected a file in a folder that is there, got 'nowhere/curves.png'"),
    (["--plot", "curves.doc"], "--plot: expected a name that ends in one of "),
])
def test_wrong_arguments_are_said(tasks, capsys, arguments, message):
    with pytest.raises(SystemExit):
        tasks.program.main(tasks.generation.Generation, arguments)
    assert message in capsys.readouterr().err
