"""Recorded samples scored in batches: a plan of parts, workers on one machine or many, one committed output.

job         what is scored, with what, into what
scan, plan  which streams are where, and how they are divided into parts
scorer      a fleet over samples, with truth and states
part        one part, from commit to commit
folder      what of a job is on disk while it runs
worker      parts scored in a process; local and ray start them
run         a job from its files to its output
lazily      the same without a job: Arrow in, Arrow out
"""

from streamrde.scoring.entry import score
from streamrde.scoring.job import ColumnsConfig, Job
from streamrde.scoring.run import run_job
from streamrde.scoring.status import Status, Summary

__all__ = ["ColumnsConfig", "Job", "Status", "Summary", "run_job", "score"]
