"""Where the files lie that come with the package: weights, and the page's script.

A checkout keeps them beside the package, a wheel carries them inside it.
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def weights_folder() -> Path:
    """The folder of the weights that come with the project."""
    return _shipped("weights")


def page_script() -> Path:
    """`app.py`, beside the folder `.streamlit` with the page's configuration."""
    return _shipped("page") / "app.py" if (PACKAGE / "page").is_dir() else PACKAGE.parent / "app.py"


def checkout() -> Path | None:
    """The folder of the checkout that this package lies in, or None for an installed package."""
    root = PACKAGE.parent
    files = (root / "pyproject.toml", root / "tools" / "benchmark.py")
    return root if all(file.is_file() for file in files) else None


def _shipped(name: str) -> Path:
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name
