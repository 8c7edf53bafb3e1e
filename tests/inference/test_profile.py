"""Site profiles: their files, what they change, and when they are refused."""

import hashlib
import io
import json
import zipfile
from dataclasses import asdict, replace

import numpy as np
import pytest

from mseenet.imaging.perturbations import blur, brightness
from mseenet.imaging.quality import SHIPPED, Thresholds, measured
from mseenet.inference.calibration import Calibration
from mseenet.inference.card import DEFAULT_WEIGHTS, NoveltyGate, read_card
from mseenet.inference.classifier import Classifier
from mseenet.inference.normalisation import Normalisation
from mseenet.inference.profile import (
    LOOSEST,
    PROFILE_VARIABLE,
    ProfileError,
    SiteProfile,
    chosen_profile,
    profile_name,
    read_profile,
)

NESTED: list = []
for _ in range(450):  # deeper than a copy of it goes
    NESTED = [NESTED]


@pytest.fixture(scope="module")
def card():
    return read_card(DEFAULT_WEIGHTS)


@pytest.fixture
def profile(card):
    change = Normalisation(
        np.zeros((5, 3), np.float32),
        np.diag([1.1, 0.9, 1.0]).astype(np.float32),
        np.array([0.01, 0.0, -0.02], np.float32),
        1.1,
    )
    gate = NoveltyGate(
        card.novelty.reference, 1.05 * card.novelty.review, 1.1 * card.novelty.reject
    )
    layer = (np.ones((384, 4), np.float32), np.zeros(4, np.float32))
    content = {"made": "2026-11-27"}
    return SiteProfile(
        "Köln", card.release, change, Calibration(1.5, 0.2), gate, 0.9, layer, content
    )


def test_a_profile_comes_back_as_it_was_written(profile, tmp_path, monkeypatch):
    path = tmp_path / "site.json"
    profile.write(path)
    again = read_profile(path)
    assert again.identity == profile.identity
    assert again.title == f"Köln ({profile.identity})"
    assert again.content["made"] == "2026-11-27"
    assert again.calibration == profile.calibration
    assert (again.layer[0] == profile.layer[0]).all()
    assert (again.normalisation.matrix == profile.normalisation.matrix).all()
    monkeypatch.setenv(PROFILE_VARIABLE, str(path))
    assert chosen_profile().identity == profile.identity
    assert chosen_profile("") is None
    monkeypatch.delenv(PROFILE_VARIABLE)
    assert chosen_profile() is None


