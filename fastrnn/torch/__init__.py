"""torch.nn's recurrent modules with fastrnn's kernels behind them, for models written in PyTorch.

`accelerate(model)` puts them in place of torch's in a whole model and `restore(model)` takes them out again; `explain`
says whether a call is fastrnn's or is left to torch. `import fastrnn` does not import this: torch stays optional.

Examples
--------
>>> import torch, fastrnn.torch
>>> model = torch.nn.LSTM(4, 8)
>>> fastrnn.torch.accelerate(model)
LSTM(4, 8)
>>> output, (h_n, c_n) = model(torch.zeros(10, 3, 4))
>>> output.sum().backward()
>>> fastrnn.torch.explain(model, torch.zeros(10, 3, 4))
'fastrnn'
"""

try:
    import torch as _torch  # noqa: F401
except ImportError:
    raise ImportError("fastrnn.torch: expected torch to be installed, got none: pip install torch") from None

from fastrnn.torch.modules import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell, explain
from fastrnn.torch.swap import accelerate, restore

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell", "accelerate", "explain", "restore"]
