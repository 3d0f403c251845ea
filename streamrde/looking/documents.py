"""Write findings as a TOML file with comments, for the command that will read it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from streamrde import toml
from streamrde.looking.guesses import Channel, Findings, Guess
from streamrde.looking.rates import nice, spoken

Use: TypeAlias = Literal["fit", "train", "score", "run"]
USES: tuple[Use, ...] = ("fit", "train", "score", "run")
MODEL = "model.safetensors"
PORT = 9464

_WIDTH = 120
# Keys of columns that a command has at another place than in [columns], by that place.
_OWN_KEYS: dict[Use, tuple[str, ...]] = {
    "fit": ("stream", "time", "time_unit"),
    "train": ("stream", "time", "time_unit", "time_format", "time_zone"),
    "score": (),
    "run": (),
}
_MOST_CHANNELS = 60  # with a comment each
_TEST = ("test", "testing", "holdout", "eval", "evaluation", "true", "1", "yes")
_VALIDATION = ("val", "valid", "validation", "dev")


def document(
    found: Findings,
    use: Use,
    *,
    command: str,
    model: str = MODEL,
    channels: Mapping[str, str] | None = None,
    labels: Sequence[str] = ("label",),
) -> str:
    """Return TOML that the command of that name reads.

    Args:
        command: command line that reads the file, for its first comment.
        model: model file of a run or a scoring job.
        channels: column or path of each of the model's channels, in its order. None: the model is not known.
        labels: columns of the model's late labels.
    """
    page = _Page()
    page.comment(f"Written by streamrde init for: {command}")
    page.comment(f"It looked at {found.seen}.")
    page.comment(found.rate.text)
    for remark in found.remarks:
        page.comment(f"Unsure: {remark}.")
    if found.doubts:
        page.comment("Guesses that may be wrong are marked with 'Unsure'. Alternatives stand in comments.")
    if use == "run":
        _run(page, found, model, channels, labels)
    else:
        {"fit": _fit, "train": _train, "score": _score}[use](page, found, model, channels)
    return page.text


class _Page:
    def __init__(self) -> None:
        self._lines: list[str] = []

    @property
    def text(self) -> str:
        return "\n".join(self._lines) + "\n"

    def comment(self, text: str) -> None:
        # Names and values are somebody else's text: signs that TOML forbids are shown as escapes.
        text = "".join(sign if sign.isprintable() or sign.isspace() else repr(sign)[1:-1] for sign in text)
        text = "".join(" " if ord(sign) < ord(" ") else sign for sign in text)
        self._lines += [
            f"# {line}" for line in textwrap.wrap(text, _WIDTH - 2, break_long_words=False, break_on_hyphens=False)
        ]

    def table(self, name: str, *, gap: bool = True) -> None:
        self._lines += ["", f"[{name}]"] if gap else [f"[{name}]"]

    def blank(self) -> None:
        self._lines.append("")

    def key(self, name: str, value: Any, why: str = "") -> None:
        if why:
            self.comment(_sentence(why))
        self._lines.append(f"{toml.key(name)} = {toml.value(value)}")

    def off(self, name: str, value: Any, why: str = "") -> None:
        if why:
            self.comment(_sentence(why))
        self._lines.append(f"# {toml.key(name)} = {toml.value(value)}")

    def guess(self, name: str, guess: Guess) -> None:
        """Write a key with its evidence, its doubt and its alternatives."""
        self.comment(_sentence(guess.why))
        if guess.unsure:
            self.comment(f"Unsure: {guess.unsure}.")
        self._lines.append(f"{toml.key(name)} = {toml.value(guess.value)}")
        for other in guess.others:
            if other.key:
                self.off(other.key, other.value, f"If {other.when}:")

    def channels(
        self,
        channels: tuple[Channel, ...],
        unused: tuple[tuple[str, str], ...],
        value: Sequence[Any],
        *,
        off: bool = False,
    ) -> None:
        """Write the channels, each with a comment, and which columns are none."""
        self.comment(f"{len(channels)} channel{'s' if len(channels) != 1 else ''}:")
        for channel in channels[:_MOST_CHANNELS]:
            self.comment(f"  {_shown(channel.name)}: {channel.text}")
        for name, why in unused[:_MOST_CHANNELS]:
            self.comment(f"Not used is {_shown(name)}: {why}.")
        text = f"channels = {_wrapped([toml.value(item) for item in value])}"
        self._lines += [f"# {line}" if off else line for line in text.splitlines()]


def _fit(page: _Page, found: Findings, model: str, channels: Mapping[str, str] | None) -> None:
    page.blank()
    page.key("data", found.source, "Recorded files: a file, a folder or a glob.")
    _target(page, found)
    _own(page, found, "fit")
    page.channels(found.channels, found.unused, [channel.name for channel in found.channels])
    _known(page, "group", found.group)
    _known(page, "split", found.split)
    page.key("out", model, "File of the model.")
    _columns(page, found, "fit")


def _train(page: _Page, found: Findings, model: str, channels: Mapping[str, str] | None) -> None:
    page.table("data")
    page.key("files", found.source, "Recorded files: a file, a folder or a glob.")
    _target(page, found)
    page.key("task", found.task if found.target else "regression", "Classes, or numbers.")
    if found.target_at != "auto":
        what = (
            "It is the same in all rows of a stream." if found.target_at == "stream" else "It changes along a stream."
        )
        page.key("target_at", found.target_at, what)
    _own(page, found, "train")
    named: list[Any] = [
        {"name": channel.name, "unit": channel.unit} if channel.unit else channel.name for channel in found.channels
    ]
    page.channels(found.channels, found.unused, named)
    _known(page, "restarts", found.restarts)
    _known(page, "faults", found.faults)
    page.table("split")
    _parts(
        page,
        found,
        along=not found.target
        or found.target_at == "window"
        or (found.task == "regression" and found.target_at == "auto"),
    )
    page.table("windows")
    page.key("policy", "every", "The model takes a step at the end of each window.")
    window = found.rate.window
    per = f", about {window / found.rate.interval:.0f} samples" if found.rate.interval else ""
    page.key(
        "seconds", window, f"Length of a window, {spoken(window)}{per}. Longer ones are faster, shorter ones see more."
    )
    if found.rate.gap:
        page.blank()
        page.comment("A silence of more than so many seconds begins a new stretch:")
        page.comment("[gap]")
        page.off("seconds", found.rate.gap)
    page.table("output")
    page.key("model", model, "File of the model.")
    page.key("report", "report.html", "Report on one page.")
    _columns(page, found, "train")


def _score(page: _Page, found: Findings, model: str, channels: Mapping[str, str] | None) -> None:
    page.blank()
    page.key("model", model, "Model file, written by streamrde fit or streamrde train.")
    page.key("files", found.source, "Recorded files: a file, a folder or a glob.")
    page.key("out", "predictions.parquet", "File of the predictions. Its extension is its format.")
    if found.target:
        value = found.target.value
        page.off(
            "truth", [value] if isinstance(value, str) else list(value), "To measure the predictions against the truth:"
        )
    if found.restarts is not None and found.restarts.value == "split":  # what is not in order is sorted anyway
        _known(page, "restarts", found.restarts)
    _known(page, "faults", found.faults)
    _columns(page, found, "score", channels)


def _run(page: _Page, found: Findings, model: str, channels: Mapping[str, str] | None, labels: Sequence[str]) -> None:
    page.blank()
    page.key("model", model, "Model file, written by streamrde fit or streamrde train.")
    page.table("source")
    for name, guess in found.connection.items():
        if not name.startswith("sink."):
            page.guess(name, guess)
    page.table("sink")
    for name, guess in found.connection.items():
        if name.startswith("sink."):
            page.guess(name.removeprefix("sink."), guess)
    _merge(page, found)
    page.blank()
    page.comment(f"To look at the run in a browser, at http://127.0.0.1:{PORT}/ (see docs/page.md):")
    page.comment("[service]")
    page.off("port", PORT)
    page.off("page", True)
    page.blank()
    page.comment("To learn from the truth that comes later, in fields of such messages (see docs/labels.md):")
    page.comment("[labels]")
    page.off("columns", list(labels))
    page.blank()
    page.comment("To go on after a restart where it stopped (see docs/delivery.md):")
    page.comment("[state]")
    page.off("path", "state.sqlite")
    page.blank()
    page.comment("To keep messages that cannot be read:")
    page.comment("[dead_letters]")
    page.off("kind", "file")
    page.off("path", "dead-letters.jsonl")
    _columns(page, found, "run", channels)


def _merge(page: _Page, found: Findings) -> None:
    """Write [order] where the values of one time come in several messages or rows."""
    apart = "name" in found.columns or "{channel}" in str(found.connection.get("topic", ""))
    if not apart or not found.columns["time"].value:
        return
    page.table("order")
    page.key("merge", True, "Values of one time come apart, and become one sample.")
    late = nice(max(found.rate.interval, 0.1))
    page.key("lateness", late, f"Seconds to wait for what comes late: {spoken(late)}.")


def _target(page: _Page, found: Findings) -> Guess:
    """Write the target, or a forecast of the first channel if there is none."""
    target = found.target
    if target is not None:
        value = target.value if isinstance(target.value, str) else list(target.value)
        page.guess("target", target._replace(why=f"Target: {target.why}", value=value))
        return target
    ahead = found.rate.window
    # Targets are numbers without other spellings.
    own = next((channel for channel in found.channels if not channel.missing and not channel.note), found.channels[0])
    why = f"Target: no column looks like one, so this is a forecast of '{own.name}', {spoken(ahead)} ahead"
    target = Guess(own.name, why, "give the column that is to be predicted with --target")
    page.guess("target", target)
    page.key("horizon", ahead, "Seconds by which the target lies ahead.")
    return target


def _own(page: _Page, found: Findings, use: Use) -> None:
    for name in _OWN_KEYS[use]:
        if name in found.columns and isinstance(found.columns[name].value, str):
            _guessed(page, name, found.columns[name])


def _columns(page: _Page, found: Findings, use: Use, channels: Mapping[str, str] | None = None) -> None:
    """Write [columns] with the keys that have no other place, if there are any."""
    left = {
        name: guess
        for name, guess in found.columns.items()
        if name not in _OWN_KEYS[use] or not isinstance(guess.value, str)
    }
    csv = left.pop("csv", None)
    named = use in ("score", "run")
    if left or named:
        page.table("columns")
        for name, guess in left.items():
            _guessed(page, name, guess)
    if named:
        _mapped(page, found, channels)
    if csv is not None:
        page.blank()
        page.comment(_sentence(f"How the text is written: {csv.why}"))
        if csv.unsure:
            page.comment(f"Unsure: {csv.unsure}.")
        page.table("columns.csv", gap=False)
        for name, value in csv.value.items():
            page.key(name, value)


def _mapped(page: _Page, found: Findings, channels: Mapping[str, str] | None) -> None:
    """Write the columns of the model's channels."""
    if channels is None:
        page.comment("Columns of the model's channels, in its order. Left out: they have the channels' names.")
        page.channels(found.channels, found.unused, [channel.name for channel in found.channels], off=True)
    else:
        page.comment(
            "Columns of the model's channels, in its order: "
            + ", ".join(f"{own} is {column}" for own, column in channels.items())
            + "."
        )
        page.channels(found.channels, found.unused, list(channels.values()))


