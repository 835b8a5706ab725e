"""python -m bench: means, comparison with an earlier run, and pictures. Nothing about speed."""

import importlib

import numpy as np
import pytest
from helpers import rows


def test_means_and_the_cases_that_a_peer_is_faster_in(bench, gathered):
    case = bench.case.Case("RNN", "inference", 5, 1, 2, 10)
    other, third = (bench.case.Case("LSTM", task, 5, 1, 2, 10) for task in bench.case.TASKS)
    found = gathered({
        case: {("fastrnn", 2): [10], ("torch", 1): [60], ("torch", 2): [40], ("jax", None): [90]},
        other: {("fastrnn", 1): [1], ("fastrnn", 2): [20], ("torch", 2): [18], ("jax", None): [10]},
        third: {("fastrnn", 2): [10], ("torch", 2): [20]},
    })
    assert [line["best_over_ours"] for line in found["cases"]] == [4, 0.5, 2]
    assert found["best_over_ours"] == pytest.approx({"all": 4 ** (1 / 3), "inference": 2**0.5, "training": 2})
    told = bench.report.table(found).splitlines()[-4:]
    assert told == ["best / ours, geometric means of 3 cases: all 1.59, inference 1.41, training 2.00",
                    "slower than a peer: 1 of 3 cases",
                    f"{other.name}: jax took 10.0 us, fastrnn 20.0", f"{other.name}: torch took 18.0 us, fastrnn 20.0"]
    assert f"{other.name}: one thread took 1.00 us, up to 2 took 20.0" in bench.report.table(found)


STEADY, NOISY = [100, 101, 99, 100, 102, 98, 100], [100, 140, 90, 115, 160, 85, 105]


@pytest.mark.parametrize("before, now, torch, verdict, pace", [
    (STEADY, STEADY, STEADY, "same", 1.0),
    (STEADY, [us * 1.04 for us in STEADY], STEADY, "same", 1.0),  # less than another start of the same program
    (STEADY, [us * 1.2 for us in STEADY], STEADY, "slower", 1.0),
    (STEADY, [us / 1.2 for us in STEADY], STEADY, "faster", 1.0),
    (NOISY, [us * 1.2 for us in NOISY], STEADY, "same", 1.0),  # within what each run saw
    (NOISY, [us * 3 for us in NOISY], STEADY, "slower", 1.0),
    (STEADY, [*STEADY[:-1], 500], STEADY, "same", 1.0),  # one round that something came between
    (STEADY, [us * 2 for us in STEADY], [us * 2 for us in STEADY], "same", 2.0),  # a machine of half the pace
    (STEADY, STEADY, [us * 2 for us in STEADY], "faster", 2.0),
])
def test_change_is_told_from_noise_and_from_the_pace_of_the_machine(bench, gathered, before, now, torch, verdict, pace):
    case = bench.case.Case("RNN", "inference", 5, 1, 2, 10)
    old = gathered({case: {("fastrnn", 1): [1.0] * 7, ("fastrnn", 2): before, ("torch", 2): STEADY}})
    new = gathered({case: {("fastrnn", 1): [9.0] * 7, ("fastrnn", 2): now, ("torch", 2): torch}})
    found, = bench.compare.changes(old, new)
    assert (found.name, found.verdict) == (case.name, verdict)
    assert found.pace == pytest.approx(pace)
    assert found.times == pytest.approx(np.median(now) / np.median(before) / pace, rel=0.01)
    line = rows(bench.compare.table(old, new))[1]
    assert line[0] == case.name and line[-1] == verdict
    assert f"1 {verdict}" in bench.compare.table(old, new).splitlines()[-1]


def test_peers_that_disagree_about_the_pace_are_noise(bench, gathered):
    case = bench.case.Case("RNN", "inference", 5, 1, 2, 10)
    old = {("fastrnn", 2): STEADY, ("torch", 1): STEADY, ("torch", 2): STEADY, ("jax", None): STEADY}
    paces = {("fastrnn", 2): 1.3, ("torch", 1): 0.8, ("torch", 2): 1.0, ("jax", None): 1.2}
    new = {key: [paces[key] * us for us in taken] for key, taken in old.items()}
    found, = bench.compare.changes(gathered({case: old}), gathered({case: new}))
    assert found.pace == pytest.approx(1) and found.times == pytest.approx(1.3)
    assert found.noise > 1.5 * 0.2 and found.verdict == "same"  # from 0.9 to 1.1 between the quartiles


def test_only_peers_of_the_same_version_tell_the_pace(bench, gathered):
    case, gone = (bench.case.Case("RNN", "inference", T, 1, 2, 10) for T in (5, 6))
    twice = [2 * us for us in STEADY]
    old = gathered({case: {("fastrnn", 2): STEADY, ("torch", 2): STEADY}, gone: {("fastrnn", 2): STEADY}})
    new = gathered({case: {("fastrnn", 2): twice, ("torch", 2): twice}}, torch="3")
    found, = bench.compare.changes(old, new)
    assert found.pace is None and found.verdict == "slower" and found.times == pytest.approx(2)
    assert bench.compare.table(gathered({gone: {("fastrnn", 2): STEADY}}), new).startswith("nothing to compare")


def test_pictures_have_a_mark_for_each_case(bench, gathered, tmp_path):
    pytest.importorskip("matplotlib")
    plot = importlib.import_module("bench.plot")
    samples = {("fastrnn", 2): [10.0], ("torch", 2): [20.0]}
    found = gathered({case: samples for case in bench.cases.CASES})
    _, panels = plot.marks(found["cases"], "of_floor")
    for panel, task in zip(panels, bench.case.TASKS, strict=True):
        drawn = [mark for marks in panel.collections for mark in marks.get_offsets()]
        assert len(drawn) == sum(case.task == task for case in bench.cases.CASES)
    names = [text.get_text() for text in panels[0].get_yticklabels()]
    assert names[1] == "T1 B1 I64 H64, a cell" and names[-1] == "g2p_en: T1 B1 I256 H256, a cell"
    plot.draw(found, tmp_path)
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in ("ratios.png", "floor.png"))
    (tmp_path / "less").mkdir()
    plot.draw(gathered({bench.cases.CASES[0]: samples}, limits=None), tmp_path / "less")
    assert [path.name for path in (tmp_path / "less").iterdir()] == ["ratios.png"]
