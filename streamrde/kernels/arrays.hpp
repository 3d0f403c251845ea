// What the module's files share: NumPy arrays as arguments and results, and the kernels for given sizes.
//
// The raw C API rather than a binding generator: a call costs 20 ns instead of 200, and a sample's update costs less.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#define PY_ARRAY_UNIQUE_SYMBOL streamrde_numpy
#ifndef STREAMRDE_IMPORTS_NUMPY
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

#include <cstdint>
#include <memory>
#include <new>

#include "kalman.hpp"
#include "layout.hpp"
#include "pooling.hpp"
#include "residual.hpp"
#include "sequence.hpp"
#include "stack.hpp"
#include "stepper.hpp"
#include "variant.hpp"

namespace streamrde {

constexpr int max_lanes = 8;
constexpr int max_depth = 32;

// The kernels of the chosen instruction set.
extern Kernel (*select_kernel)(int channels, int depth);
extern StepKernels step_kernels;
extern SequenceKernels sequence_kernels;
extern PoolingKernel pooling_kernel;
extern LabelKernel label_kernel;
extern StackKernels stack_kernels;
extern ResidualKernels residual_kernels;

// C + C^2 + ... + C^depth
npy_intp row_size(int channels, int depth);

// A C-contiguous, aligned array of the given type and number of axes, or null with TypeError set.
PyArrayObject* checked(PyObject* object, int type, int axes, const char* name);

// The same of the given shape, columns < 0: one axis; or null with ValueError set.
PyArrayObject* shaped(PyObject* object, int type, npy_intp rows, npy_intp columns, const char* name);

// (weight, bias, activation) as a layer of so many inputs, < 0: any; false with ValueError set.
template <typename T>
bool take_layer(PyObject* parts, int inputs, Layer<T>& made);

// How tokens are scaled; shift may be None. False with ValueError set.
bool take_scaling(PyObject* scale, PyObject* shift, double clip, int summaries, Scaling& scaling);

// (order, nodes, node, stage, weight) as a tableau; false with ValueError set.
bool take_tableau(PyObject* parts, Tableau& tableau);

// A new array with a copy of the data; columns < 0: one axis.
PyObject* array_from(const void* data, int type, npy_intp rows, npy_intp columns);

PyObject* object_new(PyTypeObject* type, PyObject*, PyObject*);

struct Release {
    void operator()(PyObject* object) const { Py_XDECREF(object); }
};
using Owned = std::unique_ptr<PyObject, Release>;

template <typename T>
constexpr int type_of = sizeof(T) == 4 ? NPY_FLOAT : NPY_DOUBLE;

template <typename T>
T* data(PyObject* array) {
    return static_cast<T*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(array)));
}

// A new array of the given shape, all 0; sizes < 0: no such axis.
template <typename T>
inline PyObject* zeros(npy_intp first, npy_intp second = -1, npy_intp third = -1) {
    npy_intp shape[3] = {first, second, third};
    return PyArray_ZEROS(second < 0 ? 1 : third < 0 ? 2 : 3, shape, type_of<T>, 0);
}

// The first item of a tuple, or null.
inline PyObject* first_of(PyObject* object) {
    return object && PyTuple_Check(object) && PyTuple_GET_SIZE(object) ? PyTuple_GET_ITEM(object, 0) : nullptr;
}

// run(number) with a number of an array's type, float or else double; null with MemoryError set where memory ran out.
template <typename Run>
PyObject* with_type_of(PyObject* array, const Run& run) {
    const bool is_float =
        array && PyArray_Check(array) && PyArray_TYPE(reinterpret_cast<PyArrayObject*>(array)) == NPY_FLOAT;
    try {
        return is_float ? run(0.0f) : run(0.0);
    } catch (const std::bad_alloc&) {
        return PyErr_NoMemory();
    }
}

template <typename F>
PyCFunction cast(F* function) {
    return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

// What `observe` notices in a channel of a stream; see reference.py.
STREAMRDE_ENUM(enum Event : std::int64_t, event, implausible, unseen, gone, far, seen_again, near_again);

// What each file gives to the module.
extern PyMethodDef path_functions[];
extern PyMethodDef sequence_functions[];
extern PyMethodDef residual_functions[];
extern PyMethodDef closing_functions[];
extern PyMethodDef kalman_functions[];
extern PyMethodDef observe_functions[];
extern PyType_Spec accumulator_spec;
extern PyType_Spec loop_spec;
extern PyType_Spec names_spec;
extern PyType_Spec novelty_spec;
extern PyType_Spec pooling_spec;
extern PyType_Spec stack_spec;
extern PyType_Spec stepper_spec;

}  // namespace streamrde
