// Updates of linear readouts by labels: the compiled twin of `kalman` in reference.py, in its order of operations.
#include <algorithm>
#include <cmath>
#include <new>
#include <vector>

#include "arrays.hpp"

namespace streamrde {
namespace {

constexpr std::ptrdiff_t lanes = 8;

// One output's readout and the inputs of its label.
struct Update {
    double *theta, *cov;  // (features,), and rows of P's lower triangle, one after the other
    const double *phi, *prior;
    double residual, noise, keep;
};

// Sums in eight lanes, which are then folded: the order is fixed, and compilers may make vectors of any width of it.
double dot(const double* a, const double* b, std::ptrdiff_t count) {
    double sum[lanes] = {};
    std::ptrdiff_t j = 0;
    for (; j + lanes <= count; j += lanes)
        for (std::ptrdiff_t k = 0; k < lanes; ++k) sum[k] += a[j + k] * b[j + k];
    for (std::ptrdiff_t k = 0; j + k < count; ++k) sum[k] += a[j + k] * b[j + k];
    return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

// u = P phi. Each row of the triangle is read once, for the entry of its own number and for those before it.
void multiply(const double* row, const double* phi, std::ptrdiff_t features, double* u) {
    for (std::ptrdiff_t i = 0; i < features; row += ++i) {
        const double weight = phi[i];
        u[i] = dot(row, phi, i) + row[i] * weight;
        for (std::ptrdiff_t j = 0; j < i; ++j) u[j] += row[j] * weight;
    }
}

// `u`, `gain` and `rest` are room to work in, (features,) each. Loops over columns are elementwise, or sums of fixed
// lanes: their bits do not depend on the width of vectors. At 64 features the triangle has 16 KiB. It is read from
// memory once, for P phi, and then lies in the first cache for the update.
void learn(const Update& own, std::ptrdiff_t features, double clip, double most, double* u, double* gain,
           double* rest) {
    const double decay = own.keep * own.keep, back = 1.0 - decay;
    multiply(own.cov, own.phi, features, u);
    for (std::ptrdiff_t i = 0; i < features; ++i) u[i] = decay * u[i] + back * own.prior[i] * own.phi[i];
    const double s = own.noise + std::max(dot(own.phi, u, features), 0.0), bound = clip * std::sqrt(s);
    const double correction = std::min(std::max(dot(own.theta, own.phi, features), -most), most);
    const double innovation = std::min(std::max(own.residual - own.keep * correction, -bound), bound);
    for (std::ptrdiff_t i = 0; i < features; ++i) gain[i] = u[i] / s;
    for (std::ptrdiff_t i = 0; i < features; ++i) rest[i] = u[i] - s * gain[i];
    for (std::ptrdiff_t i = 0; i < features; ++i) own.theta[i] = own.theta[i] * own.keep + gain[i] * innovation;
    double* row = own.cov;
    for (std::ptrdiff_t i = 0; i < features; row += ++i) {
        const double k = gain[i], v = rest[i];
        for (std::ptrdiff_t j = 0; j <= i; ++j) row[j] = row[j] * decay - (k * u[j] + v * gain[j]);
        row[i] += back * own.prior[i];
    }
}

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
                const Update own{row + o * features,
                                 row + size + o * triangle,
                                 data(phi) + at * features,
                                 data(prior) + o * features,
                                 data(residual)[at],
                                 data(noise)[at],
                                 data(keep)[at]};
                learn(own, features, clip, most, room.data(), room.data() + features, room.data() + 2 * features);
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
