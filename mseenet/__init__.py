"""MSEENet: classes of acute lymphoblastic leukaemia from peripheral blood smear images.

For research use only; not a medical device.
"""

from mseenet.config import CLASS_NAMES

__version__ = "0.3.0.dev0"
__all__ = ["CLASS_NAMES", "Classifier", "Prediction", "__version__", "version_text"]


def __getattr__(name: str):
    # Imported on first use: NumPy and Pillow cost a quarter of a second.
    if name in ("Classifier", "Prediction"):
        from mseenet.inference import classifier

        return getattr(classifier, name)
    if name == "version_text":
        from mseenet.version import version_text

        return version_text
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
