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

PyObject* fold(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
    if (count != 5) return PyErr_Format(PyExc_TypeError, "fold takes 5 arguments");
    PyArrayObject* signatures = checked(arguments[0], NPY_DOUBLE, 2, "signatures");
    PyArrayObject* increments = signatures ? checked(arguments[1], NPY_DOUBLE, 2, "increments") : nullptr;
    PyArrayObject* starts = increments ? checked(arguments[2], NPY_INTP, 1, "starts") : nullptr;
    PyArrayObject* lengths = starts ? checked(arguments[3], NPY_INTP, 1, "lengths") : nullptr;
    if (!lengths) return nullptr;
    const long depth = PyLong_AsLong(arguments[4]);
    if (depth == -1 && PyErr_Occurred()) return nullptr;
    const npy_intp rows = PyArray_DIM(signatures, 0), row = PyArray_DIM(signatures, 1);
    const npy_intp pieces = PyArray_DIM(increments, 0), channels = PyArray_DIM(increments, 1);
    if (depth < 1 || depth > max_depth || channels < 1 || row != row_size(channels, depth) ||
        PyArray_DIM(starts, 0) != rows || PyArray_DIM(lengths, 0) != rows || !PyArray_ISWRITEABLE(signatures)) {
        return PyErr_Format(PyExc_ValueError, "the arrays' shapes do not belong together");
    }
    const auto* start = static_cast<const npy_intp*>(PyArray_DATA(starts));
    const auto* length = static_cast<const npy_intp*>(PyArray_DATA(lengths));
    for (npy_intp r = 0; r < rows; ++r) {
        if (start[r] < 0 || length[r] < 0 || start[r] > pieces || length[r] > pieces - start[r]) {
            return PyErr_Format(PyExc_ValueError, "run %zd lies outside the path", static_cast<Py_ssize_t>(r));
        }
    }
    auto* S = static_cast<double*>(PyArray_DATA(signatures));
    const auto* dx = static_cast<const double*>(PyArray_DATA(increments));
    const Kernel kernel = select_kernel(static_cast<int>(channels), static_cast<int>(depth));
    bool memory = true;
    Py_BEGIN_ALLOW_THREADS;
    try {
        fold_rows(kernel, static_cast<int>(channels), static_cast<int>(depth), S, row, dx, start, length, rows, false);
    } catch (const std::bad_alloc&) {
        memory = false;
    }
    Py_END_ALLOW_THREADS;
    if (!memory) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

// Paths that are cut in time pay for joining their parts from this many pieces on.
constexpr npy_intp long_path = 1024;

// S = signature of the path through `length` points. A lone long path leaves the lanes of a vector idle where the kernels
// fill them with paths: it is cut in time, and the parts are joined by Chen's identity.
void lone_path(const Kernel& kernel, int channels, int depth, double* S, npy_intp row, const double* points,
               npy_intp length) {
    if (!kernel.fold_lanes || length <= long_path) {
        if (length > 1) kernel.follow(channels, depth, S, points, points + channels, length - 1);
        return;
    }
    const npy_intp parts = kernel.lanes;
    std::vector<double> signatures(parts * row);
    double* targets[max_lanes];
    const double* data[max_lanes];
    std::ptrdiff_t pieces[max_lanes];
    for (npy_intp k = 0; k < parts; ++k) {
        const npy_intp begin = k * (length - 1) / parts, end = (k + 1) * (length - 1) / parts;
        targets[k] = signatures.data() + k * row;
        data[k] = points + begin * channels;
        pieces[k] = end - begin;
    }
    kernel.fold_lanes(channels, depth, targets, data, pieces, static_cast<int>(parts), true);
    for (npy_intp k = 0; k < parts; ++k) kernel.join(channels, depth, S, targets[k]);
}

// What `rows` paths of `length` points give: their signatures, or where there are words the coefficients of the
// logarithms at these. Returns whether all points are finite.
bool path_signatures(const Kernel& kernel, int channels, int depth, const double* points, npy_intp rows,
                     npy_intp length, const Words* words, double* out) {
    const npy_intp row = row_size(channels, depth), block = kernel.fold_lanes ? kernel.lanes : 1;
    std::vector<double> own(words ? block * row : 0);
    std::vector<npy_intp> starts(block), lengths(block, length - 1);
    bool finite = true;
    for (npy_intp begin = 0; begin < rows; begin += block) {
        const npy_intp count = std::min(block, rows - begin);
        const double* first = points + begin * length * channels;
        double* S = words ? own.data() : out + begin * row;
        std::fill(S, S + count * row, 0.0);
        if (count < block || block == 1) {
            for (npy_intp k = 0; k < count; ++k)
                lone_path(kernel, channels, depth, S + k * row, row, first + k * length * channels, length);
        } else {
            for (npy_intp k = 0; k < count; ++k) starts[k] = k * length;
            fold_rows(kernel, channels, depth, S, row, first, starts.data(), lengths.data(), count, true);
        }
        for (npy_intp k = 0; k < count; ++k) {
            // A value that is not finite leaves its channel's increments, and so their sum, not finite; with one point
            // there is no increment.
            const double* sum = length > 1 ? S + k * row : first + k * length * channels;
            double check = 0.0;
            for (int i = 0; i < channels; ++i) check += 0.0 * sum[i];
            finite = finite && check == 0.0;
            if (words) kernel.log(channels, depth, S + k * row, *words, out + (begin + k) * words->count);
        }
    }
    return finite;
}

bool places_fit(const npy_intp* places, npy_intp count, npy_intp row) {
    for (npy_intp i = 0; i < count; ++i) {
        if (places[i] < 0 || places[i] >= row) {
            PyErr_Format(PyExc_ValueError, "place %zd lies outside the row", i);
            return false;
        }
    }
    return true;
}

// path_signatures(points, depth, places) -> (finite, array): points (paths, L, C); places an array, or None for signatures
PyObject* path_signatures(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
    if (count != 3) return PyErr_Format(PyExc_TypeError, "path_signatures takes 3 arguments");
    PyArrayObject* points = checked(arguments[0], NPY_DOUBLE, 3, "points");
    if (!points) return nullptr;
    PyArrayObject* places = arguments[2] == Py_None ? nullptr : checked(arguments[2], NPY_INTP, 1, "places");
    if (!places && arguments[2] != Py_None) return nullptr;
    const long depth = PyLong_AsLong(arguments[1]);
    if (depth == -1 && PyErr_Occurred()) return nullptr;
    const npy_intp rows = PyArray_DIM(points, 0), length = PyArray_DIM(points, 1), channels = PyArray_DIM(points, 2);
    if (depth < 1 || depth > max_depth || length < 1 || channels < 1)
        return PyErr_Format(PyExc_ValueError, "points and depth give no signature");
    const npy_intp row = row_size(static_cast<int>(channels), static_cast<int>(depth));
    npy_intp shape[2] = {rows, places ? PyArray_DIM(places, 0) : row};
    const auto* place = places ? static_cast<const npy_intp*>(PyArray_DATA(places)) : nullptr;
    if (places && !places_fit(place, shape[1], row)) return nullptr;
    PyObject* result = PyArray_SimpleNew(2, shape, NPY_DOUBLE);
    if (!result) return nullptr;
    const auto* x = static_cast<const double*>(PyArray_DATA(points));
    auto* out = static_cast<double*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(result)));
    const Kernel kernel = select_kernel(static_cast<int>(channels), static_cast<int>(depth));
    bool memory = true, finite = false;
    Py_BEGIN_ALLOW_THREADS;
    try {
        const WordTable table(static_cast<int>(channels), static_cast<int>(depth), place, places ? shape[1] : 0);
        const Words words = table.words();
        finite = path_signatures(kernel, static_cast<int>(channels), static_cast<int>(depth), x, rows, length,
                                 places ? &words : nullptr, out);
    } catch (const std::bad_alloc&) {
        memory = false;
    }
    Py_END_ALLOW_THREADS;
    if (memory) return Py_BuildValue("(NN)", PyBool_FromLong(finite), result);
    Py_DECREF(result);
    return PyErr_NoMemory();
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
    if (channels < 1 || depth < 1 || depth > max_depth ||
        row != row_size(static_cast<int>(channels), static_cast<int>(depth))) {
        return PyErr_Format(PyExc_ValueError, "signatures do not have the size of these channels and this depth");
    }
    npy_intp shape[2] = {rows, PyArray_DIM(places, 0)};
    const auto* place = static_cast<const npy_intp*>(PyArray_DATA(places));
    if (!places_fit(place, shape[1], row)) return nullptr;
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
            kernel.log(static_cast<int>(channels), static_cast<int>(depth), S + r * row, table.words(),
                       out + r * shape[1]);
    } catch (const std::bad_alloc&) {
        memory = false;
    }
    Py_END_ALLOW_THREADS;
    if (memory) return logs;
    Py_DECREF(logs);
    return PyErr_NoMemory();
}

}  // namespace

