import json
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from mseenet.commands import baselines as command
from mseenet.config import CLASS_NAMES
from mseenet.errors import UsageError
from mseenet.evaluation.baselines import classifiers, networks, protocol
from mseenet.evaluation.baselines.entries import ENTRIES
from mseenet.evaluation.baselines.protocol import (
    BLOCKS,
    RANDOM,
    Task,
    compare,
    measure_row,
    paired_difference,
    tasks,
)
from mseenet.evaluation.baselines.report import baselines_markdown, merge, read_result
from mseenet.evaluation.baselines.swarm import binary_swarm
from mseenet.imaging.synthetic import write_dataset
from mseenet.inference.card import DEFAULT_WEIGHTS
from mseenet.metrics import grouped_interval, wilson_interval
from mseenet.training.dataset import DatasetError, DatasetIndex, Sample

DATASET = {"n": 400, "sha256": "0" * 64}


def a_row(entry="inception-head", split=RANDOM, **others):
    return {
        "entry": entry,
        "split": split,
        "seeds": [0, 1],
        "drawn": True,
        "n": 40,
        "accuracy": 0.95,
        "precision": 0.94,
        "sensitivity": 0.93,
        "f1": 0.92,
        "mcc": 0.91,
        "accuracies": [0.925, 0.975],
        "sd": 0.0354,
        "interval_95": [0.83, 0.99],
        "facts": {"epochs": 6, "parameters": 573_444},
        "minutes": 1.25,
        "wrong": [[1, 2], [3]],
        **others,
    }


@pytest.fixture
def inputs():
    """Four classes of 40 numbered files without pixels."""
    samples = [
        Sample(f"{name}/WBC-{i * 60:05d}.jpg", None, label, f"{label}-{i}", f"{label}-{i}")
        for label, name in enumerate(CLASS_NAMES)
        for i in range(40)
    ]
    labels = np.array([sample.label for sample in samples])
    return SimpleNamespace(samples=samples, labels=labels, duplicates=[])


def oracle(mistakes):
    """Classifies rightly but for the given positions."""

    def classify(inputs, task):
        labels = inputs.labels[task.test]
        return np.where(np.isin(task.test, mistakes), (labels + 1) % 4, labels), {"epochs": 2}

    return classify


def test_the_swarm_finds_the_informative_features():
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 2000)
    features = random.normal(size=(2000, 20))
    informative = [2, 7, 11]
    features[:, informative] += 1.5 * labels[:, None]

    def fitness(mask):
        # Nearest class mean, learnt on the first half, judged on the second.
        chosen = features[:, mask]
        means = np.stack([chosen[:1000][labels[:1000] == k].mean(axis=0) for k in (0, 1)])
        distance = ((chosen[1000:, None] - means) ** 2).sum(axis=2)
        return np.mean(distance.argmin(axis=1) == labels[1000:]) - 0.1 * mask.mean()

    found = binary_swarm(fitness, 20, seed=1, particles=20, moves=40)
    assert found[informative].all()
    assert found.sum() < 10
    assert fitness(found) > fitness(np.ones(20, bool))
    again = binary_swarm(fitness, 20, seed=1, particles=20, moves=40)
    np.testing.assert_array_equal(again, found)


def test_the_swarm_never_judges_an_empty_subset():
    seen = []

    def fitness(mask):
        seen.append(int(mask.sum()))
        return -mask.sum()

    found = binary_swarm(fitness, 3, seed=0)
    assert min(seen) == found.sum() == 1
    assert len(seen) == 12 * 16


@pytest.fixture
def pooled(inputs):
    """Features that tell the classes apart, (160, 120)."""
    random = np.random.default_rng(0)
    noise, means = random.normal(size=(160, 120)), random.normal(size=(4, 120))
    return (noise + means[inputs.labels]).astype(np.float32)


@pytest.mark.parametrize(
    "classify",
    [classifiers.linear_probe, classifiers.pso_svm, networks.plain_head],
)
def test_test_images_do_not_reach_the_training(classify, inputs, pooled):
    task = tasks(inputs, BLOCKS[0], seed=1)[0]
    first, *others = task.test

    def predict(labels, features):
        return classify(SimpleNamespace(labels=labels, pooled=features), task)[0]

    expected = predict(inputs.labels, pooled)
    assert np.mean(expected == inputs.labels[task.test]) > 0.8
    labels, changed = inputs.labels.copy(), pooled.copy()
    labels[task.test] = 3
    changed[others] = 100
    assert predict(labels, changed)[0] == expected[0]
    changed[first] = pooled[task.train[-1]]  # of the last class
    assert predict(labels, changed)[0] == 3


