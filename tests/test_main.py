"""python -m fastrnn."""

import numpy as np

import fastrnn
from fastrnn import __main__ as program
from fastrnn import kernels, reference


def test_info_names_what_is_in_use(capsys):
    assert program.main(["info"]) == 0
    shown = capsys.readouterr().out
    assert f"fastrnn {fastrnn.__version__}" in shown and f"build   {kernels.build}: {kernels.reason}" in shown
    assert np.__version__ in shown


def test_check_passes_and_fails(capsys, monkeypatch):
    assert program.main(["check"]) == 0
    assert capsys.readouterr().out.count(" ok\n") == 2 * len(kernels.runnable())
    right = reference.rnn_stack_backward

    def wrong(*arguments):
        d_x, d_h, d_params = right(*arguments)
        return d_x * 1.01, d_h, d_params

    monkeypatch.setattr(reference, "rnn_stack_backward", wrong)
    assert program.main(["check"]) == 1
    assert "FAILED" in capsys.readouterr().out
