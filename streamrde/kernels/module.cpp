// The Python module: the compiled kernels on NumPy arrays. See reference.py for what each function means.
#define STREAMRDE_IMPORTS_NUMPY
#include <cstring>
#include <utility>

#include "arrays.hpp"

namespace streamrde {

Kernel (*select_kernel)(int, int) = select_baseline;

npy_intp row_size(int channels, int depth) {
    npy_intp size = 0, power = 1;
    for (int k = 0; k < depth; ++k) size += (power *= channels);
    return size;
}

static const char* name_of(int type) {
    switch (type) {
        case NPY_DOUBLE: return "float64";
        case NPY_FLOAT: return "float32";
        case NPY_INT32: return "int32";
        case NPY_UINT8: return "uint8";
        default: return "intp";
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
        PyErr_Format(PyExc_TypeError, "%s must be C-contiguous, with %d axes, of %s", name, axes,
                     name_of(type));
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

PyObject* object_new(PyTypeObject* type, PyObject*, PyObject*) {
    return type->tp_alloc(type, 0);
}

namespace {

const char* variant = "baseline";

// Takes the best instruction set of this processor, or the one named. Returns false, and changes nothing, where the
// processor lacks that one.
bool choose_variant(const char* wanted) {
#ifdef STREAMRDE_X86
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512dq");
    if (avx512 && (!wanted || !std::strcmp(wanted, "avx512"))) {
        variant = "avx512";
        select_kernel = select_avx512;
        step_kernels = steps_avx512();
        sequence_kernels = sequences_avx512();
        return true;
    }
    if (avx2 && (!wanted || !std::strcmp(wanted, "avx2"))) {
        variant = "avx2";
        select_kernel = select_avx2;
        step_kernels = steps_avx2();
        sequence_kernels = sequences_avx2();
        return true;
    }
#endif
    if (wanted && std::strcmp(wanted, "baseline")) return false;
    variant = "baseline";
    select_kernel = select_baseline;
    step_kernels = steps_baseline();
    sequence_kernels = sequences_baseline();
    return true;
}

PyObject* choose(PyObject*, PyObject* wanted) {
    const char* name = wanted == Py_None ? nullptr : PyUnicode_AsUTF8(wanted);
    if (wanted != Py_None && !name) return nullptr;
    if (!choose_variant(name)) return PyErr_Format(PyExc_ValueError, "this processor or build has no variant %R", wanted);
    return PyUnicode_FromString(variant);
}

PyObject* current_variant(PyObject*, PyObject*) {
    return PyUnicode_FromString(variant);
}

PyMethodDef functions[] = {
    {"choose", choose, METH_O, nullptr},
    {"variant", current_variant, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_native", nullptr, -1, functions, nullptr, nullptr, nullptr, nullptr};

PyObject* make_module() {
    PyObject* module = PyModule_Create(&definition);
    if (!module || PyModule_AddFunctions(module, path_functions) < 0 || PyModule_AddFunctions(module, sequence_functions) < 0) {
        Py_XDECREF(module);
        return nullptr;
    }
    const std::pair<const char*, PyType_Spec*> types[] = {
        {"Accumulator", &accumulator_spec}, {"Loop", &loop_spec}, {"Names", &names_spec}, {"Novelty", &novelty_spec}, {"Stepper", &stepper_spec}};
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
    streamrde::choose_variant(nullptr);
    return streamrde::make_module();
}