def test_the_search_is_judged_on_contiguous_training_images(inputs, pooled, monkeypatch):
    seen = []
    svm = classifiers._svm

    def spy(features, labels, train, test):
        seen.append((train, test))
        return svm(features, labels, train, test)

    monkeypatch.setattr(classifiers, "_svm", spy)
    task = tasks(inputs, BLOCKS[0], seed=0)[0]
    classifiers.pso_svm(SimpleNamespace(labels=inputs.labels, pooled=pooled), task)
    *search, final = seen
    np.testing.assert_array_equal(final[0], task.train)
    for fit, judge in search:
        np.testing.assert_array_equal(np.union1d(fit, judge), task.train)
        assert not np.intersect1d(fit, judge).size
        for label in range(4):
            held = judge[inputs.labels[judge] == label]
            assert np.ptp(held) == len(held) - 1 > 0


def test_colour_alone_tells_stains_apart(inputs):
    images = np.zeros((160, 32, 32, 3), np.uint8) + (50 * inputs.labels[:, None, None, None] + 9)
    given = SimpleNamespace(labels=inputs.labels, images=lambda: images.astype(np.uint8))
    task = tasks(inputs, RANDOM, seed=0)[0]
    np.testing.assert_array_equal(classifiers.color_alone(given, task)[0], inputs.labels[task.test])


def test_a_row_pools_folds_and_averages_seeds(inputs):
    entry = replace(ENTRIES[2], classify=oracle([0, 50, 159]))
    row = measure_row(entry, BLOCKS[0], inputs, seeds=2)
    assert row["n"] == 160
    assert row["wrong"] == [[0, 50, 159]] * 2
    assert row["accuracies"] == [157 / 160] * 2
    assert row["sd"] == 0
    wrong = np.isin(np.arange(160), [0, 50, 159]).astype(float)
    blocks = np.repeat(np.arange(20), 8)
    expected = grouped_interval(1 - wrong, blocks)
    assert row["interval_95"] == pytest.approx(expected)
    perfect = measure_row(replace(entry, classify=oracle([])), BLOCKS[0], inputs, seeds=2)
    assert perfect["interval_95"] == list(wilson_interval(160, 160))
    assert np.sum(row["confusion"]) == 320
    assert row["facts"] == {"epochs": 2}

    once = measure_row(replace(entry, drawn=False), BLOCKS[0], inputs, seeds=2)
    assert (once["seeds"], once["sd"], once["drawn"]) == ([0], None, False)
    split = measure_row(replace(entry, drawn=False), RANDOM, inputs, seeds=2)
    assert (split["n"], split["seeds"]) == (16, [0, 1])


def test_blocks_test_each_image_once_and_never_train_on_it(inputs):
    for split in BLOCKS:
        folds = tasks(inputs, split, seed=1)
        tested = np.sort(np.concatenate([task.test for task in folds]))
        np.testing.assert_array_equal(tested, np.arange(160))
        assert not any(np.intersect1d(task.train, task.test).size for task in folds)
        assert len({task.seed for task in folds}) == len(folds)


def test_comparisons_are_paired(inputs):
    ours, plain, probe = (
        replace(entry, classify=oracle(mistakes))
        for entry, mistakes in (
            (ENTRIES[2], []),
            (ENTRIES[1], range(0, 160, 8)),  # wrong everywhere alike
            (ENTRIES[0], []),
        )
    )
    rows = [measure_row(e, s, inputs, 3) for e in (ours, plain, probe) for s in (RANDOM, BLOCKS[0])]
    found = {(item["second"], item["split"]): item for item in compare(rows, inputs)}
    assert len(found) == 4
    better = found["plain-head", BLOCKS[0]]
    assert better["difference"] == pytest.approx(20 / 160)
    assert better["interval_95"][0] > 0
    assert (better["n"], better["groups"]) == (160, 20)
    assert found["plain-head", RANDOM]["n"] == 48
    assert found["plain-head", RANDOM]["groups"] <= 20
    same = found["linear-probe", BLOCKS[0]]
    assert (same["difference"], same["interval_95"]) == (0, [0, 0])

    text = baselines_markdown(
        {"dataset": DATASET, "rows": rows, "comparisons": list(found.values())}
    )
    assert "+12.50" in text
    assert "**better, beyond the interval**" in text
    assert "no difference beyond the interval." in text


