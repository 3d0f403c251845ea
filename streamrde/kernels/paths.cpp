// Signatures of whole paths and their logarithms, many rows in one call.
#include <algorithm>
#include <new>
#include <numeric>
#include <vector>

#include "arrays.hpp"
#include "word_table.hpp"

namespace streamrde {
namespace {

// Appends to each row its run of pieces, as many rows at a time as the kernel has lanes.
void fold_rows(const Kernel& kernel, int channels, int depth, double* S, npy_intp row, const double* data,
               const npy_intp* start, const npy_intp* length, npy_intp rows, bool points) {
    const auto one = [&](double* signature, const double* from, npy_intp pieces) {
        if (points) kernel.follow(channels, depth, signature, from, from + channels, pieces);
        else kernel.fold(channels, depth, signature, from, pieces);
    };
    if (!kernel.fold_lanes || rows == 1) {
        for (npy_intp r = 0; r < rows; ++r) one(S + r * row, data + start[r] * channels, length[r]);
        return;
    }
    // Rows of like length stand together, so that few lanes run empty.
    std::vector<npy_intp> order(rows);
    std::iota(order.begin(), order.end(), npy_intp{0});
    std::stable_sort(order.begin(), order.end(), [length](npy_intp a, npy_intp b) { return length[a] > length[b]; });
    double* targets[max_lanes];
    const double* pieces[max_lanes];
    std::ptrdiff_t counts[max_lanes];
    for (npy_intp begin = 0; begin < rows; begin += kernel.lanes) {
        const int count = static_cast<int>(std::min<npy_intp>(kernel.lanes, rows - begin));
        npy_intp total = 0;
        for (int k = 0; k < count; ++k) {
            const npy_intp r = order[begin + k];
            targets[k] = S + r * row;
            pieces[k] = data + start[r] * channels;
            counts[k] = length[r];
            total += length[r];
        }
        // Where most lanes would run empty, a path at a time is faster.
        if (total < 2 * counts[0] || counts[0] == 1) {
            for (int k = 0; k < count; ++k) one(targets[k], pieces[k], counts[k]);
        } else {
            kernel.fold_lanes(channels, depth, targets, pieces, counts, count, points);
        }
    }
}

PyObject* fold_any(PyObject* const* arguments, Py_ssize_t count, bool points) {
    if (count != 5) return PyErr_Format(PyExc_TypeError, "expected 5 arguments");
    PyArrayObject* signatures = checked(arguments[0], NPY_DOUBLE, 2, "signatures");
    PyArrayObject* increments = signatures ? checked(arguments[1], NPY_DOUBLE, 2, points ? "points" : "increments") : nullptr;
    PyArrayObject* starts = increments ? checked(arguments[2], NPY_INTP, 1, "starts") : nullptr;
    PyArrayObject* lengths = starts ? checked(arguments[3], NPY_INTP, 1, "lengths") : nullptr;
    if (!lengths) return nullptr;
    const long depth = PyLong_AsLong(arguments[4]);
    if (depth == -1 && PyErr_Occurred()) return nullptr;
    const npy_intp rows = PyArray_DIM(signatures, 0), row = PyArray_DIM(signatures, 1);
    const npy_intp pieces = PyArray_DIM(increments, 0), channels = PyArray_DIM(increments, 1);
    if (depth < 1 || depth > max_depth || channels < 1 || row != row_size(channels, depth) || PyArray_DIM(starts, 0) != rows ||
        PyArray_DIM(lengths, 0) != rows || !PyArray_ISWRITEABLE(signatures)) {
        return PyErr_Format(PyExc_ValueError, "the arrays' shapes do not belong together");
    }
    const auto* start = static_cast<const npy_intp*>(PyArray_DATA(starts));
    const auto* length = static_cast<const npy_intp*>(PyArray_DATA(lengths));
    for (npy_intp r = 0; r < rows; ++r) {
        // A run of points has one more of them than pieces.
        if (start[r] < 0 || length[r] < 0 || start[r] > pieces - points || length[r] > pieces - points - start[r]) {
            return PyErr_Format(PyExc_ValueError, "run %zd lies outside the path", static_cast<Py_ssize_t>(r));
        }
    }
    auto* S = static_cast<double*>(PyArray_DATA(signatures));
    const auto* dx = static_cast<const double*>(PyArray_DATA(increments));
    const Kernel kernel = select_kernel(static_cast<int>(channels), static_cast<int>(depth));
    bool memory = true;
    Py_BEGIN_ALLOW_THREADS;
    try {
        fold_rows(kernel, static_cast<int>(channels), static_cast<int>(depth), S, row, dx, start, length, rows, points);
    } catch (const std::bad_alloc&) {
        memory = false;
    }
    Py_END_ALLOW_THREADS;
    if (!memory) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

PyObject* fold(PyObject*, PyObject* const* arguments, Py_ssize_t count) { return fold_any(arguments, count, false); }

PyObject* fold_points(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
    return fold_any(arguments, count, true);
}

// log_words(signatures, channels, depth, places) -> coefficients of the logarithms at these places, (rows, places)
PyObject* log_words(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
    if (count != 4) return PyErr_Format(PyExc_TypeError, "log_words takes 4 arguments");
    PyArrayObject* signatures = checked(arguments[0], NPY_DOUBLE, 2, "signatures");
    PyArrayObject* places = signatures ? checked(arguments[3], NPY_INTP, 1, "places") : nullptr;
    if (!places) return nullptr;
    const long channels = PyLong_AsLong(arguments[1]);
    const long depth = PyLong_AsLong(arguments[2]);
    if (PyErr_Occurred()) return nullptr;
    const npy_intp rows = PyArray_DIM(signatures, 0), row = PyArray_DIM(signatures, 1);
    if (channels < 1 || depth < 1 || depth > max_depth || row != row_size(static_cast<int>(channels), static_cast<int>(depth))) {
        return PyErr_Format(PyExc_ValueError, "signatures do not have the size of these channels and this depth");
    }
    npy_intp shape[2] = {rows, PyArray_DIM(places, 0)};
    const auto* place = static_cast<const npy_intp*>(PyArray_DATA(places));
    for (npy_intp i = 0; i < shape[1]; ++i) {
        if (place[i] < 0 || place[i] >= row) return PyErr_Format(PyExc_ValueError, "place %zd lies outside the row", i);
    }
    PyObject* logs = PyArray_SimpleNew(2, shape, NPY_DOUBLE);
    if (!logs) return nullptr;
    const auto* S = static_cast<const double*>(PyArray_DATA(signatures));
    auto* out = static_cast<double*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(logs)));
    const Kernel kernel = select_kernel(static_cast<int>(channels), static_cast<int>(depth));
    bool memory = true;
    Py_BEGIN_ALLOW_THREADS;
    try {
        const WordTable table(static_cast<int>(channels), static_cast<int>(depth), place, shape[1]);
        for (npy_intp r = 0; r < rows; ++r)
            kernel.log(static_cast<int>(channels), static_cast<int>(depth), S + r * row, table.words(), out + r * shape[1]);
    } catch (const std::bad_alloc&) {
        memory = false;
    }
    Py_END_ALLOW_THREADS;
    if (memory) return logs;
    Py_DECREF(logs);
    return PyErr_NoMemory();
}

}  // namespace

PyMethodDef path_functions[] = {
    {"fold", cast(fold), METH_FASTCALL, nullptr},
    {"fold_points", cast(fold_points), METH_FASTCALL, nullptr},
    {"log_words", cast(log_words), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace streamrde
