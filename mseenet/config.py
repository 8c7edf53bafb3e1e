"""Class names in index order and the settings of the network and of its training."""

from dataclasses import dataclass

CLASS_NAMES = ("Benign", "Early Pre-B", "Pre-B", "Pro-B")
"""Class names in the order of the network's outputs; `label` is an index into this."""

BENIGN = CLASS_NAMES.index("Benign")
"""The other classes are malignant."""

LABELS_TABLE = "labels.csv"
"""Name of a table in a folder of labelled fields, with the columns file, class and slide."""

IMAGE_SIZE = 224
"""Height and width of the network's input, in pixels."""

FIELD_BYTES = IMAGE_SIZE * IMAGE_SIZE * 3
"""Of one field's pixels as the network reads them, uint8 RGB."""

SCALE_BAR_CORNER = 37
"""Side of the bottom-right corner that holds the dataset's burned-in scale bars, in pixels of
a field of `IMAGE_SIZE`; of a field of another size, the same proportion of each side."""

FEATURE_LAYER = "top_activation"
"""Last layer of the backbone; its output, (7, 7, 1280), is what the head reads."""

TARGET_LAYER = "inception_concat"
"""The inception module's concatenation, where heatmaps are computed."""

FROZEN_LAYER = "block4c_add"
"""Where the backbone is cut for the robust recipe; its output is (14, 14, 96)."""


RECIPES = ("paper", "robust", "cells")
"""Ways to train: `TrainingConfig`, `RobustConfig` and `CellsConfig`."""


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
        dropout: Proportion of pooled features dropped in training, in [0, 1).
        blank_corner: Whether the corner with the scale bar is blanked inside the graph.
    """

    filters_1x1: int = 128
    reduce_3x3: int = 96
    filters_3x3: int = 128
    reduce_5x5: int = 32
    filters_5x5: int = 64
    filters_pool: int = 64
    dropout: float = 0.3
    blank_corner: bool = False


@dataclass(frozen=True)
class PhaseConfig:
    """One training phase.

    Attributes:
        epochs: Largest number of epochs.
        learning_rate: The rate at the start; the largest one (within 2 %) if `cosine`.
        patience: Epochs without a lower validation loss before the phase ends.
        plateau_patience: Epochs without a lower validation loss before the rate drops.
        plateau_factor: What the rate is multiplied by when it drops.
        min_learning_rate: The rate never drops below this.
        cosine: Instead of the four above: the rate rises over the first tenth of all
            steps, then falls as a cosine to `min_learning_rate`; all epochs are run and
            the last one is kept, so that nothing is chosen on a validation split.
        weight_decay: Of AdamW; 0 is plain Adam.
    """

    epochs: int
    learning_rate: float
    patience: int = 0
    plateau_patience: int = 0
    plateau_factor: float = 0.3
    min_learning_rate: float = 1e-6
    cosine: bool = False
    weight_decay: float = 0.0


@dataclass(frozen=True)
class TrainingConfig:
    """The paper's protocol: a frozen backbone first, then fine-tuning; no augmentation.

    The paper gives neither epochs, rates nor batch size; these were chosen on the
    validation split (docs/explanation/decisions.md).

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


@dataclass(frozen=True)
class RobustConfig:
    """The robust recipe: augmented images, frozen lower blocks, fine-tuned upper ones.

    Fine-tuning all layers makes the network forget what helps on an unseen slide;
    training only a head leaves it at the mercy of the light. The layers up to
    `FROZEN_LAYER` therefore stay as ImageNet left them, and those above are trained on
    augmented images. The output of the frozen blocks is computed once for several augmented copies
    of each image, which halves the cost of an epoch.

    Attributes:
        seed: Seeds initial weights, augmentation, dropout and order.
        batch_size: Images per gradient step.
        copies: Augmented copies of each training image.
        unchanged: Proportion of training images that are taken without augmentation.
        mixed: Proportion of training images whose frozen features get some of the style
            (mean and deviation of each channel) of another image.
        head: A phase with all blocks frozen; left out unless asked for, as it did not help.
        fine_tune: The phase that trains all layers above the frozen blocks but batch normalisation,
            whose statistics stay those of ImageNet.
    """

    seed: int = 0
    batch_size: int = 32
    copies: int = 6
    unchanged: float = 0.3
    mixed: float = 0.5
    head: PhaseConfig = PhaseConfig(epochs=0, learning_rate=1e-3, cosine=True, weight_decay=0.01)
    fine_tune: PhaseConfig = PhaseConfig(
        epochs=10, learning_rate=3e-4, cosine=True, weight_decay=0.01
    )


@dataclass(frozen=True)
class CellsConfig(RobustConfig):
    """The recipe `cells`: the robust one, and nothing but cells tells the class.

    Training images also show a field's nucleated cells on the background of a donor, a field
    of another class, or a field without its cells (`mseenet.training.donors`). Each drawn
    image is of one kind; what the proportions below leave is augmented only. How it was found:
    docs/explanation/experiments.md.

    Attributes:
        donated: Copies of each training image with its cells in place on a donor's
            background, as many with its cells scattered, and half as many, at least one,
            without cells; all augmented.
        unchanged: Proportion of drawn images without augmentation.
        transplanted: Proportion of drawn images whose cells lie on a donor's background.
        scattered: Proportion of drawn images whose cells lie at random places of a donor's.
        emptied: Proportion of drawn images without nucleated cells, whose target is that all
            classes are equally probable.
        balance: How much the series of a class are drawn alike: 0 draws all fields of a class
            alike, 1 all its series alike. Classes are drawn equally often.
    """

    copies: int = 4
    unchanged: float = 0.1
    fine_tune: PhaseConfig = PhaseConfig(
        epochs=14, learning_rate=3e-4, cosine=True, weight_decay=0.01
    )
    donated: int = 5
    transplanted: float = 0.35
    scattered: float = 0.25
    emptied: float = 0.15
    balance: float = 0.75


def recipe_name(config: TrainingConfig | RobustConfig) -> str:
    """Which of `RECIPES` has these settings, for the card."""
    if isinstance(config, CellsConfig):
        return "cells"
    return "robust" if isinstance(config, RobustConfig) else "paper"
