"""Builds the kernels, one source, once for each instruction set and dtype; their threads; torch's short way in."""

import os
import sysconfig
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist

KERNELS = Path("fastrnn/kernels")

# FASTRNN_CHECKED=1 builds kernels that check every memoryview index, for the tests; in a folder of its own,
# so that neither kind of build ever picks up the other's objects.
CHECKED = os.environ.get("FASTRNN_CHECKED", "0") not in ("", "0")

# FASTRNN_SANITIZE=address,undefined or =thread builds with GCC's sanitizers, likewise in a folder of its own. The tests
# then run with their library loaded first, in a copy of the sources where nothing else has been built:
#   FASTRNN_SANITIZE=address,undefined python setup.py build_ext --inplace
#   LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" PYTHONMALLOC=malloc \
#     ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=halt_on_error=1 python -m pytest -n 0 tests
# With :quarantine_size_mb=1:thread_local_quarantine_size_kb=16 besides for tests/test_memory.py, which watches the
# resident size: memory that was freed is kept otherwise.
SANITIZE = os.environ.get("FASTRNN_SANITIZE", "")

# FASTRNN_THREADS=0 builds kernels that start no threads, likewise.
THREADS = os.environ.get("FASTRNN_THREADS", "1") not in ("", "0")
BUILD = Path("build", *["checked"] * CHECKED, *[f"sanitized-{SANITIZE}"] * bool(SANITIZE), *["alone"] * (not THREADS))
SHIMS = BUILD / "shims"
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": CHECKED,
    "wraparound": CHECKED,
    "initializedcheck": CHECKED,
    "cdivision": True,
    "freethreading_compatible": True,  # no state of the modules changes but the pool's, which one call has at a time
}

# What is built for: not always the machine that builds. "linux-aarch64", say, or "macosx-11.0-arm64".
MACHINE = sysconfig.get_platform().rpartition("-")[2].lower()

# Build: flags, bytes of a vector, vectors that a tile may sum in (12 of 16 registers, 24 of 32).
BUILDS = {"generic": ([], 16, 12)}
if MACHINE in ("x86_64", "amd64"):
    BUILDS |= {
        "v2": (["-march=x86-64-v2"], 16, 12),
        "v3": (["-march=x86-64-v3"], 32, 12),
        "v4": (["-march=x86-64-v4", "-mprefer-vector-width=512"], 64, 24),
    }
elif MACHINE in ("aarch64", "arm64", "universal2"):  # the last is macOS for either processor, of which ARM is the newer
    BUILDS = {"generic": ([], 16, 24)}
DTYPES = {"float32": "float", "float64": "double"}

# Tiles are inline functions whose sizes are constants at each call: inlined, their sums stay in registers.
# No -ffast-math: it would assume NaN away and switch the whole process to flush-to-zero.
FLAGS = ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fwrapv", "-Wno-psabi"]
INLINE = ("CYTHON_INLINE", "inline __attribute__((always_inline))")
# Pointers to what a cell does not have are NULL, and moved along with the others without being read.
SANITIZER = [f"-fsanitize={SANITIZE}", "-fno-sanitize=pointer-overflow", "-fno-wrapv", "-O1", "-g",
             "-fno-omit-frame-pointer"] if SANITIZE else []


def kernel_extensions():
    """One extension for each build and dtype; its source is a line that includes the kernels."""
    SHIMS.mkdir(parents=True, exist_ok=True)
    for build, (flags, vector_bytes, tile_vectors) in BUILDS.items():
        for dtype, c_type in DTYPES.items():
            shim = SHIMS / f"{build}_{dtype}.pyx"
            text = 'include "engine.pxi"\n'
            if not shim.exists() or shim.read_text() != text:
                shim.write_text(text)
            yield Extension(
                f"fastrnn.kernels.{build}_{dtype}",
                [str(shim)],
                include_dirs=[str(KERNELS), numpy.get_include()],
                define_macros=[
                    INLINE, ("REAL", c_type), ("VECTOR_BYTES", vector_bytes), ("TILE_VECTORS", tile_vectors),
                    ("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION"),
                ],
                extra_compile_args=FLAGS + flags + SANITIZER,
                extra_link_args=SANITIZER,
                depends=[str(path) for path in KERNELS.iterdir() if path.suffix in (".pxi", ".pxd", ".h")],
            )


class ParallelBuild(build_ext):
    """Compiles the extensions side by side."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()


class Sources(sdist):
    """With all that a clone has, the kernels' included files, tests and benchmark too."""

    def make_distribution(self):
        self.filelist.append("CHANGELOG.md")
        for folder in ("bench", "fastrnn", "tests"):
            self.filelist.graft(folder)
        for built in ("*.py[co]", "*.so"):
            self.filelist.global_exclude(built)
        super().make_distribution()


setup(
    ext_modules=cythonize(
        [
            Extension(
                "fastrnn.kernels.pool", [str(KERNELS / "pool.pyx")], include_dirs=[str(KERNELS)],
                define_macros=[("_GNU_SOURCE", None), ("FASTRNN_THREADS", int(THREADS))],
                extra_compile_args=["-O2", "-g0", "-pthread", *SANITIZER], extra_link_args=["-pthread", *SANITIZER],
            ),
            *kernel_extensions(),
            Extension("fastrnn.torch.plans", ["fastrnn/torch/plans.pyx"], extra_compile_args=["-O2", "-g0", *SANITIZER],
                      extra_link_args=SANITIZER),
        ],
        include_path=[str(KERNELS), "."],
        compiler_directives=DIRECTIVES,
        build_dir=str(BUILD / "cython"),
    ),
    cmdclass={"build_ext": ParallelBuild, "sdist": Sources},
    options={"build": {"build_base": str(BUILD)}},
)
