"""Show a sweep's progress: on a terminal a growing table above a bar, elsewhere a line per training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from streamrde.models.sweeping.results import Outcome, Standing
from streamrde.models.sweeping.space import Rung, on_one_line, short_keys
from streamrde.models.training.config import TrainConfig
from streamrde.tables import say
from streamrde.toml import value

# Rows of the table while a sweep goes on.
_ROWS = 10


class Board(ExitStack):
    """Show the outcomes of a sweep on `console`. A context manager."""

    def __init__(
        self, console: Console, config: TrainConfig, *, rungs: Sequence[Rung], done: Iterable[Outcome]
    ) -> None:
        super().__init__()
        self._console, self._config, self._rungs = console, config, rungs
        repeats = config.sweep.trainings
        self._total = sum(rung.trials * repeats for rung in rungs)
        epochs_done = [outcome.epochs for outcome in done]
        self._done = self._before = len(epochs_done)
        self._live: Live | None = None
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"), TimeRemainingColumn()
        )
        if console.is_terminal:
            # Count epochs, not trainings, since those of the last rung take longest.
            epochs = sum(rung.trials * rung.epochs * repeats for rung in rungs)
            self._task = self._bar.add_task("", total=epochs, completed=sum(epochs_done), count="")
            live = Live(Group(self._bar), console=console, transient=True, refresh_per_second=4)
            self._live = self.enter_context(live)

    def begin(self, trials: int, left_out: Sequence[str]) -> None:
        """Print the plan."""
        steps = ", then ".join(f"{rung.trials} for {rung.epochs} epochs" for rung in self._rungs)
        repeats = self._config.sweep.trainings
        often = f", {repeats} times each" if repeats > 1 else ""
        say(self._console, f"{trials} trials: {steps}{often}; by {self._judge()} {self._config.training.monitor}")
        for reason in left_out:
            say(self._console, f"left out: {reason}")
        if self._before:
            say(self._console, f"resumed: {self._before} trainings were done")

    def show(self, outcome: Outcome, standings: Sequence[Standing]) -> None:
        """Show the outcome of one more training."""
        self._done += 1
        if self._live is not None:
            rung = f"rung {outcome.rung + 1} of {len(self._rungs)}"
            count = f"{self._done} of {self._total} trainings"
            self._bar.update(self._task, advance=outcome.epochs, description=rung, count=count)
            self._live.update(Group(table(standings, self._config, rows=_ROWS), self._bar))
            return
        score = f"failed: {outcome.error}" if outcome.score is None else f"{outcome.score:.4g}"
        text = (
            f"[{self._done}/{self._total}] trial {outcome.trial}, {outcome.epochs} epochs: "
            f"{on_one_line(outcome.values)}  {score}  {outcome.seconds:.1f} s"
        )
        say(self._console, text)

    def _judge(self) -> str:
        folds = self._config.sweep.folds
        return f"{folds} folds'" if folds else "the validation streams'"


def table(standings: Sequence[Standing], config: TrainConfig, *, rows: int = 20) -> Table:
    """Return a table of the best trials, with the microseconds to serve a window and a second of a stream."""
    keys = short_keys(list(standings[0].trial.values)) if standings else {}
    made = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    costs = ("params", "us/win", "us/s")
    for heading in ("#", *keys.values(), "epochs", config.training.monitor, *costs, ""):
        # On a narrow terminal the values are folded, but the scores are not.
        made.add_column(heading, justify="right", no_wrap=heading not in keys.values(), overflow="fold")
    for place, standing in enumerate(standings[:rows]):
        score, shown_costs = "failed", ("", "", "")
        if standing.score is not None:
            score = f"{standing.score:.4g}" + (f" ± {standing.spread:.2g}" if standing.spread else "")
            shown_costs = (f"{standing.parameters:,}", f"{standing.step_us:.3g}", f"{standing.stream_us:.3g}")
        mark = "best" if not place and standing.score is not None else "Pareto" if standing.pareto else ""
        values = (value(standing.trial.values[key]).strip('"') for key in keys)
        made.add_row(str(standing.trial.number), *values, str(standing.epochs), score, *shown_costs, mark)
    return made