def test_neighbours_that_fail_together_widen_the_interval():
    first, second = np.ones(200), np.ones(200)
    second[:20] = 0
    alone = paired_difference(first - second, np.arange(200))
    together = paired_difference(first - second, np.arange(200) // 20)
    assert alone["difference"] == together["difference"] == pytest.approx(0.1)
    assert alone["interval_95"][0] > 0
    assert together["interval_95"][0] == 0


def test_the_table_says_what_was_measured():
    scratch = {"weights": "from scratch at 64x64", "epochs": 5.25, "minutes of training": 4.0}
    rows = [
        a_row(),
        a_row("resnet50", seeds=[0], sd=None, facts=scratch),
        a_row("linear-probe", BLOCKS[0], seeds=[0], sd=None, drawn=False, facts={}),
    ]
    text = baselines_markdown({"dataset": DATASET, "rows": rows, "comparisons": []})
    assert "from 400 images" in text
    assert (
        "| inception head (MSEENet) | random | 40 | 2 | 95.00 ± 3.54 | 83.00 to 99.00 | 94.00 "
        "| 93.00 | 92.00 | 91.00 | 1.2 | 6 epochs, 573,444 parameters |"
    ) in text
    assert "from scratch at 64x64, 5.2 epochs, 4 minutes of training | Tusar et al." in text
    assert "nothing drawn at random" in text
    assert "has not been compared: rows are missing" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in tables}) == 2


def test_new_rows_replace_only_their_like():
    rows = [a_row("dense"), a_row(split=BLOCKS[0]), a_row(accuracy=0.5)]
    for new in (a_row(accuracy=0.9), a_row("plain-head")):
        rows = merge(rows, new)
    assert [(row["entry"], row["split"], row["accuracy"]) for row in rows] == [
        ("plain-head", RANDOM, 0.95),
        ("inception-head", RANDOM, 0.9),
        ("inception-head", BLOCKS[0], 0.95),
        ("dense", RANDOM, 0.95),
    ]


def test_rows_of_other_images_are_refused(tmp_path, inputs):
    path = tmp_path / "baselines.json"
    index = DatasetIndex(tmp_path, tuple(inputs.samples), ())
    content = read_result(path, index)
    assert content["rows"] == []
    content["rows"] = [a_row()]
    path.write_text(json.dumps(content))
    assert read_result(path, index) == content
    with pytest.raises(DatasetError, match="of other images"):
        read_result(path, replace(index, samples=index.samples[1:]))


