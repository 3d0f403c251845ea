"""The commands of `state`: look at stores of streams' state, and move them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import msgspec
import typer

from streamrde.cli.options import Json
from streamrde.cli.printing import print_json
from streamrde.errors import ConfigError, StateError

if TYPE_CHECKING:
    from streamrde.cluster.contents import ChangelogPlace
    from streamrde.cluster.moving import Report
    from streamrde.state import SqliteStore
    from streamrde.state.records import Contents, Record

app = typer.Typer(
    help="Look at the state of streams, export it, and move it between SQLite and Kafka.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

_STORE = "SQLite file, a run's TOML file, or kafka://host:port/changelog."
Store = Annotated[str, typer.Argument(help=_STORE)]
Check = Annotated[bool, typer.Option("--check", help="Only say what would be done, and whether it would work.")]
Input = Annotated[str | None, typer.Option("--input", help="Topic of the input, for a store named by kafka://.")]
Group = Annotated[str | None, typer.Option("--group", help="Consumer group, for a store named by kafka://.")]
Partitioner = Annotated[
    str | None,
    typer.Option("--partitioner", help="Partitioner of the input's producers: murmur2, crc32 or fnv1a. [found out]"),
]
OlderThan = Annotated[
    str | None, typer.Option("--older-than", help="Only streams that were last saved so long ago, such as 30d.")
]
Ended = Annotated[bool, typer.Option("--ended", help="Only streams that ended.")]
Place: TypeAlias = "Path | ChangelogPlace"


@app.command("list")
def list_(
    store: Store,
    stream: Annotated[
        str | None, typer.Option("--stream", help="Only streams that fit a pattern such as 'a/*'.")
    ] = None,
    older_than: OlderThan = None,
    ended: Ended = False,
    running: Annotated[bool, typer.Option("--running", help="Only streams that run.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Most streams to show. 0: all.")] = 1000,
    json: Json = False,
) -> None:
    """List the streams of a store: last window, size, when saved, model.

    Example: `streamrde state list state.db --older-than 30d`
    """
    before = _before(older_than)

    def fits(record: Record) -> bool:
        return (
            (stream is None or fnmatchcase(record.name, stream))
            and (before is None or record.saved < before)
            and not (ended and record.data is not None)
            and not (running and record.data is None)
        )

    with _progress() as show, _opened(_place(store), show) as contents:
        head, shown, number, size, over = contents.head(), list[dict[str, Any]](), 0, 0, 0
        for record in filter(fits, contents.records()):
            number, size, over = number + 1, size + len(record.data or b""), over + (record.data is None)
            if not limit or len(shown) < limit:
                shown.append(_row(record))
        twice: list[str] = getattr(contents, "twice", list)()
    total = {"streams": number - over, "ended": over, "bytes": size}
    if json:
        print_json(
            {"store": contents.name, "identity": head.identity, "offsets": {f"{k}": v for k, v in head.offsets.items()},
             "list": shown, "total": total, "twice": twice}
        )  # fmt: skip
        return
    _table(shown)
    if number > len(shown):
        print(f"and {number - len(shown):,} more")
    print(f"{contents.name}: {number - over:,} streams, {over:,} ended, {size:,} bytes")
    if twice:
        print(f"warning: {len(twice):,} streams have a state in two partitions, such as {', '.join(twice[:5])}")


@app.command()
def export(
    store: Store,
    out: Annotated[Path, typer.Option("--out", "-o", help="File: .parquet for Parquet, else Arrow IPC.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    json: Json = False,
) -> None:
    """Write a store to one file: streams, identity and positions.

    Example: `streamrde state export state.db --out state.arrow`
    """
    from streamrde.disk import prepare_file
    from streamrde.state.portable import write_portable

    prepare_file(out, "--out")
    if out.exists() and not force:
        raise ConfigError(f"{out} is there already: give another path, or --force")
    with _progress() as show, _opened(_place(store), show) as contents:
        streams = write_portable(out, contents, sum(1 for _ in contents.records()))
    if json:
        print_json({"source": contents.name, "target": str(out), "streams": streams, "bytes": out.stat().st_size})
        return
    print(f"{contents.name}: {streams:,} streams to {out}, {out.stat().st_size:,} bytes")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="File that `streamrde state export` wrote.")],
    store: Store,
    seek: Annotated[
        bool,
        typer.Option("--seek", help="Set the consumer group back to the file's positions, to read again since then."),
    ] = False,
    check: Check = False,
    partitioner: Partitioner = None,
    input_: Input = None,
    group: Group = None,
    json: Json = False,
) -> None:
    """Fill a new store from an exported file.

    Example: `streamrde state import state.arrow state.db`
    """
    from streamrde.cluster.moving import to_changelog, to_sqlite
    from streamrde.state.portable import PortableFile

    contents, place = PortableFile(file), _place(store, input_, group)
    with _progress() as show:
        if isinstance(place, Path):
            if seek:
                raise ConfigError("--seek is for a store in Kafka: a file of SQLite knows no positions of the input")
            report = to_sqlite(contents, place, check=check)
        else:
            own = _partitioner(partitioner)
            report = to_changelog(contents, place, partitioner=own, seek=seek, check=check, show=show)
    _print(report, json, "imported")


@app.command()
def move(
    source: Annotated[str, typer.Argument(help=f"Store to move: {_STORE}")],
    target: Annotated[str, typer.Argument(help="Store to move it to: none may be there yet.")],
    check: Check = False,
    partitioner: Partitioner = None,
    input_: Input = None,
    group: Group = None,
    json: Json = False,
) -> None:
    """Move a store from SQLite to Kafka, or back. No run may use it meanwhile.

    Example: `streamrde state move state.db run.toml`
    """
    from streamrde.cluster.moving import move as move_store

    one, other = _place(source, input_, group), _place(target, input_, group)
    own = _partitioner(partitioner)
    with _progress() as show:
        if isinstance(one, Path):
            with _sqlite(one) as store:
                report = move_store(store, other, partitioner=own, check=check, show=show)
        else:
            report = move_store(one, other, partitioner=own, check=check, show=show)
    _print(report, json, "moved")


@app.command()
def compact(
    store: Store,
    older_than: OlderThan = None,
    ended: Ended = False,
    check: Check = False,
    input_: Input = None,
    group: Group = None,
    json: Json = False,
) -> None:
    """Delete old streams, and give their room back. No run may use the store meanwhile.

    A file of SQLite is also written anew without gaps. Kafka compacts by itself: streams are marked as deleted there.

    Example: `streamrde state compact state.db --older-than 30d`
    """
    place, before = _place(store, input_, group), _before(older_than)
    if ended and before is None:
        before = time.time()
    with _progress() as show:
        if isinstance(place, Path):
            report = _compact_file(place, before, only_ended=ended, check=check)
        else:
            from streamrde.cluster.thinning import thin

            if before is None:
                raise ConfigError(
                    "Kafka compacts a changelog by itself: say with --older-than or --ended what to delete"
                )
            report = thin(place, before=before, only_ended=ended, check=check, show=show)
    _print(report, json, "deleted")


@app.command()
def rehash(
    store: Store,
    keep_placed: Annotated[
        bool,
        typer.Option("--keep-placed", help="Of a stream in two partitions keep the state where it belonged before."),
    ] = False,
    check: Check = False,
    partitioner: Partitioner = None,
    input_: Input = None,
    group: Group = None,
    json: Json = False,
) -> None:
    """Give a changelog the partitions that its input has now, and each stream's state its new place.

    Example: `streamrde state rehash run.toml --check`
    """
    from streamrde.cluster.rehashing import rehash as rehash_changelog

    place = _place(store, input_, group)
    if isinstance(place, Path):
        raise ConfigError(f"{place} is a file of SQLite, which has no partitions: rehash is for a changelog in Kafka")
    with _progress() as show:
        report = rehash_changelog(
            place, partitioner=_partitioner(partitioner), keep_placed=keep_placed, check=check, show=show
        )
    report.notes.insert(
        0, f"{report.before} partitions before, {report.after} now, placed by {report.partitioner or 'nothing'}: "
        f"{report.moved:,} streams change theirs",
    )  # fmt: skip
    _print(report, json, "rehashed")


def _compact_file(path: Path, before: float | None, *, only_ended: bool, check: bool) -> Report:
    from streamrde.cluster.moving import Report
    from streamrde.state.records import Record

    report, size = Report(str(path), str(path), done=not check), path.stat().st_size if path.exists() else 0
    with _sqlite(path) as store:
        gone = list[str]()
        for record in store.records():
            if before is not None and record.saved < before and not (only_ended and record.data is not None):
                report.count(Record(record.name, record.data))
                gone.append(record.name)
        if not check:
            store.delete(gone)
            store.compact()
    if not check:
        report.notes.append(f"{size:,} bytes before, {path.stat().st_size:,} now")
    return report


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("starting") as status:
        yield status.update


@contextlib.contextmanager
def _sqlite(path: Path) -> Iterator[SqliteStore]:
    """Open the store in a file as its own run would. It is refused while a run has it."""
    from streamrde.state import SqliteStore

    if (identity := SqliteStore.identity_of(path)) is None and not (path.exists() and path.stat().st_size):
        raise StateError(f"there is no state store {path}: check the path, or [state] of the run")
    store = SqliteStore(path)
    store.open(identity or {})
    try:
        yield store
    finally:
        store.close()


@contextlib.contextmanager
def _opened(place: Place, show: Callable[[str], None]) -> Iterator[Contents]:
    if isinstance(place, Path):
        with _sqlite(place) as store:
            yield store
        return
    from streamrde.cluster.contents import ChangelogContents

    yield ChangelogContents(place, show=show)


def _place(text: str, source: str | None = None, group: str | None = None) -> Place:
    """Return the store that a text names: a path, or a changelog."""
    if text.startswith(("kafka://", "kafka+ssl://")):
        from streamrde.cluster.naming import place_of_url

        return place_of_url(text, source=source, group=group)
    if not text.endswith(".toml"):
        return Path(text)
    from streamrde.cluster.naming import place_of_run
    from streamrde.config import RunConfig
    from streamrde.disk import read_toml

    run = read_toml(text, RunConfig)
    if run.state is None:
        raise ConfigError(f"{text} has no [state]: its state dies with the process")
    if isinstance(path := getattr(run.state, "path", None), str):
        return Path(path)
    return place_of_run(run.source, run.state, config=text)


def _partitioner(given: str | None) -> Any:
    from streamrde.cluster.partitioners import PARTITIONERS

    if given is not None and given not in PARTITIONERS:
        raise ConfigError(f"--partitioner {given!r}: use {', '.join(PARTITIONERS)}")
    return given


def _before(older_than: str | None) -> float | None:
    from streamrde.config.durations import seconds_of

    return None if older_than is None else time.time() - seconds_of("--older-than", older_than)


def _row(record: Record) -> dict[str, Any]:
    return {
        "stream": record.name,
        "window": record.window,
        "bytes": len(record.data or b""),
        "saved": datetime.fromtimestamp(record.saved, UTC).isoformat(timespec="seconds") if record.saved else None,
        "ended": record.data is None,
        "model": record.model[:12],
        "partition": record.partition,
    }


def _table(rows: list[dict[str, Any]]) -> None:
    """Print rows below each other, each column as wide as it has to be."""
    if not rows:
        return
    names = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    texts = [names, *([_cell(row[name]) for name in names] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for line in texts:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value}"


def _print(report: Report, json: bool, verb: str) -> None:
    if json:
        print_json(msgspec.to_builtins(report))
        return
    what = verb if report.done else f"would be {verb}"
    where = report.source if report.source == report.target else f"{report.source} to {report.target}"
    print(f"{where}: {report.streams:,} streams and {report.ended:,} that ended {what}, {report.size:,} bytes")
    for note in report.notes:
        print(f"note: {note}")
