"""What Python believes of the compiled extension is what it is."""

import ast
import inspect
import pathlib

import pytest

from streamrde import kernels
from streamrde.kernels import layout
from streamrde.kernels.outcome import CUT, EPISODE

native = pytest.importorskip("streamrde.kernels._native", reason="no compiled kernels: there was no C++ compiler")
STUB = ast.parse(pathlib.Path(kernels.__file__).with_name("_native.pyi").read_text(encoding="utf-8"))


def declared(body):
    """Names that a stub's body declares: functions by name, and classes with theirs."""
    functions = {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
    classes = {node.name: declared(node.body)[0] for node in body if isinstance(node, ast.ClassDef)}
    return functions, classes


FUNCTIONS, CLASSES = declared(STUB.body)


def public(names):
    return {name for name in names if not name.startswith("__")}


def test_the_stub_declares_what_the_extension_has():
    variables = {node.target.id for node in STUB.body if isinstance(node, ast.AnnAssign) and node.value is None}
    assert public(dir(native)) == set(FUNCTIONS) | set(CLASSES) | variables
    for name, functions in CLASSES.items():
        assert public(dir(getattr(native, name))) == public(functions)


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"variant", "variants"}))
def test_functions_take_as_many_arguments_as_the_stub_says(name):
    count = len(FUNCTIONS[name].args.posonlyargs)
    for given in (count - 1, count + 1):
        with pytest.raises(TypeError, match="argument"):
            getattr(native, name)(*(None,) * given)


@pytest.mark.parametrize(
    ("name", "method"), [(n, m) for n, methods in sorted(CLASSES.items()) for m in sorted(public(methods))]
)
def test_methods_of_objects_that_were_not_initialised_say_so(name, method):
    kind = getattr(native, name)
    arguments = CLASSES[name][method].args
    count = len(arguments.posonlyargs) - 1 - len(arguments.defaults)
    with pytest.raises((RuntimeError, TypeError)):
        getattr(kind.__new__(kind), method)(*(None,) * max(count, 0))


def test_twins_have_the_same_methods_and_parameters():
    for twin in (kernels.reference.Accumulator, kernels.reference.Names):
        for name, node in CLASSES[twin.__name__].items():
            parameters = list(inspect.signature(getattr(twin, name)).parameters)
            ours = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
            assert ours == parameters, name
    from streamrde.windowing.loop import ReferenceLoop

    for name, node in CLASSES["Loop"].items():
        if name != "__init__":
            parameters = list(inspect.signature(getattr(ReferenceLoop, name)).parameters)
            assert [argument.arg for argument in node.args.posonlyargs] == parameters, name


def test_functions_have_the_parameters_of_their_references():
    for name in ("fold", "log_words", "observe", "path_signatures"):
        parameters = list(inspect.signature(getattr(kernels.reference, name)).parameters)
        assert [argument.arg for argument in FUNCTIONS[name].args.posonlyargs] == parameters


def test_a_layout_that_differs_is_refused_at_import(monkeypatch):
    monkeypatch.setattr(layout, "LAYOUT", native.LAYOUT)  # the reference kernels have none
    layout.check_numbers("Fault", {"NONE": 0, "REJECTED": 1, "LATE": 2, "DUPLICATE": 3, "RESTARTED": 4})
    with pytest.raises(ImportError, match="install streamrde again"):
        layout.check_numbers("Fault", {"NONE": 0, "LATE": 1, "REJECTED": 2, "DUPLICATE": 3, "RESTARTED": 4})
    layout.check_fields("Cut", CUT)
    with pytest.raises(ImportError, match="Cut"):
        layout.check_fields("Cut", EPISODE)
    monkeypatch.setattr(layout, "LAYOUT", {})
    layout.check_fields("Cut", EPISODE)