@pytest.mark.parametrize(
    "argv", [["--only", "dense,yolo"], ["--only", ""], ["--seeds", "0"], ["--minutes-per-run", "0"]]
)
def test_wrong_usage(argv, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.parse_arguments(["--data", "d", *argv])
    assert stopped.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_a_missing_scikit_learn_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(UsageError, match=r"pip install 'mseenet\[train\]'"):
        command.main(["--data", "d"])


@pytest.mark.slow
def test_a_small_run_writes_all_kinds_of_rows(tmp_path, monkeypatch, capsys):
    from mseenet.inference.network import build_backbone

    data = tmp_path / "data"
    write_dataset(data, per_class=10)
    for folder in data.iterdir():
        for i, path in enumerate(sorted(folder.iterdir())):
            # Numbers far apart, so that the embargo leaves something to train on.
            shutil.move(path, path.with_name(f"field-{i * 60:05d}.png"))
    backbone = tmp_path / "random.weights.h5"
    build_backbone(None).save_weights(backbone)
    monkeypatch.setattr(networks, "HEAD_EPOCHS", 1)
    monkeypatch.setattr(protocol, "FOLDS", 2)
    options = ["--data", str(data), "--out", str(tmp_path / "out"), "--seeds", "1"]
    options += ["--backbone-weights", str(backbone), "--minutes-per-run", "0.01"]

    only = "linear-probe,inception-head,colour"
    assert command.main([*options, "--only", only]) == 0
    text = (tmp_path / "out" / "BASELINES.md").read_text()
    assert text in capsys.readouterr().out
    path = tmp_path / "out" / "baselines.json"
    first = json.loads(path.read_text())
    assert [(row["entry"], row["n"]) for row in first["rows"]] == [
        *[("linear-probe", n) for n in (4, 40, 40)],
        *[("inception-head", n) for n in (4, 40, 40)],
        *[("colour", n) for n in (4, 40)],
    ]
    assert len(first["comparisons"]) == 3
    colours = next(row for row in first["rows"] if row["entry"] == "colour")
    assert colours["accuracy"] == 1  # the rendered classes differ in stain

    assert command.main([*options, "--only", "dense"]) == 0
    second = json.loads(path.read_text())
    assert [row for row in second["rows"] if row["entry"] != "dense"] == first["rows"]
    assert [row["n"] for row in second["rows"] if row["entry"] == "dense"] == [4, 40]


@pytest.mark.parametrize(("name", "size"), [("mobilenetv2", 96), ("resnet50", 64)])
def test_networks_of_keras_start_from_random_weights(name, size, monkeypatch):
    import keras

    monkeypatch.setattr(keras.utils, "get_file", lambda *_, **__: pytest.fail("a download"))
    monkeypatch.setattr(networks, "_train_from_scratch", lambda model, *_: (model, {}))
    (entry,) = (entry for entry in ENTRIES if entry.name == name)
    first, second = (entry.classify(None, Task(None, None, seed))[0] for seed in (0, 1))
    assert first.input_shape == (None, size, size, 3)
    assert first.output_shape == (None, 4)
    kernels = [model.get_weights()[0] for model in (first, second)]
    assert not np.allclose(*kernels)
    convolution = next(layer for layer in first.layers if layer.weights)
    prepared = keras.Model(first.input, convolution.input)(np.zeros((1, size, size, 3), np.float32))
    # Black is far below zero for either network; a forgotten preparation would leave it at 0.
    assert np.asarray(prepared).min() <= -1


@pytest.mark.slow
def test_a_network_from_scratch_stops_when_its_time_is_over(inputs):
    asked = []

    def images(size):
        asked.append(size)
        shade = 60 * inputs.labels[:, None, None, None] + np.arange(3)
        return np.broadcast_to(shade, (160, size, size, 3)).astype(np.uint8)

    inputs.images, inputs.minutes = images, 0.02
    task = tasks(inputs, RANDOM, seed=0)[0]
    predicted, facts = networks.own_cnn(inputs, task)
    assert asked == [112]
    assert predicted.shape == task.test.shape
    assert facts["weights"] == "from scratch at 112x112"
    assert facts["minutes of training"] >= 0.02
    assert 0 < facts["epochs"] < 40


def test_rows_of_processes_side_by_side_are_all_kept(tmp_path, inputs, monkeypatch):
    index = DatasetIndex(tmp_path, tuple(inputs.samples), ())

    def slowly(rows, inputs):
        time.sleep(0.2)
        return []

    monkeypatch.setattr(command, "compare", slowly)
    names = ["plain-head", "inception-head", "pso-svm", "dense"]
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(command.keep_row, a_row(n), inputs, index, tmp_path) for n in names]
        for job in jobs:
            job.result()
    rows = read_result(tmp_path / command.RESULT_NAME, index)["rows"]
    assert [row["entry"] for row in rows] == names
    assert {path.name for path in tmp_path.iterdir()} == {command.RESULT_NAME, "BASELINES.md"}


def test_a_damaged_file_of_rows_is_refused(tmp_path, inputs):
    path = tmp_path / "baselines.json"
    for content in ("{", "[]", "{}"):
        path.write_text(content)
        with pytest.raises(DatasetError, match="expected what mseenet baselines writes"):
            read_result(path, DatasetIndex(tmp_path, tuple(inputs.samples), ()))


def test_the_shipped_table_is_of_the_shipped_rows():
    result = json.loads((DEFAULT_WEIGHTS / "baselines.json").read_text(encoding="utf-8"))
    shown = (DEFAULT_WEIGHTS / "BASELINES.md").read_text(encoding="utf-8")
    assert shown == baselines_markdown(result)
    names = {entry.name for entry in ENTRIES}
    assert {row["entry"] for row in result["rows"]} == names
