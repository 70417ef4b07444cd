"""x"""

from bench.figures import Row


def write(results: Row) -> None:
    """y"""