// join(left, right, channels, depth) -> left (x) right, (rows, S): Chen's identity.
PyObject* join(PyObject*, PyObject* const* arguments, Py_ssize_t given) {
    if (given != 4) return PyErr_Format(PyExc_TypeError, "join takes 4 arguments");
    PyArrayObject* left = checked(arguments[0], NPY_DOUBLE, 2, "left");
    PyArrayObject* right = left ? checked(arguments[1], NPY_DOUBLE, 2, "right") : nullptr;
    if (!right) return nullptr;
    const long channels = PyLong_AsLong(arguments[2]), depth = PyLong_AsLong(arguments[3]);
    if ((channels == -1 || depth == -1) && PyErr_Occurred()) return nullptr;
    const npy_intp rows = PyArray_DIM(left, 0), size = PyArray_DIM(left, 1);
    if (depth < 1 || depth > max_depth || channels < 1 ||
        size != row_size(static_cast<int>(channels), static_cast<int>(depth)) || PyArray_DIM(right, 0) != rows ||
        PyArray_DIM(right, 1) != size)
        return PyErr_Format(PyExc_ValueError, "the arrays' shapes do not belong together");
    PyObject* result = array_from(PyArray_DATA(left), NPY_DOUBLE, rows, size);
    if (!result) return nullptr;
    auto* S = static_cast<double*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(result)));
    const auto* R = static_cast<const double*>(PyArray_DATA(right));
    const Kernel kernel = select_kernel(static_cast<int>(channels), static_cast<int>(depth));
    for (npy_intp r = 0; r < rows; ++r)
        kernel.join(static_cast<int>(channels), static_cast<int>(depth), S + r * size, R + r * size);
    return result;
}

PyMethodDef path_functions[] = {
    {"join", cast(join), METH_FASTCALL, nullptr},
    {"fold", cast(fold), METH_FASTCALL, nullptr},
    {"path_signatures", cast(static_cast<PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t)>(path_signatures)),
     METH_FASTCALL, nullptr},
    {"log_words", cast(log_words), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace streamrde
