"""What the programs need besides fastrnn: the packages of an extra, of most of them the one called tasks."""

from contextlib import contextmanager

__all__ = ["extra"]


@contextmanager
def extra(name="tasks"):
    """Where a package imported inside is missing, end the program with a line that says what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise SystemExit(f"{error.name}: not installed; pip install -e '.[{name}]'") from None