def _guessed(page: _Page, name: str, guess: Guess) -> None:
    what = guess._replace(why=f"{name.capitalize().replace('_', ' ')}: {guess.why}")
    if name == "time_zone" and not guess.value:
        # The default; only the alternative is worth a line.
        page.comment(_sentence(what.why))
        for other in guess.others:
            page.off(other.key, other.value, f"If {other.when}:")
        return
    page.guess(name, what._replace(value=list(guess.value) if isinstance(guess.value, tuple) else guess.value))


def _known(page: _Page, name: str, guess: Guess | None) -> None:
    if guess is not None:
        _guessed(page, name, guess)


def _parts(page: _Page, found: Findings, *, along: bool) -> None:
    """Write [split]: the parts that the data names, else by group, stream or time."""
    if found.split is not None:
        values: list[str] = next((own.value for own in found.split.others), [])
        tests = [value for value in values if value.lower() in _TEST]
        checks = [value for value in values if value.lower() in _VALIDATION]
        if tests:
            page.guess("column", found.split._replace(others=()))
            page.key("test", tests, "Streams of these only measure at the end.")
            if checks:
                page.key("validation", checks, "Streams of these decide when to stop.")
            return
    if found.group is not None:
        page.key("by", "group", found.group.why)
        page.key("group", found.group.value)
    elif found.rate.streams == 1 and along:
        page.key("by", "time", "There is one stream: its first part trains, its last part is the test.")
    else:
        page.key("by", "stream", f"Each of the {found.rate.streams:,} streams is in one part.")
    page.key("validation", 0.15, "Share that decides when to stop.")
    page.key("test", 0.15, "Share that only measures at the end.")


def _shown(name: str) -> str:
    return name or "the payload itself"


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:] if text[:1].isalpha() else text
    return text if text.endswith((".", ":", "?")) else f"{text}."


def _wrapped(items: Sequence[str]) -> str:
    """Write a list. A long one is broken into lines."""
    text = f"[{', '.join(items)}]"
    if len(text) <= _WIDTH - len("channels = "):
        return text
    lines = [""]
    for item in items:
        if len(lines[-1]) + len(item) > _WIDTH - 6 and lines[-1]:
            lines.append("")
        lines[-1] += f"{' ' if lines[-1] else ''}{item},"
    return "[\n" + "\n".join(f"    {line}" for line in lines) + "\n]"
