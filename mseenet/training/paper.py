"""The paper's recipe: the head on a frozen backbone, then all layers; no augmentation."""

from mseenet.config import (
    TrainingConfig,
)


def fit_head_then_all(model, images, labels, rows, config: TrainingConfig, checkpoint) -> None:
    """The paper's recipe: the head on features of the frozen backbone, then all layers."""
    from mseenet.inference.network import feature_extractor, head_on_features, logits_model
    from mseenet.training.loop import outputs_of, run_phase

    if not checkpoint.knows("fine_tune"):
        extractor = feature_extractor(model)
        train, val = (
            (outputs_of(extractor, images[rows[name]], f"features of {name}"), labels[rows[name]])
            for name in ("train", "val")
        )
        run_phase("head", head_on_features(model), train, val, config, checkpoint)
        del train, val  # 250 kB an image
    train, val = ((images[rows[name]], labels[rows[name]]) for name in ("train", "val"))
    run_phase("fine_tune", logits_model(model), train, val, config, checkpoint)
