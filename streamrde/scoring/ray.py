"""Score parts by Ray, on this machine or on many that share the files."""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator, Sequence
from typing import Any

import msgspec

from streamrde import __version__
from streamrde.errors import ConfigError, MissingExtraError, WorkerError
from streamrde.scoring.local import RETRIES
from streamrde.scoring.worker import Done, Failure, Task, Work, decode_result, perform

# Ray's own client tries an address for more than three minutes, and says nothing meanwhile.
_ANSWER_WITHIN = 5.0


class RayEngine:
    """Score parts as Ray tasks.

    Workers read the recorded files and write the job's folder themselves, so that both must be at the same paths
    everywhere, and the same version of streamrde installed. Nothing but a part's number and its counts travels through
    Ray. A task whose worker is killed is run again, and goes on from the part's last commit.

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
                    task = msgspec.json.encode(Task(str(work.folder.path.resolve()), part))
                    running[score.remote(task, __version__)] = part
                (ready,), _ = ray.wait(list(running), num_returns=1)
                part = running.pop(ready)
                try:
                    message = decode_result(ray.get(ready))
                except ray.exceptions.RayError as error:
                    # The text of an error that a task raised is its traceback.
                    reason = str(getattr(error, "cause", None) or error).strip().split("\n")[0]
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
            _probe(ray, self._address)
            settings["address"] = self._address
        else:
            # Nothing is kept in the object store; by default it would claim a third of the memory.
            settings |= {
                "address": "local",
                "num_cpus": self._jobs,
                "include_dashboard": False,
                "object_store_memory": 100 << 20,
            }
        place = f"Ray at {self._address or 'this machine'}"
        try:
            ray.init(**settings)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            if reason.startswith("Version mismatch"):
                raise ConfigError(
                    f"{place} has other versions ({reason}); install the same Ray and Python on all machines"
                ) from None
            raise ConfigError(f"{place} cannot be reached ({reason}); check --ray-address") from None


def _probe(ray: Any, address: str) -> None:
    """Raise ConfigError if nobody listens at an address of a host and port."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    if host in ("localhost", "127.0.0.1"):
        host = ray.util.get_node_ip_address()  # as Ray does
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_WITHIN).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"Ray at {address} cannot be reached ({error}); check --ray-address") from None


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise MissingExtraError("engine = 'ray'", "ray") from None
    return ray


def _score(task: bytes, version: str) -> bytes:
    """Score a part on a Ray worker."""
    if version != __version__:
        return msgspec.json.encode(
            Failure(
                f"a Ray worker on {socket.gethostname()} has streamrde {__version__}, but the job was started by "
                f"{version}; install the same version on all machines",
                kind="ConfigError",
            )
        )
    return msgspec.json.encode(perform(msgspec.json.decode(task, type=Task), lambda rows: None))
