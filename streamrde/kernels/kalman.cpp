// Updates of linear readouts by labels: the compiled twin of `kalman` in reference.py, in its order of operations.
#include <cmath>
#include <new>
#include <vector>

#include "arrays.hpp"

namespace streamrde {

LabelKernel label_kernel = labels_baseline();

namespace {

PyObject* kalman(PyObject*, PyObject* const* arguments, Py_ssize_t given) {
    if (given != 10) return PyErr_Format(PyExc_TypeError, "kalman takes 10 arguments");
    PyArrayObject* rows = checked(arguments[0], NPY_DOUBLE, 2, "rows");
    PyArrayObject* slots = rows ? checked(arguments[1], NPY_INTP, 1, "slots") : nullptr;
    if (!slots) return nullptr;
    const Py_ssize_t start = PyNumber_AsSsize_t(arguments[2], PyExc_OverflowError);
    if (start == -1 && PyErr_Occurred()) return nullptr;
    PyArrayObject* phi = checked(arguments[3], NPY_DOUBLE, 3, "phi");
    PyArrayObject* residual = phi ? checked(arguments[4], NPY_DOUBLE, 2, "residual") : nullptr;
    PyArrayObject* noise = residual ? checked(arguments[5], NPY_DOUBLE, 2, "noise") : nullptr;
    PyArrayObject* keep = noise ? checked(arguments[6], NPY_DOUBLE, 2, "keep") : nullptr;
    PyArrayObject* prior = keep ? checked(arguments[7], NPY_DOUBLE, 2, "prior") : nullptr;
    if (!prior) return nullptr;
    const double clip = PyFloat_AsDouble(arguments[8]);
    if (clip == -1.0 && PyErr_Occurred()) return nullptr;
    const double most = PyFloat_AsDouble(arguments[9]);
    if (most == -1.0 && PyErr_Occurred()) return nullptr;
    const npy_intp count = PyArray_DIM(phi, 0), outputs = PyArray_DIM(phi, 1), features = PyArray_DIM(phi, 2);
    const npy_intp width = PyArray_DIM(rows, 1), size = outputs * features;
    const npy_intp triangle = features * (features + 1) / 2;
    const auto* slot = static_cast<const npy_intp*>(PyArray_DATA(slots));
    bool fits = features > 0 && start >= 0 && size + outputs * triangle <= width - start && PyArray_ISWRITEABLE(rows) &&
                PyArray_DIM(slots, 0) == count && PyArray_DIM(prior, 0) == outputs && PyArray_DIM(prior, 1) == features;
    for (PyArrayObject* array : {residual, noise, keep})
        fits = fits && PyArray_DIM(array, 0) == count && PyArray_DIM(array, 1) == outputs;
    for (npy_intp i = 0; fits && i < count; ++i) fits = slot[i] >= 0 && slot[i] < PyArray_DIM(rows, 0);
    if (!fits) return PyErr_Format(PyExc_ValueError, "the arrays' shapes or slots do not belong together");
    const auto data = [](PyArrayObject* array) { return static_cast<double*>(PyArray_DATA(array)); };
    try {
        std::vector<double> room(3 * features);
        for (npy_intp i = 0; i < count; ++i) {
            double* row = data(rows) + slot[i] * width + start;
            for (npy_intp o = 0; o < outputs; ++o) {
                const npy_intp at = i * outputs + o;
                if (std::isnan(data(residual)[at])) continue;
                const LabelUpdate own{row + o * features,
                                      row + size + o * triangle,
                                      data(phi) + at * features,
                                      data(prior) + o * features,
                                      data(residual)[at],
                                      data(noise)[at],
                                      data(keep)[at]};
                label_kernel(own, features, clip, most, room.data());
            }
        }
    } catch (const std::bad_alloc&) {
        return PyErr_NoMemory();
    }
    Py_RETURN_NONE;
}

}  // namespace

PyMethodDef kalman_functions[] = {
    {"kalman", cast(kalman), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace streamrde
