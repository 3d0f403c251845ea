"""Recorded samples scored in batches: a plan of parts, workers on one machine or many, one committed output.

entry       `score`, the public function
job         describe what is scored, with which model, into what
run         plan a job, score it, write its output
scan, plan  find the streams in files, and divide them into parts
worker      score parts in a process; local and ray start them
part        score one part, from commit to commit, with read_ahead's threads
scorer      a fleet over samples, with truth and states; states opens the stores
folder      keep what is done of a job on disk while it runs
assembly    put the parts together, with the truth that ahead looks up and evaluation measures by
output      write the output as a whole
status      describe the progress and the result
lazily      score without a job: Arrow in, Arrow out
features    `Features`: the columns that a readout would take, of live and recorded streams

The command line imports `job` for its options, so that nothing here is imported before it is used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamrde.scoring.entry import score
    from streamrde.scoring.job import ColumnsConfig, Job
    from streamrde.scoring.run import run_job
    from streamrde.scoring.status import Status, Summary

__all__ = ["ColumnsConfig", "Job", "Status", "Summary", "run_job", "score"]
_MODULES = {"ColumnsConfig": "job", "Job": "job", "Status": "status", "Summary": "status", "run_job": "run"}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use."""
    from importlib import import_module

    if name in __all__:
        return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'entry')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