def test_identity_is_of_all_that_answers_depend_on(profile):
    others = (
        replace(profile, calibration=Calibration(1.6, 0.2)),
        replace(profile, review_confidence=0.91),
        replace(profile, layer=None),
        replace(profile, normalisation=replace(profile.normalisation, zoom=1.2)),
        replace(profile, gate=replace(profile.gate, reject=16.0)),
        replace(profile, release="0" * 12),
        replace(profile, quality=LOOSEST),
        replace(profile, quality=Thresholds(sharpness=0.43)),
    )
    assert len({profile.identity, *(other.identity for other in others)}) == 9
    assert replace(profile, name="other", content={}).identity == profile.identity


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"schema": 3},
        {"schema": [1]},
        {"kind": "letter"},
        {"zoom": 1.2},
        {"zoom": None},
        {"release": "x"},
        {"name": ""},
        {"review_confidence": 2},
        {"novelty": {"review": 5.0, "reject": 4.0}},
        {"calibration": {"value": float("nan"), "slope": 0.1}},
        {"arrays": {"file": "../site.npz", "sha256": "0"}},
        {"arrays": {"file": "site.npz", "sha256": "0"}},
        {"arrays": {"file": "\ud800.npz", "sha256": "0"}},
        {"arrays": {"file": "site\x00.npz", "sha256": "0"}},
        {"arrays": {"file": "", "sha256": "0"}},
        {"arrays": {"file": "x" * 5000, "sha256": "0"}},
        {"arrays": {"file": NESTED, "sha256": "0"}},
        {"zoom": NESTED},
        {"release": NESTED},
        {"quality": NESTED, "schema": 2},
        {"quality": asdict(LOOSEST) | {"dark": NESTED}, "schema": 2},
        {"arrays": None},
    ],
)
def test_an_altered_profile_is_refused_in_one_line(profile, tmp_path, change):
    path = tmp_path / "site.json"
    profile.write(path)
    content = json.loads(path.read_text(encoding="utf-8")) | change
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ProfileError, match="site") as error:
        read_profile(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


def test_thresholds_of_image_quality_come_back_and_are_used(profile, card, tmp_path):
    path = tmp_path / "site.json"
    own = Thresholds(contrast=20.0, dark=90.5, sharpness=0.42, stained=0.045)
    replace(profile, quality=own).write(path)
    assert json.loads(path.read_text(encoding="utf-8"))["schema"] == 2
    again = read_profile(path)
    assert again.quality == own
    assert again.applied_to(card).quality == own
    assert again.applied_to(card).release != profile.applied_to(card).release


def test_a_profile_from_before_has_the_shipped_thresholds(profile, card, tmp_path):
    path = tmp_path / "site.json"
    profile.write(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["schema"] == 1
    assert "quality" not in content
    again = read_profile(path)
    assert again.identity == profile.identity
    assert again.applied_to(card).quality == SHIPPED == card.quality


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"sharpness": 0.1}, r"image quality, sharpness: .* \[0.4, 0.44\], got 0.1"),
        ({"sharpness": 0.5}, r"image quality, sharpness: .* \[0.4, 0.44\], got 0.5"),
        ({"dark": float("nan")}, "image quality, dark"),
        ({"dark": float("-inf")}, "image quality, dark"),
        ({"contrast": 0}, "image quality, contrast"),
        ({"stained": "0.045"}, "image quality, stained: expected a number"),
        ({"stained": True}, "image quality, stained: expected a number"),
        ({"bright": 255}, "image quality: expected contrast, dark, sharpness, stained"),
        (None, "image quality: expected contrast"),
    ],
)
def test_absurd_thresholds_are_refused(profile, tmp_path, entry, said):
    path = tmp_path / "site.json"
    replace(profile, quality=Thresholds(sharpness=0.42)).write(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["quality"] = None if entry is None else content["quality"] | entry
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ProfileError, match=said):
        read_profile(path)


def test_thresholds_are_of_their_own_schema(profile, tmp_path):
    path = tmp_path / "site.json"
    profile.write(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content | {"quality": {"sharpness": 0.42}}), encoding="utf-8")
    with pytest.raises(ProfileError, match="schema 1: expected thresholds"):
        read_profile(path)


def test_damaged_or_missing_files_are_refused(profile, tmp_path):
    path = tmp_path / "site.json"
    with pytest.raises(ProfileError, match="expected a site profile"):
        read_profile(path)
    profile.write(path)
    arrays = path.with_suffix(".npz")
    arrays.write_bytes(arrays.read_bytes()[:-50])
    with pytest.raises(ProfileError, match="altered"):
        read_profile(path)
    arrays.unlink()
    with pytest.raises(ProfileError, match=r"site\.npz"):
        read_profile(path)
    path.write_bytes(b"{" * 50)
    with pytest.raises(ProfileError, match="readable JSON"):
        read_profile(path)


def test_a_profile_is_for_its_own_release_alone(profile, card):
    adapted = profile.applied_to(card)
    assert adapted.calibration == profile.calibration
    assert adapted.novelty.reject == profile.gate.reject
    assert adapted.release != card.release
    assert adapted.release == profile.applied_to(card).release
    with pytest.raises(ProfileError, match=r"expected weights of release 0{12}"):
        replace(profile, release="0" * 12).applied_to(card)
    with pytest.raises(ProfileError, match="release"):
        profile.applied_to(adapted)
    wide = replace(profile.gate, reject=2 * card.novelty.reject)
    with pytest.raises(ProfileError, match="as wide"):
        replace(profile, gate=wide).applied_to(card)


