"""Score parts by Ray, on this machine or on many that share the files."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import msgspec

from streamrde.errors import ConfigError, MissingExtraError, WorkerError
from streamrde.scoring.local import RETRIES
from streamrde.scoring.worker import Done, Failure, Task, Work, decode_result, perform


class RayEngine:
    """Score parts as Ray tasks.

    Workers read the recorded files and write the job's folder themselves, so that both must be at the same paths
    everywhere, and streamrde installed. Nothing but a part's number and its counts travels through Ray. A task whose
    worker is killed is run again, and goes on from the part's last commit.

    Args:
        jobs: tasks at the same time.
        address: of a cluster, as ``ray.init`` takes it; "" = start one on this machine, with `jobs` processors.
    """

    def __init__(self, jobs: int, *, address: str = "") -> None:
        self._jobs = jobs
        self._address = address

    def run(
        self, work: Work, parts: Sequence[int], on_rows: Callable[[int], None]
    ) -> Generator[tuple[int, Done | Failure], None, None]:
        """See Engine."""
        ray = _ray()
        own = not ray.is_initialized()
        if own:
            self._connect(ray)
        score = ray.remote(num_cpus=1, max_retries=RETRIES)(_score)
        waiting = list(reversed(parts))
        running: dict[Any, int] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self._jobs:
                    part = waiting.pop()
                    running[score.remote(msgspec.json.encode(Task(str(work.folder.path.resolve()), part)))] = part
                (ready,), _ = ray.wait(list(running), num_returns=1)
                part = running.pop(ready)
                try:
                    message = decode_result(ray.get(ready))
                except ray.exceptions.RayError as error:
                    reason = str(error).strip().split("\n")[0]
                    raise WorkerError(
                        f"part {part} failed on its Ray worker ({reason}); use --resume to continue"
                    ) from None
                if isinstance(message, Done):
                    on_rows(message.done.rows)
                yield part, message
        finally:
            for task in running:
                ray.cancel(task, force=True)
            if own:
                ray.shutdown()

    def _connect(self, ray: Any) -> None:
        settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self._address:
            settings["address"] = self._address
        else:
            # Nothing is kept in the object store; by default it would claim a third of the memory.
            settings |= {"num_cpus": self._jobs, "include_dashboard": False, "object_store_memory": 100 << 20}
        try:
            ray.init(**settings)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"Ray at {self._address or 'this machine'} cannot be reached ({error}); check --ray-address"
            ) from None


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise MissingExtraError("engine = 'ray'", "ray") from None
    return ray


def _score(task: bytes) -> bytes:
    """Score a part on a Ray worker."""
    return msgspec.json.encode(perform(msgspec.json.decode(task, type=Task), lambda rows: None))
