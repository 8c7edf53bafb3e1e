"""Why an image cannot be used, each reason a class. Messages are for the person who chose it."""

from mseenet.errors import MSEENetError


class ImageError(MSEENetError):
    """This image cannot be used; the message says why, for the person who chose it."""


class UnreadableFileError(ImageError):
    """The file does not exist, is a folder, or may not be read."""


class NotAnImageError(ImageError):
    """The content is not an image in an accepted format, or its pixels have no clear meaning."""


class UnclearPixelsError(NotAnImageError):
    """A sound image whose colours cannot be known without a guess; says what to save instead."""


class OwnOverlayError(NotAnImageError):
    """A picture that this project made: a field under a heatmap, which is no field."""


class EmptyImageError(ImageError):
    """There is no content at all."""


class TruncatedImageError(ImageError):
    """The image begins well, but its data ends early or is damaged."""


class ImageTooLargeError(ImageError):
    """The image has more than `MAX_PIXELS` pixels, or is cut into too many pieces."""


class AnimatedImageError(ImageError):
    """The file holds several frames or pages, and which one is meant is not known."""
