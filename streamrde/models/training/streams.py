"""Read the streams of a training run: whole recordings, or segments of them, each with its targets, and their parts."""

from __future__ import annotations

from dataclasses import replace

from streamrde.errors import ConfigError
from streamrde.fitting.inputs import DataConfig
from streamrde.fitting.recordings import Recording, read_recordings
from streamrde.models.training.config import TrainConfig
from streamrde.models.training.preflight import official_split, say_official_split
from streamrde.models.training.segments import Say, cut_by_rule, cut_listed, read_listed
from streamrde.models.training.splits import Split, split, warnings_of
from streamrde.times.plausible import Expectation
from streamrde.windowing.order import Order


def read_parts(config: TrainConfig, *, say: Say = lambda text: None) -> Split:
    """Read a run's streams and divide them.

    Args:
        say: receives notes on what is left out, and on streams of validation or test that training has seen.
    Raises:
        DataError: see `read_streams`.
        ConfigError: see `split`.
    """
    divided = config.split
    given = divided.column if divided.listed else ""
    expected = Expectation(config.windows.length)
    streams = read_streams(
        config.data, group=divided.undivided, given=given, order=config.order, expected=expected, say=say
    )
    try:
        parts = split(streams, divided, say=say)
    except ConfigError as error:
        lines = "" if divided.listed else official_split(config)
        hint = f"; the files have their own split; to use it, write:\n[split]\n{lines}" if lines else ""
        raise ConfigError(f"{error}{hint}") from None
    say_official_split(config, say)
    for warning in warnings_of(parts, divided):
        say(f"warning: {warning}")
    return parts


def read_streams(
    data: DataConfig,
    *,
    group: str = "",
    given: str = "",
    order: Order | None = None,
    expected: Expectation | None = None,
    say: Say = lambda text: None,
) -> list[Recording]:
    """Read a data set's recordings and cut its segments.

    Args:
        data: files and columns.
        group: column of the streams' groups, in the samples or in the listed segments. "" makes each recording, with
            all its segments, a group.
        given: column whose values are listed for the parts, in either. "" = none.
        order: rules that put the rows of a recording in order, as serving does. None: keep their order.
        expected: see `read_recordings`.
        say: receives the number of segments, and of rows in none.
    Raises:
        ConfigError: each window needs a target, and the list has one per segment.
        DataError: see `read_recordings` and `read_listed`. Or a stream has two classes where it must have one.
    """
    segments, where = data.segments, str(data.files)
    if segments is None:
        streams = read_recordings(data, group=group, given=given, order=order, expected=expected, say=say)
    elif not segments.file:
        recordings = read_recordings(data, group=group, given=given, order=order, expected=expected, say=say)
        streams = cut_by_rule(recordings, segments, ahead=data.horizon, say=say)
    else:
        listed = read_listed(data, segments, keys=[name for name in (group, given) if name])
        of_rows = {key: "" if name in listed.keys else name for key, name in (("group", group), ("given", given))}
        if listed.target is not None and (data.horizon or data.target_at == "window"):
            raise ConfigError(
                f"{segments.file} has the target '{data.targets[0]}', one per segment: set "
                'data.target_at = "auto" and data.horizon = 0, or name a target that only data.files have'
            )
        targets = None if listed.target is None else ()
        recordings = read_recordings(
            data,
            group=of_rows["group"],
            given=of_rows["given"],
            order=order,
            targets=targets,
            expected=expected,
            say=say,
        )
        streams = cut_listed(
            recordings, listed, group=group, given=given, ahead=data.horizon, say=say, where=segments.file
        )
    at = data.target_at
    if at == "stream" or (at == "auto" and data.task == "classification"):
        streams = [replace(s, target=s.target.single(s.stream, data.targets, where)) for s in streams]
    return streams
