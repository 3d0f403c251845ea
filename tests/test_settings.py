"""Tables become structs, and what is wrong with them is named with what is allowed."""

import tomllib

import pytest

from streamrde.config import RunConfig
from streamrde.errors import ConfigError
from streamrde.models.training.config import TrainConfig, as_train_config
from streamrde.nearest import either, listed, nearest
from streamrde.scoring import Job
from streamrde.settings import convert, keys_of

DATA = '[data]\nfiles = "x"\nchannels = ["a", "b"]\ntarget = "y"\n'
RUN = 'model = "m"\n[sink]\nkind = "arrow"\npath = "p"\n[source]\n'


OTHER = "'dead_letters.url': it is a key of another kind"


def refused(text, kind):
    with pytest.raises(ConfigError) as caught:
        as_train_config(tomllib.loads(text)) if kind is TrainConfig else convert(tomllib.loads(text), kind)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "kind", "parts"),
    [
        # A key that is not there: the nearest, and all that are.
        (f"{DATA}[training]\nepoch = 5", TrainConfig, ["'training.epoch'", "did you mean 'training.epochs'?"]),
        (f"{DATA}[training]\nlr = 0.1", TrainConfig, ["did you mean 'training.learning_rate'?", "batch_size"]),
        (f"{DATA}[training]\nlearningrate = 0.1", TrainConfig, ["did you mean 'training.learning_rate'?"]),
        (f"{DATA}[training]\nbatch-size = 3", TrainConfig, ["did you mean 'training.batch_size'?"]),
        (f"{DATA}[training]\nzzz = 3", TrainConfig, ["'training.zzz'; [training] may have epochs, batch_size"]),
        ('modle = "m"', RunConfig, ["'modle'", "did you mean 'model'?", "the file may have model, source"]),
        ("[column]\ntime = 't'", Job, ["did you mean 'columns'?"]),
        # In another table than its own.
        (f"{DATA}epochs = 3", TrainConfig, ["'data.epochs'", "did you mean 'training.epochs'?"]),
        (f'{DATA}[model]\nactivation = "relu"', TrainConfig, ["did you mean 'model.field.activation'?"]),
        (f'{RUN}kind = "mqtt"\nurl = "u"\n[dead_letters]\nkind = "file"\nurl = "f"', RunConfig, [OTHER]),
        # A table's name.
        (f"{DATA}[trianing]\nepochs = 3", TrainConfig, ["'trianing'", "did you mean 'training'?"]),
        (f"{DATA}[model.feild]\nwidth = 3", TrainConfig, ["did you mean 'model.field'?"]),
        (f"{RUN}kind = 'mqtt'\nurl = 'u'\n[source.tsl]\nca = 'c'", RunConfig, ["did you mean 'source.tls'?"]),
        # A choice that is none.
        (f'{DATA}[windows]\npolicy = "seconds"', TrainConfig, ['"adaptive", "count"', '"every"', "'every' has"]),
        (f'{DATA}[windows]\npolicy = "Every"', TrainConfig, ["did you mean 'every'?"]),
        (f"{DATA}[windows]\nseconds = 2.0", TrainConfig, ["'windows.policy' is missing", "'every' has the key 'sec"]),
        (f'{RUN}kind = "pigeon"', RunConfig, ['source.kind = "pigeon": use "']),
        (f'{RUN}url = "u"', RunConfig, ["'source.kind' is missing", "'mqtt'", "have the key 'url'"]),
        (f'{RUN}kind = "mqtt"\nurl = "u"\nqos = 2', RunConfig, ["source.qos = 2: use 0 or 1"]),
        (f'{RUN}kind = "mqtt"\nurl = "u"\nversion = 5', RunConfig, ['use "3.1.1" or "5"; write "5", with quotes']),
        (f'{RUN}kind = "mqtt"\nurl = "u"\ncodec = "cbro"', RunConfig, ['"cbor"', "did you mean 'cbor'?"]),
        ('engine = "proceses"', Job, ["did you mean 'processes'?"]),
        ('features = ["states"]', Job, ["features[0]", "did you mean 'state'?"]),
        ('filters = [["a", "=", 1]]', Job, ["filters[0][1]", '"=="']),
        (f'{DATA}[model]\nsubsteps = "aut"', TrainConfig, ["a whole number >= 1", 'or "auto" (did you mean']),
        (f'{DATA}[model]\nsolver = "rk45"', TrainConfig, ['"euler", "midpoint" or "rk4"']),
        # A wrong type.
        (f'{DATA}[training]\nepochs = "3"', TrainConfig, ["a whole number >= 1; write 3 without quotes"]),
        (f"{DATA}[training]\nepochs = 2.5", TrainConfig, ["training.epochs = 2.5: expected a whole number >= 1"]),
        (f"{DATA}[training]\nlearning_rate = nan", TrainConfig, ["learning_rate = nan: expected a number > 0"]),
        (f"{DATA}[training]\nbetas = [0.9]", TrainConfig, ["expected a list of 2"]),
        (f'{DATA}[split]\nvalidation = "0.2"', TrainConfig, ["split.validation"]),
        ('[data]\nfiles = "x"\nchannels = "c0"\ntarget = "y"', TrainConfig, ["data.channels", 'write ["c0"]']),
        ('[data]\nfiles = "x"\nchannels = [1]\ntarget = "y"', TrainConfig, ["data.channels[0] = 1", "name, unit"]),
        ('model = "m"\nsource = "mqtt://x"', RunConfig, ["source", 'expected a table with kind = "']),
        ("jobs = true", Job, ["jobs = true: expected a whole number >= 1"]),
        # A value out of its range, also by a struct's own check.
        ("jobs = 0", Job, ["jobs = 0: expected a whole number >= 1"]),
        (f'{DATA}[windows]\npolicy = "every"\nseconds = -1', TrainConfig, ["windows: Every(seconds=-1.0)"]),
        (f"{DATA}[missing]\nwait_samples = 0", TrainConfig, ["missing: Missing(wait_samples=0)"]),
        # One that is missing.
        ('[data]\nfiles = "x"\ntarget = "y"', TrainConfig, ["'data.channels' is missing"]),
        ("", RunConfig, ["'model' is missing: give text"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_what_is_allowed(text, kind, parts):
    message = refused(text, kind)
    for part in parts:
        assert part in message
    assert "`" not in message
    assert "$" not in message


def test_a_unit_that_is_none_is_listed_and_no_nearest_is_made_up():
    message = refused('[data]\nfiles = "x"\nchannels = ["a"]\ntarget = "y"\ntime_unit = "mm"', TrainConfig)
    assert "time_unit = 'mm': use one of s, ms" in message
    assert "did you mean 'ms'" not in message


def test_channels_may_be_plain_names():
    named = as_train_config(tomllib.loads(DATA))
    written = as_train_config(tomllib.loads(DATA.replace('["a", "b"]', '[{ name = "a" }, { name = "b", unit = "" }]')))
    assert named == written
    assert as_train_config({"data": {"files": "x", "channels": ("a",), "target": "y"}}).data.channels[0].name == "a"
    assert len(as_train_config(tomllib.loads(DATA), ['data.channels=["c", "d", "e"]']).data.channels) == 3


def test_settings_of_the_command_line_have_the_same_errors():
    with pytest.raises(ConfigError, match=r"unknown key 'training\.lr'; did you mean 'training\.learning_rate'"):
        as_train_config(tomllib.loads(DATA), ["training.lr=1"])
    with pytest.raises(ConfigError, match=r'training\.schedule = "cosin": use "constant", "cosine" or "plateau"'):
        as_train_config(tomllib.loads(DATA), ["training.schedule=cosin"])
    with pytest.raises(ConfigError, match="expected a table"):
        as_train_config(tomllib.loads(DATA), ["training=3"])


def test_keys_are_those_of_all_tables_in_a_struct():
    keys = keys_of(TrainConfig)
    assert {"data.files", "windows.norm", "model.field.width", "data.channels", "novelty"} <= keys


@pytest.mark.parametrize(
    ("name", "names", "found"),
    [
        ("learning_rte", ["epochs", "learning_rate"], "learning_rate"),
        ("LR", ["epochs", "learning_rate"], "learning_rate"),
        ("Time-Unit", ["time", "time_unit"], "time_unit"),
        ("accX", ["ax", "accx"], "accx"),
        ("acc", ["acc_x", "gyro"], "acc_x"),
        ("min", ["s", "ms", "us"], None),
        ("kafka", ["mqtt", "arrow"], None),
        ("x", [], None),
    ],
)
def test_the_nearest_name_is_the_one_that_was_probably_meant(name, names, found):
    assert nearest(name, names) == found


def test_lists_are_cut_where_they_are_long_and_choices_are_quoted():
    assert listed(map(str, range(100)), most=2) == "0, 1, and 98 more"
    assert either([0, "a", "b"]) == '0, "a" or "b"'
    assert either(["a"]) == '"a"'
