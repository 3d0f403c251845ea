// The Python module: the compiled kernels on NumPy arrays. See reference.py for what each function means.
#define STREAMRDE_IMPORTS_NUMPY
#include <cstring>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "loop.hpp"

namespace streamrde {

Kernel (*select_kernel)(int, int) = select_baseline;

npy_intp row_size(int channels, int depth) {
    npy_intp size = 0, power = 1;
    for (int k = 0; k < depth; ++k) size += (power *= channels);
    return size;
}

static const char* name_of(int type) {
    switch (type) {
        case NPY_DOUBLE:
            return "float64";
        case NPY_FLOAT:
            return "float32";
        case NPY_INT32:
            return "int32";
        case NPY_UINT32:
            return "uint32";
        case NPY_UINT8:
            return "uint8";
        default:
            return "intp";
    }
}

// A C-contiguous, aligned array of the given type and number of axes, or null with TypeError set.
PyArrayObject* checked(PyObject* object, int type, int axes, const char* name) {
    if (!PyArray_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s must be a NumPy array", name);
        return nullptr;
    }
    auto* array = reinterpret_cast<PyArrayObject*>(object);
    if (PyArray_TYPE(array) != type || PyArray_NDIM(array) != axes || !PyArray_IS_C_CONTIGUOUS(array) ||
        !PyArray_ISALIGNED(array) || PyArray_ISBYTESWAPPED(array)) {
        PyErr_Format(PyExc_TypeError, "%s must be C-contiguous, with %d axes, of %s", name, axes, name_of(type));
        return nullptr;
    }
    return array;
}

PyObject* array_from(const void* data, int type, npy_intp rows, npy_intp columns) {
    npy_intp shape[2] = {rows, columns};
    PyObject* array = PyArray_SimpleNew(columns < 0 ? 1 : 2, shape, type);
    if (!array) return nullptr;
    auto* target = reinterpret_cast<PyArrayObject*>(array);
    if (PyArray_NBYTES(target)) std::memcpy(PyArray_DATA(target), data, PyArray_NBYTES(target));
    return array;
}

PyObject* object_new(PyTypeObject* type, PyObject*, PyObject*) { return type->tp_alloc(type, 0); }

namespace {

// What runs on one instruction set.
struct Variant {
    const char* name;
    Kernel (*select)(int channels, int depth);
    StepKernels (*steps)();
    SequenceKernels (*sequences)();
    PoolingKernel (*pooling)();
    StackKernels (*stacks)();
    ResidualKernels (*residuals)();
    LabelKernel (*labels)();
};

const Variant* running = nullptr;

// The variants that this processor has, the best one first.
std::vector<Variant> find_variants() {
    std::vector<Variant> found;
#ifdef STREAMRDE_X86
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512dq");
    if (avx512)
        found.push_back({"avx512", select_avx512, steps_avx512, sequences_avx512, pooling_avx512, stacks_avx512,
                         residuals_avx512, labels_avx512});
    if (avx2)
        found.push_back(
            {"avx2", select_avx2, steps_avx2, sequences_avx2, pooling_avx2, stacks_avx2, residuals_avx2, labels_avx2});
#endif
    found.push_back({"baseline", select_baseline, steps_baseline, sequences_baseline, pooling_baseline, stacks_baseline,
                     residuals_baseline, labels_baseline});
    return found;
}

const std::vector<Variant>& variants() {
    static const std::vector<Variant> found = find_variants();
    return found;
}

void run(const Variant& chosen) {
    running = &chosen;
    select_kernel = chosen.select;
    step_kernels = chosen.steps();
    sequence_kernels = chosen.sequences();
    pooling_kernel = chosen.pooling();
    stack_kernels = chosen.stacks();
    residual_kernels = chosen.residuals();
    label_kernel = chosen.labels();
}

PyObject* choose(PyObject*, PyObject* wanted) {
    const char* name = wanted == Py_None ? variants().front().name : PyUnicode_AsUTF8(wanted);
    if (!name) return nullptr;
    for (const Variant& variant : variants()) {
        if (std::strcmp(variant.name, name)) continue;
        run(variant);
        return PyUnicode_FromString(name);
    }
    // Nothing has changed: whoever asks for what is not there goes on with what there was.
    return PyErr_Format(PyExc_ValueError, "this processor or build has no variant %R", wanted);
}

PyObject* variant(PyObject*, PyObject*) { return PyUnicode_FromString(running->name); }

PyObject* all_variants(PyObject*, PyObject*) {
    PyObject* names = PyTuple_New(static_cast<Py_ssize_t>(variants().size()));
    for (std::size_t i = 0; names && i < variants().size(); ++i) {
        PyObject* name = PyUnicode_FromString(variants()[i].name);
        if (!name) Py_CLEAR(names);
        else PyTuple_SET_ITEM(names, static_cast<Py_ssize_t>(i), name);
    }
    return names;
}

PyMethodDef functions[] = {
    {"choose", choose, METH_O, nullptr},
    {"variant", variant, METH_NOARGS, nullptr},
    {"variants", all_variants, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_native", nullptr, -1, functions, nullptr, nullptr, nullptr, nullptr};

// Text of the declarations that Python has too; see layout.hpp.
constexpr std::pair<const char*, const char*> declarations[] = {
    {"Activation", activation_names}, {"Cell", cell_names},        {"Column", column_names},
    {"Duplicates", duplicates_names}, {"Event", event_names},      {"Fault", fault_names},
    {"Window", window_fields},        {"Episode", episode_fields}, {"PoolKind", pool_kind_names},
    {"Unused", unused_fields},        {"Cut", cut_fields},         {"Sum", summary::sum_names},
    {"Trace", wave::trace_names},     {"Wave", wave::wave_names},  {"Pulse", beat::pulse_names},
};

bool add_layout(PyObject* module) {
    PyObject* layout = PyDict_New();
    bool added = layout != nullptr;
    for (const auto& [name, text] : declarations) {
        PyObject* value = added ? PyUnicode_FromString(text) : nullptr;
        added = value && PyDict_SetItemString(layout, name, value) == 0;
        Py_XDECREF(value);
    }
    added = added && PyModule_AddObjectRef(module, "LAYOUT", layout) == 0;
    Py_XDECREF(layout);
    return added;
}

PyObject* make_module() {
    PyObject* module = PyModule_Create(&definition);
    if (!module || PyModule_AddFunctions(module, path_functions) < 0 ||
        PyModule_AddFunctions(module, sequence_functions) < 0 ||
        PyModule_AddFunctions(module, residual_functions) < 0 || PyModule_AddFunctions(module, closing_functions) < 0 ||
        PyModule_AddFunctions(module, observe_functions) < 0 || PyModule_AddFunctions(module, kalman_functions) < 0 ||
        !add_layout(module)) {
        Py_XDECREF(module);
        return nullptr;
    }
    const std::pair<const char*, PyType_Spec*> types[] = {
        {"Accumulator", &accumulator_spec}, {"Loop", &loop_spec},       {"Names", &names_spec},
        {"Novelty", &novelty_spec},         {"Pooling", &pooling_spec}, {"Stack", &stack_spec},
        {"Stepper", &stepper_spec}};
    for (const auto& [name, spec] : types) {
        PyObject* type = PyType_FromSpec(spec);
        if (!type || PyModule_AddObject(module, name, type) < 0) {
            Py_XDECREF(type);
            Py_DECREF(module);
            return nullptr;
        }
    }
    return module;
}

}  // namespace
}  // namespace streamrde

PyMODINIT_FUNC PyInit__native() {
    import_array();
    streamrde::run(streamrde::variants().front());
    return streamrde::make_module();
}
