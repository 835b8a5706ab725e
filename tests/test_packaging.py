"""What an installation says of itself."""

from importlib import metadata, resources

import fastrnn


def test_one_version():
    assert metadata.version("fastrnn") == fastrnn.__version__


def test_numpy_is_all_that_is_needed():
    needed = [line for line in metadata.requires("fastrnn") if "extra ==" not in line]
    assert [line.partition(">")[0] for line in needed] == ["numpy"]


def test_annotations_are_installed():
    assert (resources.files("fastrnn") / "py.typed").is_file()