def test_any_text_gives_a_name():
    assert profile_name("  a\nb\t ") == "a b"
    assert profile_name("\x00") == "site"
    assert len(profile_name("x" * 200)) == 60


def test_the_classifier_sees_the_changed_field(profile, card, fields, gated_classifier):
    plain = replace(profile, layer=None)
    classifier = Classifier.load(DEFAULT_WEIGHTS, plain)
    assert classifier.card.profile is plain
    (prediction,) = classifier.predict(fields[:1], "predicted", include_rejected=True)
    changed = plain.normalisation.apply(fields[0])
    observed = gated_classifier.observe(changed[None])
    distance = plain.gate.reference.distances(observed.frozen)[0]
    assert prediction.novelty == pytest.approx(distance / plain.gate.reject, rel=1e-3)
    assert prediction.heatmap.shape == (224, 224)
    expected = classifier.heatmap(fields[0], prediction.class_name)
    assert prediction.heatmap == pytest.approx(expected, abs=1e-3)
    assert prediction.nucleus_mask().shape == (224, 224)


@pytest.fixture(scope="module")
def loosest(card):
    """With a profile that changes nothing but has the loosest thresholds that are allowed."""
    unchanged = Normalisation(
        np.zeros((5, 3), np.float32), np.eye(3, dtype=np.float32), np.zeros(3, np.float32), 1.0
    )
    profile = SiteProfile(
        "x", card.release, unchanged, card.calibration, card.novelty, 0.9, None, {}, LOOSEST
    )
    return Classifier.load(DEFAULT_WEIGHTS, profile)


def test_the_classifier_flags_by_the_profiles_thresholds(loosest, fields, gated_classifier):
    soft = next(
        rgb
        for sigma in np.arange(1.0, 4.0, 0.05)
        for rgb in [blur(fields[0], sigma)]
        if measured(rgb).sharpness < 0.43
    )
    dim, spoiled = brightness(fields[0], 0.4), blur(brightness(fields[0], 0.2), 4.0)
    expected = {"out of focus", "too dark"}
    shipped, own = (
        [
            {reason.partition(":")[0] for reason in said.reasons} & expected
            for said in classifier.predict([soft, dim, spoiled])
        ]
        for classifier in (gated_classifier, loosest)
    )
    assert shipped == [{"out of focus"}, {"too dark"}, expected]
    assert own == [set(), set(), expected]


def test_a_plain_colour_is_refused_with_any_thresholds(loosest):
    noise = np.random.default_rng(0).normal(0, 5, (224, 224, 3))
    plain = [np.full((224, 224, 3), grey, np.uint8) for grey in (0, 128, 255)]
    noisy = [np.clip(rgb + noise, 0, 255).astype(np.uint8) for rgb in plain]
    for prediction in loosest.predict([*plain, *noisy]):
        assert prediction.status == "rejected"
        assert "one plain colour" in prediction.reasons[0]


def no_array(archive: zipfile.ZipFile) -> None:
    archive.writestr("means.npy", b"no array")


def compressed(archive: zipfile.ZipFile) -> None:
    archive.writestr("means.npy", bytes(2**20), zipfile.ZIP_DEFLATED)


@pytest.mark.parametrize(("hostile", "said"), [(no_array, "means"), (compressed, "not compressed")])
def test_arrays_of_another_kind_are_refused_in_one_line(profile, tmp_path, hostile, said):
    path = tmp_path / "site.json"
    profile.write(path)
    arrays = path.with_suffix(".npz")
    buffer = io.BytesIO()
    with zipfile.ZipFile(arrays) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            if name != "means.npy":
                new.writestr(name, old.read(name))
        hostile(new)
    arrays.write_bytes(buffer.getvalue())
    content = json.loads(path.read_text(encoding="utf-8"))
    content["arrays"]["sha256"] = hashlib.sha256(buffer.getvalue()).hexdigest()
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ProfileError, match=said) as error:
        read_profile(path)
    assert "\n" not in str(error.value)
