"""The methods that are compared."""

from mseenet.evaluation.baselines.classifiers import color_alone, dense, linear_probe, pso_svm
from mseenet.evaluation.baselines.networks import (
    inception_fine_tuned,
    inception_head,
    mobilenet_v2,
    own_cnn,
    plain_fine_tuned,
    plain_head,
    resnet50,
)
from mseenet.evaluation.baselines.protocol import BLOCKS, RANDOM, Entry

TWO = (RANDOM, BLOCKS[0])
ATTEIA = "Atteia et al. 97.40"
TUSAR = "Tusar et al. 97.00"
CNNS = "Kadhim et al. 98.15, Hagar et al. 98.20"
PSO = "frozen features, PCA, binary particle swarm, SVM"

ENTRIES = (
    Entry(
        "linear-probe",
        "linear probe: pooled features",
        linear_probe,
        drawn=False,
        reads="pooled",
    ),
    Entry("plain-head", "plain head: pooling, dense 384", plain_head, reads="pooled"),
    Entry("inception-head", "inception head (MSEENet)", inception_head, reads="pooled"),
    Entry(
        "plain-fine-tuned",
        "plain head, fine-tuned",
        plain_fine_tuned,
        block_seeds=1,
        reads="frozen",
    ),
    Entry(
        "inception-fine-tuned",
        "inception head, fine-tuned (MSEENet)",
        inception_fine_tuned,
        block_seeds=1,
        reads="frozen",
    ),
    Entry("pso-svm", PSO, pso_svm, TWO, ATTEIA, reads="pooled"),
    Entry("own-cnn", "small CNN", own_cnn, TWO, CNNS),
    Entry("dense", "dense network on 32x32 pixels", dense, TWO, TUSAR),
    Entry("mobilenetv2", "MobileNetV2", mobilenet_v2, (RANDOM,), TUSAR),
    Entry("resnet50", "ResNet50", resnet50, (RANDOM,), TUSAR),
    Entry(
        "colour",
        "colour alone: 6 numbers, logistic regression",
        color_alone,
        TWO,
        "none",
        drawn=False,
    ),
)
"""In the order of the table."""
