"""python -m bench: what the processor can do at most, and the floor that follows from it. Nothing about speed."""

import json
from shutil import which

import pytest
from helpers import rows


@pytest.mark.parametrize("size, threads, gb_s", [
    (1000, 1, 10), (1001, 1, 5), (2000, 2, 20), (2001, 2, 10), (4000, 2, 10), (4001, 2, 4), (8000, 4, 20), (8001, 4, 8),
])
def test_weights_are_read_from_the_caches_of_all_threads_together(limits, size, threads, gb_s):
    assert limits.bytes_per_second(size, threads) == 1e9 * gb_s


def test_floor_of_one_row_is_reading_counted_by_hand(bench, limits):
    # An RNN of 2 inputs and 10 units: W_ih 80 bytes, W_hh 400, which all fit in a cache that is read at 10 GB/s.
    case = bench.case.Case("RNN", "inference", 5, 1, 2, 10)
    product = 2 * 5 * 20 / 8e9  # of the input, at the peak: its flops take longer than reading W_ih once
    assert bench.floor.floor(case, limits, 1) == pytest.approx(product + 5 * 400 / 10e9)
    assert bench.floor.floor(case, limits, 2) == pytest.approx((product + 5 * 400 / 10e9) / 2)
    training = bench.case.Case("RNN", "training", 5, 1, 2, 10)
    gradients = 2 * 5 * (20 + 100) / 8e9  # of both weights, at the peak
    assert bench.floor.floor(training, limits, 1) == pytest.approx(2 * (product + 5 * 400 / 10e9) + gradients)


def test_floor_of_many_rows_is_the_peak(bench, limits):
    for task in bench.case.TASKS:
        case = bench.case.Case("GRU", task, 5, 1000, 2, 10, 2, True)
        assert bench.floor.floor(case, limits, 2) == pytest.approx(case.flops / 16e9)


def test_floor_reads_all_weights_from_further_off_than_those_of_a_step(bench, limits):
    # In each direction W_ih has 400 bytes in the first layer, 800 in the second, W_hh 400 in both: 4000 in all, which
    # only the second cache holds. The first step reads from there, the next two read one W_hh at a time from the first.
    case = bench.case.Case("RNN", "inference", 3, 1, 10, 10, 2, True)
    assert bench.floor.floor(case, limits, 1) == pytest.approx(4000 / 5e9 + 2 * 4 * 400 / 10e9)


def test_limits_have_a_level_for_each_cache_and_the_memory(bench):
    if not bench.limits.CACHES.is_dir() or not which("cc"):
        pytest.skip("needs a compiler, and the sizes of caches")
    found = bench.limits.measure_limits()
    *caches, memory = found.levels
    assert memory.name == "memory" and memory.bytes is None and found.gflops > 0
    assert [level.name for level in caches] == [f"L{k}" for k in range(1, len(caches) + 1)]
    assert [level.bytes for level in caches] == sorted(level.bytes for level in caches)
    assert all(level.shared >= 1 and level.gb_s > 0 for level in found.levels)


def test_sizes_of_caches_are_read(bench, monkeypatch, tmp_path):
    told = [(1, "Data", "32K", "00000001"), (1, "Instruction", "64K", "00000001"),
            (3, "Unified", "32M", "00000003,0000000f"), (2, "Unified", "512K", "00000003")]
    for index, values in enumerate(told):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        for name, value in zip(("level", "type", "size", "shared_cpu_map"), values, strict=True):
            (folder / name).write_text(f"{value}\n")
    monkeypatch.setattr(bench.limits, "CACHES", tmp_path)
    assert bench.limits.caches() == [("L1", 2**15, 1), ("L2", 2**19, 2), ("L3", 2**25, 6)]
    assert bench.limits.buffer_size(2**15, None) == 3 * 2**13
    assert bench.limits.buffer_size(2**19, 2**15) == 2**17 and bench.limits.buffer_size(2**16, 2**15) == 3 * 2**14
    assert bench.limits.buffer_size(None, 2**25) == 2**27
    monkeypatch.setattr(bench.limits, "CACHES", tmp_path / "index4")
    with pytest.raises(bench.limits.NotMeasured, match="sizes of the caches are not known"):
        bench.limits.caches()


@pytest.mark.parametrize("compiler, message", [
    ("no-such-compiler -x", "no C compiler: no-such-compiler: No such file"),
    ("false", "false does not compile limits.c"),
])
def test_without_a_compiler_there_is_no_floor(bench, monkeypatch, capsys, tmp_path, compiler, message):
    monkeypatch.setenv("CC", compiler)
    path = tmp_path / "found.json"
    bench.__main__.main(["--quick", "--filter", "Precise", "--peers", "numpy", "--json", str(path)])
    shown = capsys.readouterr().out
    assert f"of floor: not known, {message}" in shown
    head, line = rows(shown)
    assert line[head.index("of floor")] == "-"
    found = json.loads(path.read_text("utf-8"))
    assert found["limits"] is None and found["cases"][0]["of_floor"] is None
