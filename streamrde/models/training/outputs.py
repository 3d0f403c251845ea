"""Write what a training run is to leave: model, measures, test streams, report."""

from __future__ import annotations

import json
from collections.abc import Callable

from streamrde.disk import replace_file
from streamrde.errors import ParameterError, StreamRDEError
from streamrde.inference.bundle import Bundle
from streamrde.models.training.config import TrainConfig
from streamrde.models.training.score_file import truth_columns, write_test
from streamrde.models.training.segments import Say
from streamrde.models.training.splits import Split


def write_outputs(
    config: TrainConfig, bundle: Bundle, parts: Split, say: Say, *, report: Callable[[str], object]
) -> None:
    """Write what was asked for. If one of the files fails, the others are written all the same.

    Args:
        config: its `output` names the files.
        bundle: the trained model.
        parts: the streams of each part.
        say: receives what was written.
        report: writes the report to a path.
    Raises:
        ParameterError: a file could not be written.
    """
    output = config.output
    failed: list[str] = []

    def write(path: str, what: str, how: Callable[[], object]) -> None:
        if not path:
            return
        try:
            how()
        except (OSError, StreamRDEError) as error:
            failed.append(f"{what}: {error}")
        else:
            say(f"{what} written to {path}")

    write(output.model, "model", lambda: bundle.save(output.model))
    metrics = json.dumps(bundle.header.metrics, indent=2).encode() + b"\n"
    write(output.metrics, "metrics", lambda: replace_file(output.metrics, metrics))
    write(output.test, "test streams", lambda: write_test(output.test, parts.test, config, bundle.header))
    for target, column in truth_columns(config).items() if output.test else ():
        if column != target:
            say(f"in {output.test} the target '{target}' is column '{column}', as a channel has its name")
    write(output.report, "report", lambda: report(output.report))
    if failed:
        raise ParameterError(f"trained, but not all could be written: {'; '.join(failed)}")
