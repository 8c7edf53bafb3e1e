"""The page on which a user tries whether the network holds for fields of the own laboratory."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from mseenet.case.fields import problems_of, server_full
from mseenet.case.labelled import labelled
from mseenet.case.limits import MEGABYTE, Limits, Room
from mseenet.config import CLASS_NAMES
from mseenet.errors import UsageError
from mseenet.inference.classifier import Classifier
from mseenet.inference.profile import LONGEST_NAME, STEM, SiteProfile, profile_name
from mseenet.inference.remote import ServerError
from mseenet.inference.scheduler import BusyError, Place
from mseenet.laboratory import page
from mseenet.laboratory.adapt import unfit
from mseenet.laboratory.color import TrainingFields, read_training_fields
from mseenet.laboratory.figures import FEWEST_OF_A_CLASS, FEWEST_SLIDES
from mseenet.laboratory.making import Making
from mseenet.laboratory.thresholds import QUALITY_HEAD, quality_rows
from mseenet.laboratory.verify import Check
from mseenet.ui.analysis import draw_problem
from mseenet.ui.bundle import unbundled
from mseenet.ui.charts import plot
from mseenet.ui.evaluation_charts import confusion_heatmap, percentage
from mseenet.ui.frame import plain
from mseenet.ui.intake import contents_of
from mseenet.ui.laboratory import Laboratory, profile_archive
from mseenet.ui.laboratory_charts import distribution, distribution_text, reliability_dots
from mseenet.ui.session import CaseView, current_view, server_room
from mseenet.ui.shared import privacy, scheduler_of
from mseenet.ui.streamlit_internals import is_connected, running_session

WAYS = ("ZIP archive", "Open case")

STEP = 0.5
"""Seconds, about, between two steps of the progress bar, where a click on Stop takes effect."""

AHEAD = 24
"""So many fields at most are read before they are answered. So reading takes its turns with the
network, and the checks of several users do not take the processor from everyone else."""

LISTED = 50
"""So many files that are left out are listed on the page; the report has all."""

INTRODUCTION = (
    "The network was trained on the slides of one laboratory. Fields of your own whose classes are "
    "known tell whether it holds for your stain, light and camera. Choose them before you look at "
    "what the network says of them, and take their classes from something else than the network, "
    "such as flow cytometry."
)

ARCHIVE = (
    "Put the fields into a ZIP of the folders `Benign`, `Early`, `Pre` and `Pro`, in each of them a "
    "folder a slide, such as `Pre/slide 4/c.jpg`; or of images with a table `labels.csv` (UTF-8, "
    "commas) of the columns `file`, `class` and `slide`."
)

NEEDED = (
    f"A report that says that the network holds needs at least {FEWEST_SLIDES} slides, "
    f"{FEWEST_OF_A_CLASS} of each class; 5 to 20 fields a slide will do."
)

TOO_FEW = (
    f"These slides are too few to say that the network holds: at least {FEWEST_SLIDES}, "
    f"{FEWEST_OF_A_CLASS} of each class, are needed. That it does not hold may show all the same."
)

NO_VERDICTS = (
    "The open case has no field for which you name a class. Analyse fields on the page Analyse, give "
    "your verdicts there, best in blind reading, and come back; synthetic examples do not count."
)

ADAPTING = (
    "If fields are refused because stain, camera or magnification differ, a site profile may help: "
    "it changes colours and size of cells to those of training, and sets gate, thresholds and "
    "temperature for your laboratory. It is tried on slides that have no part in it, and given out "
    "only if it is better there, no answer gets worse, and no more foreign images pass."
)

FOREIGN = (
    "A wider gate is worth nothing if it lets anything pass. So add images that should be refused, "
    "such as smears of other diseases or blurred fields: a ZIP with a folder for each kind."
)

TAKES = (
    "This takes about ten times as long as the check, and takes turns with the analyses of others. "
    "Nothing of it stays on the server."
)

HAS_PROFILE = (
    "This server uses the site profile {name}, and this report is with it. Another profile is made "
    "from the weights as they are: on a server without one, or by `mseenet verify --adapt`."
)

USING = (
    "Unpack both files into one folder, and name the JSON file where the network is used: "
    "`MSEENET_PROFILE=site-profile.json mseenet app` for this page, `--profile site-profile.json` for "
    "`mseenet predict` and `mseenet verify`. The proof that counts is another check with it, of other "
    "slides, taken later."
)

_VERDICT_ICONS = {
    "holds": ":material/check_circle:",
    "does not hold": ":material/cancel:",
    "cannot be said": ":material/help:",
}

# Streamlit's own captions, and its text in charts, are too faint for small text.
_STYLE = """
<style>
.st-key-laboratory h2 { font-size: 1.5rem; padding: 1.4rem 0 .4rem; }
.st-key-laboratory h3 { font-size: 1.1rem; padding: .6rem 0 0; }
.st-key-laboratory [data-testid="stCaptionContainer"] { color: inherit; opacity: .85; }
.st-key-laboratory th { color: inherit !important; }
.st-key-laboratory .js-plotly-plot :is([class$="tick"] text, [class$="title"], .annotation-text,
  .hoverlayer text) { fill: currentColor !important; }
