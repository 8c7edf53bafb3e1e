"""Where the files lie that come with the package: weights, and the page's script.

A checkout keeps them beside the package, a wheel carries them inside it.
"""

from pathlib import Path

from mseenet.errors import UsageError

PACKAGE = Path(__file__).resolve().parent


def weights_folder() -> Path:
    """The folder of the weights that come with the project."""
    return _shipped("weights")


def weights_to_write(option: str) -> Path:
    """The folder that commands write to unless told otherwise: `weights` of a checkout.

    Args:
        option: What names another folder, such as "--out".

    Raises:
        UsageError: The package is installed; what was installed with it is not replaced.
    """
    root = checkout()
    if root is None:
        raise UsageError(
            f"expected {option} DIR: the weights that were installed with the package stay as they are"
        )
    return root / "weights"


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
