"""The settings of scoring have one description, `Job`: options and keywords follow it."""

from streamrde.cli.options import DIALECT
from streamrde.cli.score import _COLUMNS, _JOB
from streamrde.connectors.dialect import Dialect
from streamrde.scoring.entry import Settings
from streamrde.scoring.job import ColumnsConfig, Job

OWN_OPTIONS = {"files", "columns", "faults"}  # the argument, the group of options below, and --skip-faults
ONLY_IN_A_FILE = {"state_identity", "plausible", "order", "batch_rows", "sort_memory", "commit_seconds"}
OWN_KEYWORDS = {"model", "files", "out", "columns"}


def test_every_key_of_a_job_has_an_option_or_stands_in_a_configuration_only():
    assert set(_JOB) | OWN_OPTIONS | ONLY_IN_A_FILE == set(Job.__struct_fields__)
    in_a_file = {"scale", "offset", "rate", "records", "others", "missing", "words", "limits"}
    assert set(_COLUMNS) | in_a_file | {"csv"} == set(ColumnsConfig.__struct_fields__)
    assert set(DIALECT) | {"header", "units_row", "quote"} == set(Dialect.__struct_fields__)


def test_every_key_of_a_job_is_a_keyword_of_score():
    keys = (set(Job.__struct_fields__) - OWN_KEYWORDS) | set(ColumnsConfig.__struct_fields__)
    assert set(Settings.__annotations__) == keys
