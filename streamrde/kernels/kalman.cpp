// Updates of linear readouts by labels: the compiled twin of `kalman` in reference.py, in its order of operations.
#include <algorithm>
#include <cmath>
#include <new>
#include <vector>

#include "arrays.hpp"

namespace streamrde {
namespace {

// One output's readout and the inputs of its label.
struct Update {
    double *theta, *cov;  // (features,), (features, features)
    const double *phi, *prior;
    double innovation, noise, keep;
};

// `u` and `gain` are room to work in, (features,) each. Every loop over columns is elementwise: compilers may make
// vectors of it, and its bits do not depend on their width. At 64 features P has 32 KiB, as much as a core's first
// cache, and is read and written twice: once for the decay and P phi, once for the update.
void learn(const Update& own, std::ptrdiff_t features, double clip, double* u, double* gain) {
    const double decay = own.keep * own.keep, back = 1.0 - decay;
    for (std::ptrdiff_t i = 0; i < features; ++i) {
        double* row = own.cov + i * features;
        const double weight = own.phi[i];
        for (std::ptrdiff_t j = 0; j < features; ++j) row[j] *= decay;
        row[i] += back * own.prior[i];
        if (i == 0)
            for (std::ptrdiff_t j = 0; j < features; ++j) u[j] = row[j] * weight;
        else
            for (std::ptrdiff_t j = 0; j < features; ++j) u[j] += row[j] * weight;
    }
    double spread = own.phi[0] * u[0];
    for (std::ptrdiff_t i = 1; i < features; ++i) spread += own.phi[i] * u[i];
    const double s = own.noise + std::max(spread, 0.0), bound = clip * std::sqrt(s);
    const double innovation = std::min(std::max(own.innovation, -bound), bound);
    for (std::ptrdiff_t i = 0; i < features; ++i) gain[i] = u[i] / s;
    for (std::ptrdiff_t i = 0; i < features; ++i) own.theta[i] = own.theta[i] * own.keep + gain[i] * innovation;
    for (std::ptrdiff_t i = 0; i < features; ++i) {
        double* row = own.cov + i * features;
        const double k = gain[i], v = u[i];
        for (std::ptrdiff_t j = 0; j < features; ++j) row[j] -= (k * u[j] + v * gain[j]) - s * (k * gain[j]);
    }
}

PyObject* kalman(PyObject*, PyObject* const* arguments, Py_ssize_t given) {
    if (given != 9) return PyErr_Format(PyExc_TypeError, "kalman takes 9 arguments");
    PyArrayObject* rows = checked(arguments[0], NPY_DOUBLE, 2, "rows");
    PyArrayObject* slots = rows ? checked(arguments[1], NPY_INTP, 1, "slots") : nullptr;
    if (!slots) return nullptr;
    const Py_ssize_t start = PyNumber_AsSsize_t(arguments[2], PyExc_OverflowError);
    if (start == -1 && PyErr_Occurred()) return nullptr;
    PyArrayObject* phi = checked(arguments[3], NPY_DOUBLE, 3, "phi");
    PyArrayObject* innovation = phi ? checked(arguments[4], NPY_DOUBLE, 2, "innovation") : nullptr;
    PyArrayObject* noise = innovation ? checked(arguments[5], NPY_DOUBLE, 2, "noise") : nullptr;
    PyArrayObject* keep = noise ? checked(arguments[6], NPY_DOUBLE, 2, "keep") : nullptr;
    PyArrayObject* prior = keep ? checked(arguments[7], NPY_DOUBLE, 2, "prior") : nullptr;
    if (!prior) return nullptr;
    const double clip = PyFloat_AsDouble(arguments[8]);
    if (clip == -1.0 && PyErr_Occurred()) return nullptr;
    const npy_intp count = PyArray_DIM(phi, 0), outputs = PyArray_DIM(phi, 1), features = PyArray_DIM(phi, 2);
    const npy_intp width = PyArray_DIM(rows, 1), size = outputs * features;
    const auto* slot = static_cast<const npy_intp*>(PyArray_DATA(slots));
    bool fits = features > 0 && start >= 0 && size * (1 + features) <= width - start && PyArray_ISWRITEABLE(rows) &&
                PyArray_DIM(slots, 0) == count && PyArray_DIM(prior, 0) == outputs && PyArray_DIM(prior, 1) == features;
    for (PyArrayObject* array : {innovation, noise, keep})
        fits = fits && PyArray_DIM(array, 0) == count && PyArray_DIM(array, 1) == outputs;
    for (npy_intp i = 0; fits && i < count; ++i) fits = slot[i] >= 0 && slot[i] < PyArray_DIM(rows, 0);
    if (!fits) return PyErr_Format(PyExc_ValueError, "the arrays' shapes or slots do not belong together");
    const auto data = [](PyArrayObject* array) { return static_cast<double*>(PyArray_DATA(array)); };
    try {
        std::vector<double> room(2 * features);
        for (npy_intp i = 0; i < count; ++i) {
            double* row = data(rows) + slot[i] * width + start;
            for (npy_intp o = 0; o < outputs; ++o) {
                const npy_intp at = i * outputs + o;
                if (std::isnan(data(innovation)[at])) continue;
                const Update own{row + o * features,
                                 row + size + o * features * features,
                                 data(phi) + at * features,
                                 data(prior) + o * features,
                                 data(innovation)[at],
                                 data(noise)[at],
                                 data(keep)[at]};
                learn(own, features, clip, room.data(), room.data() + features);
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