/* What the progress of a profile takes the place of: Streamlit removes it only after the script. */
.st-key-laboratory-profile:has(.st-key-progress) [data-stale="true"] { display: none; }
</style>
"""


def draw_laboratory_page(classifier: Classifier) -> None:
    """Draws the way in for labelled fields, their check, or the report on them."""
    view = current_view()
    laboratory = view.laboratory
    with st.container(key="laboratory"):
        st.html(_STYLE)
        st.header("Does it hold in your laboratory?", anchor="laboratory")
        if laboratory.report is not None:
            _draw_report(view, laboratory.report, classifier)
        elif laboratory.check is not None:
            _draw_check(laboratory, laboratory.check, classifier)
        else:
            _draw_intake(view)


def _draw_intake(view: CaseView) -> None:
    laboratory, limits = view.laboratory, view.case.limits
    st.session_state.pop("profile-name", None)  # it was that of other fields
    st.markdown(INTRODUCTION)
    if laboratory.problem:
        st.error(plain(laboratory.problem), icon=":material/folder_off:")
    st.session_state.setdefault("laboratory-way", WAYS[0])
    way = st.segmented_control(
        "Source of the labelled fields",
        WAYS,
        required=True,
        key="laboratory-way",
        label_visibility="collapsed",
    )
    if way == WAYS[1]:
        _draw_case(view)
        return
    st.markdown(ARCHIVE)
    st.caption(plain(f"{NEEDED} {limits}"))
    if server_room().left < MEGABYTE:
        st.warning(f"T{server_full(server_room())[1:]}.", icon=":material/hourglass_top:")
    taken = st.file_uploader(
        "ZIP archive of labelled fields",
        key=f"laboratory-{laboratory.intakes}",
        label_visibility="collapsed",
    )
    st.caption(privacy())
    if taken is not None:
        _take(taken, limits, laboratory.take_archive, laboratory.fail)


def _take(
    taken: UploadedFile,
    limits: Limits,
    take: Callable[[str, bytes, Limits, Room], None],
    refuse: Callable[[str], None],
) -> None:
    """Hands the one file of an upload on, or what is wrong with it, and draws the page anew."""
    files, left_out = unbundled(contents_of([taken]), limits)
    if len(files) == 1:
        with st.spinner("Reading the archive ...", show_time=True):
            take(*files[0], limits, server_room())
    else:
        refused = "; ".join(problems_of(left_out))
        count = len(files) + len(left_out)
        refuse(refused or f"expected one ZIP archive; received {count} files")
    st.rerun()


def _draw_case(view: CaseView) -> None:
    """Draws what the open case has of fields whose class the reader names."""
    done = view.case.done()
    known = len(labelled(done))
    if not known:
        st.info(NO_VERDICTS, icon=":material/info:")
        return
    st.markdown(
        f"Your verdicts name a class for {known:,} of the {len(done):,} analysed fields. A field of "
        "no known slide counts as one of a slide that all such fields of its class share."
    )
    st.caption(NEEDED)
    st.button(
        "Use these fields",
        key="laboratory-case",
        type="primary",
        on_click=lambda: view.laboratory.take_case(view.case),
    )


def _draw_check(laboratory: Laboratory, check: Check, classifier: Classifier) -> None:
    """Draws what was understood, and asks the network once the user has said so."""
    counts = check.counts()
    slides = sum(count["slides"] for count in counts.values())
    st.markdown(
        f"**{len(check.fields):,} fields of {slides:,} slides**, from {plain(laboratory.origin)}:"
    )
    st.table(
        {
            "Class": list(counts),
            "Fields": [f"{count['fields']:,}" for count in counts.values()],
            "Slides": [f"{count['slides']:,}" for count in counts.values()],
        },
        border="horizontal",
        hide_index=True,
        width="content",
        alt="Labelled fields and their slides by class",
    )
    together = [name for name in CLASS_NAMES if any(f.slide == name for f in check.fields)]
    if together:
        st.caption(
            f":material/info: Fields of {', '.join(together)} that are of no known slide count as "
            "one slide of their class."
        )
    fewest = min(count["slides"] for count in counts.values())
    if slides < FEWEST_SLIDES or fewest < FEWEST_OF_A_CLASS:
        st.warning(TOO_FEW, icon=":material/info:")
    if laboratory.remark:
        st.warning(laboratory.remark, icon=":material/visibility:")
    _draw_left_out(check.problems)
    st.caption(
        "What cannot be read, or repeats another field, shows in the check, and is left out."
    )
    if laboratory.running:
        with st.container(horizontal=True, vertical_alignment="center", key="progress"):
            bar = st.progress(0.0)
            st.button(
                "Stop", key="laboratory-stop", on_click=_set_running, args=(laboratory, False)
            )
        _run(laboratory, check, classifier, bar)
        return
    if laboratory.lost:
        draw_problem(laboratory.lost, lambda: _set_running(laboratory, True))
    if check.done:
        st.caption(f"Stopped after {check.done:,} of {len(check.fields):,} fields.")
    with st.container(horizontal=True):
        st.button(
            "Go on" if check.done else "Start the check",
            key="laboratory-start",
            type="primary",
            on_click=_set_running,
            args=(laboratory, True),
        )
        st.button("Other fields", key="laboratory-other", on_click=laboratory.forget)


def _set_running(laboratory: Laboratory, running: bool) -> None:
    laboratory.running, laboratory.lost = running, None


def _run(laboratory: Laboratory, check: Check, classifier: Classifier, bar) -> None:
    """Reads the fields here while the network answers in its turn; then makes the report."""
    scheduler, session = scheduler_of(classifier), running_session()
    started, known = time.monotonic(), check.done
    _show(bar, check)
    try:
        job = scheduler.submit(
            check, check.unanswered(), check.settle, lambda: is_connected(session)
        )
    except BusyError as error:
        laboratory.running, laboratory.lost = False, error
        st.rerun()
    try:
        shown = time.monotonic()
        # Whatever is drawn is where Streamlit ends a script that is no longer needed.
        while (check.ahead < AHEAD and check.read_next()) or not job.wait(STEP / 5):
            if time.monotonic() - shown >= STEP:
                shown = time.monotonic()
                pace = (check.done - known) / (shown - started)
                _show(bar, check, scheduler.place(job), pace, classifier.trouble)
    except ServerError as error:
        laboratory.running, laboratory.lost = False, error
    except Exception:
        laboratory.running = False  # else every look at the page would fail the same way
        raise
    finally:
        job.cancel()
    if check.complete:  # else the page was not connected
        bar.progress(1.0, text="Working out the report")
        try:
            made = datetime.now().astimezone()
            report = check.report(classifier.card, _training(), made)
            # With a profile in use none is made, so nothing more is needed of the fields.
            kept = check.seen() if classifier.card.profile is None else None
            laboratory.finish(report, kept)
        except UsageError as error:
            laboratory.fail(str(error))
    st.rerun()


@cache
def _training() -> TrainingFields:
    return read_training_fields()


def _show(
    bar, check: Check, place: Place | None = None, pace: float = 0.0, trouble: str = ""
) -> None:
    done, total = check.done, len(check.fields)
    if trouble:
        text = f"Waiting for the network after {done:,} of {total:,} fields: {plain(trouble)}"
    elif place is not None and place.ahead:
        text = f"This server is busy: {place.ahead} in line before this check"
    else:
        text = f"Checking fields: {done:,} of {total:,}"
        if pace > 0:
            text += f", about {max(1, round((total - done) / pace)):,} s left"
    bar.progress(done / total, text=text)


def _draw_left_out(problems: Sequence[str]) -> None:
    if not problems:
        return
    with st.expander(f"Left out: {len(problems):,}", icon=":material/folder_off:"):
        st.markdown("\n".join(f"- {plain(problem)}" for problem in problems[:LISTED]))
        if len(problems) > LISTED:
            st.caption(f"and {len(problems) - LISTED:,} more, which the report names.")


def _draw_report(view: CaseView, report: dict[str, Any], classifier: Classifier) -> None:
    laboratory = view.laboratory
    verdict = report["verdict"]
    draw = {"holds": st.success, "does not hold": st.error, "cannot be said": st.warning}[verdict]
    draw(f"**{page.VERDICTS[verdict]}**", icon=_VERDICT_ICONS[verdict])
    st.markdown("\n".join(f"- {plain(sentence)}" for sentence in report["because"]))
    if laboratory.remark:
        st.warning(laboratory.remark, icon=":material/visibility:")
    st.caption(plain(f"{page.heading(report)} {page.LIMITS[-1]}"))
    _draw_downloads(laboratory, report)
    st.header("The four requirements", anchor=False)
    rows = [page.criterion_row(criterion) for criterion in report["criteria"]]
    _draw_table(page.CRITERIA_HEAD, rows, "What is required, and what was found")
    st.header("A site profile", anchor="profile")
    with st.container(key="laboratory-profile"):
        bar = _draw_profile(view, report, classifier)
    st.header("By class", anchor=False)
    _draw_table(page.CLASSES_HEAD, page.class_rows(report), "Right fields of each class")
    st.markdown(plain(page.refused_sentence(report)))
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Which class is taken for which?", anchor=False)
        _draw_confusion(report["confusion"])
    with right:
        st.subheader("Does its confidence mean what it says?", anchor=False)
        _draw_reliability(report["calibration"])
    st.header("What differs from the training fields", anchor=False)
    st.markdown(page.APPEARANCE)
    if not report["appearance_of_these_weights"]:
        st.warning(page.OTHER_WEIGHTS, icon=":material/info:")
    _draw_appearance(report["appearance"])
    with st.expander(f"Slides: {len(report['slides']):,}", icon=":material/table:"):
        _draw_table(page.SLIDES_HEAD, page.slide_rows(report), "Fields of each slide")
    _draw_left_out(report["fields"]["problems"])
    st.header("What this does not say", anchor=False)
    st.markdown("\n".join(f"- {sentence}" for sentence in page.LIMITS))
    if laboratory.making is not None and bar is not None:  # at last, for all else to be there
        _make_profile(laboratory, laboratory.making, classifier, bar)


def _draw_profile(view: CaseView, report: dict[str, Any], classifier: Classifier):
    """Draws what a profile is, the way to one, how far it is, or what came of it.

    Returns:
        The progress bar of a profile that is being made, for `_make_profile`; else None.
    """
    laboratory, profile = view.laboratory, classifier.card.profile
    st.markdown(ADAPTING)
    if laboratory.making is not None:
        return _draw_making(laboratory, laboratory.making)
    if adaptation := report.get("adaptation"):
        _draw_adaptation(laboratory, report, adaptation)
    if laboratory.obstacle:
        st.error(plain(laboratory.obstacle), icon=":material/folder_off:")
    if profile is not None:
        st.info(HAS_PROFILE.format(name=plain(profile.title)), icon=":material/info:")
    elif laboratory.fields is not None:
        if reason := unfit(classifier.card, laboratory.fields):
            st.info(plain(reason), icon=":material/info:")
        elif adaptation:
            with st.expander("Make it anew", icon=":material/tune:"):
                _draw_order(view, classifier)
        else:
            _draw_order(view, classifier)
    return None


def _draw_order(view: CaseView, classifier: Classifier) -> None:
    """Draws the way to a profile: its name, foreign images, and the button."""
    laboratory, limits = view.laboratory, view.case.limits
    st.markdown(FOREIGN)
    if laboratory.foreign:
        counts = "; ".join(
            f"{kind}: {len(images):,}" for kind, images in laboratory.foreign.items()
        )
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**Foreign images** of each kind: {plain(counts)}.", width="content")
            st.button("Remove", key="laboratory-no-foreign", on_click=laboratory.forget_foreign)
    else:
        taken = st.file_uploader(
            "ZIP archive of foreign images, a folder for each kind (optional)",
            key=f"laboratory-foreign-{laboratory.intakes}",
        )
        st.caption(plain(str(limits)))
        if taken is not None:
            _take(taken, limits, laboratory.take_foreign, laboratory.refuse_foreign)
    st.session_state.setdefault("profile-name", laboratory.suggested_name)
    st.text_input("Name of the profile", key="profile-name", max_chars=LONGEST_NAME, width=360)
    st.caption(TAKES)
    st.button(
        "Make a site profile",
        key="laboratory-make",
        type="primary",
        on_click=lambda: laboratory.make_profile(
            classifier,
            scheduler_of(classifier),
            _training(),
            profile_name(st.session_state["profile-name"]),
            limits,
            server_room(),
        ),
    )


def _draw_making(laboratory: Laboratory, making: Making):
    """Draws how far a profile is; returns the progress bar while it is being made."""
    if laboratory.running:
        with st.container(horizontal=True, vertical_alignment="center", key="progress"):
            bar = st.progress(0.0)
            st.button(
                "Stop", key="laboratory-stop", on_click=_set_running, args=(laboratory, False)
            )
        return bar
    if laboratory.lost:
        draw_problem(laboratory.lost, lambda: _set_running(laboratory, True))
    st.caption(f"Stopped after {_done(making)}.")
    with st.container(horizontal=True):
        st.button(
            "Go on",
            key="laboratory-start",
            type="primary",
            on_click=_set_running,
            args=(laboratory, True),
        )
        st.button("Give it up", key="laboratory-give-up", on_click=laboratory.forget_profile)
    return None


def _make_profile(laboratory: Laboratory, making: Making, classifier: Classifier, bar) -> None:
    """Lets a profile be made while the page is looked at."""
    session, seen = running_session(), [(time.monotonic(), making.done)]
    making.go_on()
    try:
        # Whatever is drawn is where Streamlit ends a script that is no longer needed.
        while not making.wait(STEP) and making.lost is None and is_connected(session):
            seen.append((time.monotonic(), making.done))
            # What comes first is quicker than the rest: the latter half tells the pace.
            (since, before), (now, done) = seen[len(seen) // 2 - 1], seen[-1]
            _show_making(bar, making, (done - before) / (now - since), classifier.trouble)
    finally:
        making.rest()
    if making.lost is not None:
        laboratory.running, laboratory.lost = False, making.lost
    elif making.wait(0):
        laboratory.finish_profile()
    else:
        st.stop()  # the page draws itself anew once it is connected again
    st.rerun()


def _show_making(bar, making: Making, pace: float, trouble: str) -> None:
    place = making.place
    if trouble:
        text = f"Waiting for the network after {_done(making)}: {plain(trouble)}"
    elif place is not None and place.ahead:
        text = f"This server is busy: {place.ahead} in line before this profile"
    elif making.done >= making.total:
        text = "Working out the report"
    else:
        text = f"Making the profile: {_done(making)}"
        if pace > 0:
            text += f", about {max(1, round((making.total - making.done) / pace)):,} s left"
    bar.progress(min(1.0, making.done / making.total), text=text)


def _done(making: Making) -> str:
    return f"{100 * making.done / making.total:.0f} %"


def _draw_adaptation(
    laboratory: Laboratory, report: dict[str, Any], adaptation: dict[str, Any]
) -> None:
    """Draws what came of a try to adapt."""
    if adaptation["written"]:
        st.success("**The profile may be used.**", icon=":material/check_circle:")
    else:
        st.warning("**No profile may be used.** Nothing is changed.", icon=":material/block:")
    st.markdown("\n".join(f"- {plain(reason)}" for reason in adaptation["because"]))
    if profile := laboratory.profile:
        _draw_profile_files(laboratory, profile)
    if "criteria" in adaptation:
        st.markdown(f"{page.ADAPTED} In brackets 95 % intervals.")
        _draw_table(page.ADAPTED_HEAD, page.adapted_rows(report), "What changes with a profile")
        st.markdown(f"With it: **{page.VERDICTS[adaptation['verdict']]}**")
        st.markdown("\n".join(f"- {plain(sentence)}" for sentence in adaptation["says"]))
    if quality := adaptation.get("image_quality"):
        st.markdown(f"**Thresholds of image quality.** {page.QUALITY} {plain(quality['because'])}")
        rows = quality_rows(quality)
        counts = [row[:4] for row in rows]
        _draw_table(QUALITY_HEAD[:4], counts, "How many fields image quality has flagged")
        values = [(row[0], *row[4:]) for row in rows[:-1]]  # of all checks together there is none
        # A table of its own: with all columns it would be too wide for a narrow screen.
        _draw_table((QUALITY_HEAD[0], *QUALITY_HEAD[4:]), values, "Thresholds of image quality")


def _draw_profile_files(laboratory: Laboratory, profile: SiteProfile) -> None:
    st.download_button(
        "Site profile",
        profile_archive(profile),
        f"{STEM}.zip",
        "application/zip",
        key="download-profile",
        type="primary",
        icon=":material/download:",
        on_click=lambda: laboratory.untaken.discard("profile"),
    )
    st.markdown(f"**{plain(profile.title)}**: {USING[0].lower()}{USING[1:]}")


def _draw_downloads(laboratory: Laboratory, report: dict[str, Any]) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        for label, name, mime, make in (
            ("Report for people", "verification.html", "text/html", page.report_html),
            ("Report for programs", "verification.json", "application/json", page.report_json),
        ):
            st.download_button(
                label,
                make(report).encode(),
                name,
                mime,
                key=f"download-{name}",
                icon=":material/download:",
                on_click=lambda: laboratory.untaken.discard("report"),
            )
        with st.popover("Check other fields"):
            st.markdown("This forgets the report, and a profile with it.")
            st.button(
                "Forget and begin anew",
                key="laboratory-anew",
                type="primary",
                on_click=laboratory.forget,
            )


def _draw_table(head: Sequence[str], rows: Sequence[Sequence[str]], alt: str) -> None:
    columns = zip(*rows, strict=True)
    st.table(
        {
            title[:1].upper() + title[1:]: [plain(cell) for cell in column]
            for title, column in zip(head, columns, strict=True)
        },
        border="horizontal",
        hide_index=True,
        alt=alt,
    )


def _draw_confusion(confusion: list[list[int]]) -> None:
    right = ", ".join(
        f"{name} {row[i]} of {sum(row)}"
        for i, (name, row) in enumerate(zip(CLASS_NAMES, confusion, strict=True))
    )
    plot(
        confusion_heatmap(confusion),
        f"Confusion matrix. Called right: {right}.",
        "laboratory-confusion",
    )
    st.caption(
        "A row is a given class, with counts and percent of the row; refused fields are in none."
    )


def _draw_reliability(calibration: dict[str, Any]) -> None:
    if calibration["error"] is None:
        st.markdown("No field is given a class, so nothing can be said of confidence.")
        return
    dots = "; ".join(
        f"confidence {percentage(b['confidence'])}, right {percentage(b['accuracy'])} of {b['n']}"
        for b in calibration["bins"]
    )
    plot(
        reliability_dots(calibration["bins"]),
        f"Reliability diagram: {dots}.",
        "laboratory-reliability",
    )
    st.caption(
        "A dot holds the fields of one range of confidence; the larger, the more fields. On the "
        "dotted line confidence and accuracy agree, below it the network is too sure."
    )


def _draw_appearance(appearance: dict[str, dict[str, Any]]) -> None:
    names = list(appearance)
    for start in range(0, len(names), 3):
        row = zip(st.columns(3, gap="large"), names[start : start + 3], strict=False)
        for column, name in row:
            with column:
                measure = appearance[name]
                st.subheader(page.TITLES[name], anchor=False)
                plot(
                    distribution(measure),
                    f"{page.TITLES[name]}, {distribution_text(measure)}.",
                    f"laboratory-{name}",
                )
                st.caption(plain(page.measure_sentence(name, measure)))
