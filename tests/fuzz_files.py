"""A fuzzer of `fastrnn.load`; not one of the tests, since it ends when it is told to.

    pip install atheris && python tests/fuzz_files.py npz -max_total_time=300
    python tests/fuzz_files.py safetensors -max_total_time=300

What follows the format goes to libFuzzer. Mutations start from small files that `save` wrote. Whatever loading does but
give modules or raise a ValueError that names the file is a finding: the fuzzer stops and keeps the input. Memory is
limited, so that what a file makes it take in excess is a MemoryError.
"""

import resource
import sys
import tempfile
import warnings
from pathlib import Path

import atheris
import numpy as np

with atheris.instrument_imports(include=["fastrnn.files", "fastrnn.parameters", "json", "zipfile"]):
    import json  # noqa: F401
    import zipfile

    import fastrnn

MEMORY = 2**30  # bytes, above what the process has at the start
MODELS = {
    "cell": fastrnn.RNNCell(1, 1, rng=0),
    "layer": fastrnn.LSTM(1, 2, 2, bias=False, proj_size=1, bidirectional=True, dropout=0.5, peephole=True, rng=0),
    "model": {"encoder": fastrnn.GRU(1, 1, reset_after=False, rng=0), "head": fastrnn.Linear(1, 1, dtype="float64")},
    "empty": {},
}


def main(suffix, arguments):
    folder = Path(tempfile.mkdtemp())
    corpus = folder / "corpus"
    corpus.mkdir()
    for name, model in MODELS.items():
        fastrnn.save(corpus / f"{name}{suffix}", model)
    path = folder / f"input{suffix}"
    zipfile.ZipExtFile._update_crc = lambda *_: None  # a mutation of an array would not get past its checksum

    def load(data):
        path.write_bytes(data)
        try:
            loaded = fastrnn.load(path)
        except ValueError as error:
            if not str(error).startswith(str(path)):
                raise
        else:
            for module in loaded.values() if isinstance(loaded, dict) else [loaded]:
                assert np.isfinite(module.params.flat).all()

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    atheris.Setup([sys.argv[0], "-max_len=4096", *arguments, str(corpus)], load)
    atheris.Fuzz()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(f".{sys.argv[1]}", sys.argv[2:])
