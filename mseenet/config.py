"""Class names in index order and the settings of the network and of its training."""

from dataclasses import dataclass

CLASS_NAMES = ("Benign", "Early Pre-B", "Pre-B", "Pro-B")
"""Class names in the order of the network's outputs; `label` is an index into this."""

IMAGE_SIZE = 224
"""Height and width of the network's input, in pixels."""

FEATURE_LAYER = "top_activation"
"""Last layer of the backbone; its output, (7, 7, 1280), is what the head reads."""

TARGET_LAYER = "inception_concat"
"""The inception module's concatenation, where heatmaps are computed."""


PHASES = ("head", "fine_tune")
"""Training phases in their order: fields of `TrainingConfig`."""


@dataclass(frozen=True)
class ModelConfig:
    """Widths of the inception module and the dropout rate in front of the classifier.

    The paper draws the module (Fig. 2) without saying how wide it is. These widths keep
    GoogLeNet's proportions (the 3x3 branch is the widest, 5x5 the narrowest) at a size
    that 2,200 training images can carry: 0.57 M parameters beside the backbone's 5.92 M.

    Attributes:
        filters_1x1: Filters of the 1x1 branch.
        reduce_3x3: Filters of the 1x1 reduction in front of the 3x3 convolution.
        filters_3x3: Filters of the 3x3 convolution.
        reduce_5x5: Filters of the 1x1 reduction in front of the 5x5 convolution.
        filters_5x5: Filters of the 5x5 convolution.
        filters_pool: Filters of the 1x1 projection behind the 3x3 max-pooling.
        dropout: Share of pooled features dropped in training, in [0, 1).
    """

    filters_1x1: int = 128
    reduce_3x3: int = 96
    filters_3x3: int = 128
    reduce_5x5: int = 32
    filters_5x5: int = 64
    filters_pool: int = 64
    dropout: float = 0.3


@dataclass(frozen=True)
class PhaseConfig:
    """One training phase: Adam, early stopping and learning-rate reduction on plateau.

    Attributes:
        epochs: Largest number of epochs.
        learning_rate: Adam's rate at the start.
        patience: Epochs without a lower validation loss before the phase ends.
        plateau_patience: Epochs without a lower validation loss before the rate drops.
        plateau_factor: What the rate is multiplied by when it drops.
        min_learning_rate: The rate never drops below this.
    """

    epochs: int
    learning_rate: float
    patience: int
    plateau_patience: int
    plateau_factor: float = 0.3
    min_learning_rate: float = 1e-6


@dataclass(frozen=True)
class TrainingConfig:
    """The paper's protocol: a frozen backbone first, then fine-tuning; no augmentation.

    The paper gives neither epochs, rates nor batch size; these were chosen on the
    validation split (docs/DECISIONS.md).

    Attributes:
        seed: Seeds initial weights, dropout and the order of the training images.
        batch_size: Images per gradient step.
        head: The phase with the frozen backbone.
        fine_tune: The phase that trains all layers but batch normalisation, whose
            statistics stay those of ImageNet: batches of 32 from one laboratory are
            a worse estimate, and training and inference then compute the same function.
    """

    seed: int = 0
    batch_size: int = 32
    head: PhaseConfig = PhaseConfig(epochs=30, learning_rate=1e-3, patience=8, plateau_patience=3)
    fine_tune: PhaseConfig = PhaseConfig(
        epochs=10, learning_rate=1e-4, patience=4, plateau_patience=2
    )
