// The Python module: the compiled kernels on NumPy arrays. See reference.py for what each function means.
//
// The raw C API rather than a binding generator: a call costs 20 ns instead of 200, and a sample's update costs less.
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <numpy/arrayobject.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <numeric>
#include <utility>
#include <vector>

#include "loop.hpp"
#include "variant.hpp"

namespace {

using streamrde::Kernel;

constexpr int max_lanes = 8;

const char* variant = "baseline";
Kernel (*select_kernel)(int, int) = streamrde::select_baseline;

// Takes the best instruction set, or the one named, that this processor has; false where it has it not.
bool choose_variant(const char* wanted) {
#ifdef STREAMRDE_X86
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512dq");
    if (avx512 && (!wanted || !std::strcmp(wanted, "avx512"))) {
        variant = "avx512";
        select_kernel = streamrde::select_avx512;
        return true;
    }
    if (avx2 && (!wanted || !std::strcmp(wanted, "avx2"))) {
        variant = "avx2";
        select_kernel = streamrde::select_avx2;
        return true;
    }
#endif
    variant = "baseline";
    select_kernel = streamrde::select_baseline;
    return !wanted || !std::strcmp(wanted, "baseline");
}

npy_intp row_size(int channels, int depth) {
    npy_intp size = 0, power = 1;
    for (int k = 0; k < depth; ++k) size += (power *= channels);
    return size;
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
                     type == NPY_DOUBLE ? "float64" : "intp");
        return nullptr;
    }
    return array;
}

// Appends to each row its run of pieces, as many rows at a time as the kernel has lanes.
void fold_rows(const Kernel& kernel, int channels, int depth, double* S, npy_intp row, const double* data,
               const npy_intp* start, const npy_intp* length, npy_intp rows, bool points) {
    const auto one = points ? kernel.fold_points : kernel.fold;
    if (kernel.lanes == 1 || rows == 1) {
        for (npy_intp r = 0; r < rows; ++r) one(channels, depth, S + r * row, data + start[r] * channels, length[r]);
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
            for (int k = 0; k < count; ++k) one(channels, depth, targets[k], pieces[k], counts[k]);
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
    if (depth < 1 || depth > 32 || channels < 1 || row != row_size(channels, depth) || PyArray_DIM(starts, 0) != rows ||
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

PyObject* tensor_log(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
    if (count != 3) return PyErr_Format(PyExc_TypeError, "tensor_log takes 3 arguments");
    PyArrayObject* signatures = checked(arguments[0], NPY_DOUBLE, 2, "signatures");
    if (!signatures) return nullptr;
    const long channels = PyLong_AsLong(arguments[1]);
    const long depth = PyLong_AsLong(arguments[2]);
    if (PyErr_Occurred()) return nullptr;
    npy_intp shape[2] = {PyArray_DIM(signatures, 0), PyArray_DIM(signatures, 1)};
    if (channels < 1 || depth < 1 || depth > 32 || shape[1] != row_size(static_cast<int>(channels), static_cast<int>(depth))) {
        return PyErr_Format(PyExc_ValueError, "signatures do not have the size of these channels and this depth");
    }
    PyObject* logs = PyArray_SimpleNew(2, shape, NPY_DOUBLE);
    if (!logs) return nullptr;
    const auto* S = static_cast<const double*>(PyArray_DATA(signatures));
    auto* out = static_cast<double*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(logs)));
    const Kernel kernel = select_kernel(static_cast<int>(channels), static_cast<int>(depth));
    Py_BEGIN_ALLOW_THREADS;
    const double* from[max_lanes];
    double* to[max_lanes];
    for (npy_intp begin = 0; begin < shape[0]; begin += kernel.lanes) {
        const int rows = static_cast<int>(std::min<npy_intp>(kernel.lanes, shape[0] - begin));
        for (int k = 0; k < rows; ++k) {
            from[k] = S + (begin + k) * shape[1];
            to[k] = out + (begin + k) * shape[1];
        }
        if (rows == 1) kernel.log(static_cast<int>(channels), static_cast<int>(depth), from[0], to[0]);
        else kernel.log_lanes(static_cast<int>(channels), static_cast<int>(depth), from, to, rows);
    }
    Py_END_ALLOW_THREADS;
    return logs;
}

PyObject* choose(PyObject*, PyObject* wanted) {
    const char* name = wanted == Py_None ? nullptr : PyUnicode_AsUTF8(wanted);
    if (wanted != Py_None && !name) return nullptr;
    if (!choose_variant(name)) return PyErr_Format(PyExc_ValueError, "this processor or build has no variant %R", wanted);
    return PyUnicode_FromString(variant);
}

struct Accumulator {
    PyObject_HEAD
    int channels, depth;
    bool started, brackets;
    npy_intp row, words;
    Kernel kernel;
    double* memory;       // last (channels), signature (row), logarithm (row), sample (channels)
    npy_intp* indices;    // of the words in a row
};

double* last_of(Accumulator* self) { return self->memory; }
double* signature_of(Accumulator* self) { return self->memory + self->channels; }
double* log_of(Accumulator* self) { return signature_of(self) + self->row; }
double* sample_of(Accumulator* self) { return log_of(self) + self->row; }

PyObject* object_new(PyTypeObject* type, PyObject*, PyObject*) {
    return type->tp_alloc(type, 0);
}

int accumulator_init(PyObject* object, PyObject* arguments, PyObject*) {
    auto* self = reinterpret_cast<Accumulator*>(object);
    int channels, depth;
    int brackets;
    PyObject* indices;
    if (!PyArg_ParseTuple(arguments, "iiOp", &channels, &depth, &indices, &brackets)) return -1;
    PyArrayObject* words = checked(indices, NPY_INTP, 1, "indices");
    if (!words) return -1;
    if (channels < 1 || depth < 1 || depth > 32 || self->memory) {
        PyErr_SetString(PyExc_ValueError, "channels must be at least 1 and depth 1 to 32; initialise once");
        return -1;
    }
    self->channels = channels;
    self->depth = depth;
    self->brackets = brackets;
    self->row = row_size(channels, depth);
    self->words = PyArray_DIM(words, 0);
    self->kernel = select_kernel(channels, depth);
    self->memory = static_cast<double*>(PyMem_Calloc(2 * (self->row + channels), sizeof(double)));
    self->indices = static_cast<npy_intp*>(PyMem_Malloc((self->words + 1) * sizeof(npy_intp)));
    if (!self->memory || !self->indices) {
        PyErr_NoMemory();
        return -1;
    }
    std::memcpy(self->indices, PyArray_DATA(words), self->words * sizeof(npy_intp));
    for (npy_intp i = 0; i < self->words; ++i) {
        if (self->indices[i] < 0 || self->indices[i] >= self->row) {
            PyErr_SetString(PyExc_ValueError, "an index lies outside the row");
            return -1;
        }
    }
    return 0;
}

void accumulator_dealloc(PyObject* object) {
    auto* self = reinterpret_cast<Accumulator*>(object);
    PyMem_Free(self->memory);
    PyMem_Free(self->indices);
    PyTypeObject* type = Py_TYPE(object);
    type->tp_free(object);
    Py_DECREF(type);
}

// False, with an error set, for an object whose __init__ was not run.
bool ready(const Accumulator* self) {
    if (!self->indices) PyErr_SetString(PyExc_RuntimeError, "the accumulator was not initialised");
    return self->indices != nullptr;
}

bool all_finite(const double* values, npy_intp count) {
    double sum = 0.0;  // 0 * x is 0 for a finite x and NaN for any other
    for (npy_intp i = 0; i < count; ++i) sum += 0.0 * values[i];
    return sum == 0.0;
}

void take(Accumulator* self, const double* points, npy_intp count) {
    if (!self->started && count) {
        std::memcpy(last_of(self), points, self->channels * sizeof(double));
        self->started = true;
        points += self->channels;
        --count;
    }
    self->kernel.push(self->channels, self->depth, signature_of(self), last_of(self), points, count);
}

// The sample as `channels` doubles, or null where it is not of a type that can be read directly.
const double* sample_from(Accumulator* self, PyObject* x) {
    const int channels = self->channels;
    double* sample = sample_of(self);
    if (PyArray_Check(x)) {
        auto* array = reinterpret_cast<PyArrayObject*>(x);
        if (PyArray_NDIM(array) != 1 || PyArray_DIM(array, 0) != channels || PyArray_ISBYTESWAPPED(array)) return nullptr;
        const char* data = PyArray_BYTES(array);
        const npy_intp stride = PyArray_STRIDE(array, 0);
        if (PyArray_TYPE(array) == NPY_DOUBLE) {
            if (stride == sizeof(double) && PyArray_ISALIGNED(array)) return reinterpret_cast<const double*>(data);
            for (int i = 0; i < channels; ++i) std::memcpy(sample + i, data + i * stride, sizeof(double));
            return sample;
        }
        if (PyArray_TYPE(array) == NPY_FLOAT) {
            for (int i = 0; i < channels; ++i) {
                float value;
                std::memcpy(&value, data + i * stride, sizeof(float));
                sample[i] = value;
            }
            return sample;
        }
        return nullptr;
    }
    if (!PyList_Check(x) && !PyTuple_Check(x)) return nullptr;
    if (PySequence_Fast_GET_SIZE(x) != channels) return nullptr;
    for (int i = 0; i < channels; ++i) {
        PyObject* item = PySequence_Fast_GET_ITEM(x, i);
        if (!PyFloat_CheckExact(item)) return nullptr;
        sample[i] = PyFloat_AS_DOUBLE(item);
    }
    return sample;
}

PyObject* accumulator_push(PyObject* object, PyObject* x) {
    auto* self = reinterpret_cast<Accumulator*>(object);
    if (!ready(self)) return nullptr;
    const double* sample = sample_from(self, x);
    if (!sample || !all_finite(sample, self->channels)) return PyObject_CallMethod(object, "_push_checked", "O", x);
    take(self, sample, 1);
    Py_RETURN_NONE;
}

PyObject* accumulator_push_many(PyObject* object, PyObject* X) {
    auto* self = reinterpret_cast<Accumulator*>(object);
    if (!ready(self)) return nullptr;
    if (PyArray_Check(X)) {
        auto* array = reinterpret_cast<PyArrayObject*>(X);
        if (PyArray_TYPE(array) == NPY_DOUBLE && PyArray_NDIM(array) == 2 && PyArray_DIM(array, 1) == self->channels &&
            PyArray_IS_C_CONTIGUOUS(array) && PyArray_ISALIGNED(array) && !PyArray_ISBYTESWAPPED(array)) {
            const auto* points = static_cast<const double*>(PyArray_DATA(array));
            if (all_finite(points, PyArray_SIZE(array))) {
                take(self, points, PyArray_DIM(array, 0));
                Py_RETURN_NONE;
            }
        }
    }
    return PyObject_CallMethod(object, "_push_many_checked", "O", X);
}

PyObject* accumulator_take(PyObject* object, PyObject* X) {
    auto* self = reinterpret_cast<Accumulator*>(object);
    PyArrayObject* samples = ready(self) ? checked(X, NPY_DOUBLE, 2, "samples") : nullptr;
    if (!samples) return nullptr;
    if (PyArray_DIM(samples, 1) != self->channels) return PyErr_Format(PyExc_ValueError, "samples have another shape");
    take(self, static_cast<const double*>(PyArray_DATA(samples)), PyArray_DIM(samples, 0));
    Py_RETURN_NONE;
}

PyObject* accumulator_words(PyObject* object, PyObject* const* arguments, Py_ssize_t count) {
    auto* self = reinterpret_cast<Accumulator*>(object);
    PyObject* result;
    if (!ready(self)) return nullptr;
    if (count > 1) return PyErr_Format(PyExc_TypeError, "words takes at most 1 argument");
    if (count == 1 && arguments[0] != Py_None) {
        PyArrayObject* out = checked(arguments[0], NPY_DOUBLE, 1, "out");
        if (!out) return nullptr;
        if (PyArray_DIM(out, 0) != self->words || !PyArray_ISWRITEABLE(out)) {
            return PyErr_Format(PyExc_ValueError, "out must be writeable and have %zd values", self->words);
        }
        result = Py_NewRef(arguments[0]);
    } else {
        npy_intp shape[1] = {self->words};
        result = PyArray_SimpleNew(1, shape, NPY_DOUBLE);
        if (!result) return nullptr;
    }
    auto* out = static_cast<double*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(result)));
    self->kernel.log(self->channels, self->depth, signature_of(self), log_of(self));
    for (npy_intp i = 0; i < self->words; ++i) out[i] = log_of(self)[self->indices[i]];
    return result;
}

PyObject* accumulator_value(PyObject* object, PyObject* const* arguments, Py_ssize_t count, PyObject* names) {
    const Py_ssize_t named = names ? PyTuple_GET_SIZE(names) : 0;
    if (count + named > 1 || (named && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "out") != 0))
        return PyErr_Format(PyExc_TypeError, "value takes one argument, out");
    if (reinterpret_cast<Accumulator*>(object)->brackets)
        return PyObject_CallMethod(object, "_value_in_brackets", "O", count + named ? arguments[0] : Py_None);
    return accumulator_words(object, arguments, count + named);
}

PyObject* accumulator_reset(PyObject* object, PyObject*) {
    auto* self = reinterpret_cast<Accumulator*>(object);
    if (!ready(self)) return nullptr;
    std::memset(signature_of(self), 0, self->row * sizeof(double));
    Py_RETURN_NONE;
}

PyObject* accumulator_state(PyObject* object, PyObject*) {
    auto* self = reinterpret_cast<Accumulator*>(object);
    if (!ready(self)) return nullptr;
    npy_intp shape[1] = {self->channels + self->row};
    PyObject* state = PyArray_SimpleNew(1, shape, NPY_DOUBLE);
    if (!state) return nullptr;
    std::memcpy(PyArray_DATA(reinterpret_cast<PyArrayObject*>(state)), self->memory, shape[0] * sizeof(double));
    return Py_BuildValue("(NN)", PyBool_FromLong(self->started), state);
}

PyObject* accumulator_set_state(PyObject* object, PyObject* const* arguments, Py_ssize_t count) {
    auto* self = reinterpret_cast<Accumulator*>(object);
    if (!ready(self)) return nullptr;
    if (count != 2) return PyErr_Format(PyExc_TypeError, "set_state takes 2 arguments");
    PyArrayObject* state = checked(arguments[1], NPY_DOUBLE, 1, "state");
    if (!state) return nullptr;
    if (PyArray_DIM(state, 0) != self->channels + self->row) {
        return PyErr_Format(PyExc_ValueError, "state must have %zd values", self->channels + self->row);
    }
    const int started = PyObject_IsTrue(arguments[0]);
    if (started < 0) return nullptr;
    self->started = started;
    std::memcpy(self->memory, PyArray_DATA(state), PyArray_DIM(state, 0) * sizeof(double));
    Py_RETURN_NONE;
}

struct LoopObject {
    PyObject_HEAD
    streamrde::Loop* loop;
};

int loop_init(PyObject* object, PyObject* arguments, PyObject*) {
    auto* self = reinterpret_cast<LoopObject*>(object);
    Py_ssize_t width, x, signature;
    int channels, depth, every, epoch, hold;
    double seconds;
    long long n;
    PyObject* indices;
    if (!PyArg_ParseTuple(arguments, "(nnn)iiO(pdpL)p", &width, &x, &signature, &channels, &depth, &indices, &every,
                          &seconds, &epoch, &n, &hold))
        return -1;
    PyArrayObject* words = checked(indices, NPY_INTP, 1, "indices");
    if (!words) return -1;
    const npy_intp size = channels < 1 || depth < 1 || depth > 32 ? 0 : row_size(channels + 1, depth);
    const auto* place = static_cast<const npy_intp*>(PyArray_DATA(words));
    bool fits = size && x >= 11 && x + channels <= signature && signature + size <= width && !self->loop;
    for (npy_intp i = 0; fits && i < PyArray_DIM(words, 0); ++i) fits = place[i] >= 0 && place[i] < size;
    if (!fits) {
        PyErr_SetString(PyExc_ValueError, "the row's layout does not fit the sizes");
        return -1;
    }
    try {
        self->loop = new streamrde::Loop({width, x, signature, channels, depth}, {every != 0, seconds, epoch != 0, n, hold != 0},
                                         select_kernel(channels + 1, depth), {place, place + PyArray_DIM(words, 0)});
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

void loop_dealloc(PyObject* object) {
    delete reinterpret_cast<LoopObject*>(object)->loop;
    PyTypeObject* type = Py_TYPE(object);
    type->tp_free(object);
    Py_DECREF(type);
}

PyObject* array_from(const void* data, int type, npy_intp rows, npy_intp columns) {
    npy_intp shape[2] = {rows, columns};
    PyObject* array = PyArray_SimpleNew(columns < 0 ? 1 : 2, shape, type);
    if (!array) return nullptr;
    auto* target = reinterpret_cast<PyArrayObject*>(array);
    if (PyArray_NBYTES(target)) std::memcpy(PyArray_DATA(target), data, PyArray_NBYTES(target));
    return array;
}

// push(rows, slots, t, x, drop) -> (fault, row, column, bound) or (began, first, slot, window, start, end, logsigs)
PyObject* loop_push(PyObject* object, PyObject* const* arguments, Py_ssize_t count) {
    const auto* loop = reinterpret_cast<LoopObject*>(object)->loop;
    if (!loop) return PyErr_Format(PyExc_RuntimeError, "the loop was not initialised");
    if (count != 5) return PyErr_Format(PyExc_TypeError, "push takes 5 arguments");
    PyArrayObject* rows = checked(arguments[0], NPY_DOUBLE, 2, "rows");
    PyArrayObject* slots = rows ? checked(arguments[1], NPY_INTP, 1, "slots") : nullptr;
    PyArrayObject* t = slots ? checked(arguments[2], NPY_DOUBLE, 1, "t") : nullptr;
    PyArrayObject* x = t ? checked(arguments[3], NPY_DOUBLE, 2, "x") : nullptr;
    if (!x) return nullptr;
    const int drop = PyObject_IsTrue(arguments[4]);
    if (drop < 0) return nullptr;
    const npy_intp n = PyArray_DIM(slots, 0), channels = loop->layout().channels;
    bool fits = PyArray_DIM(rows, 1) == loop->layout().width && PyArray_DIM(t, 0) == n && PyArray_DIM(x, 0) == n &&
                PyArray_DIM(x, 1) == channels && PyArray_ISWRITEABLE(rows);
    static_assert(sizeof(npy_intp) == sizeof(std::int64_t), "slots are 64-bit");
    const auto* slot = static_cast<const std::int64_t*>(PyArray_DATA(slots));
    for (npy_intp i = 0; fits && i < n; ++i) fits = slot[i] >= 0 && slot[i] < PyArray_DIM(rows, 0);
    if (!fits) return PyErr_Format(PyExc_ValueError, "the arrays' shapes or slots do not belong together");
    auto* row = static_cast<double*>(PyArray_DATA(rows));
    const auto* times = static_cast<const double*>(PyArray_DATA(t));
    const auto* samples = static_cast<const double*>(PyArray_DATA(x));
    streamrde::Refusal refusal;
    streamrde::Closed closed;
    bool memory = true;
    Py_BEGIN_ALLOW_THREADS;
    try {
        if (!drop) refusal = loop->check(row, slot, times, samples, n);
        if (refusal.fault == streamrde::Fault::none) loop->push(row, slot, times, samples, n, closed);
    } catch (const std::bad_alloc&) {
        memory = false;
    }
    Py_END_ALLOW_THREADS;
    if (!memory) return PyErr_NoMemory();
    if (refusal.fault != streamrde::Fault::none) {
        return Py_BuildValue("(inid)", static_cast<int>(refusal.fault), static_cast<Py_ssize_t>(refusal.row), refusal.column,
                             refusal.bound);
    }
    const npy_intp windows = static_cast<npy_intp>(closed.slot.size()), began = static_cast<npy_intp>(closed.began.size());
    PyObject* parts[7] = {
        array_from(closed.began.data(), NPY_INTP, began, -1),
        array_from(closed.first.data(), NPY_DOUBLE, began, channels),
        array_from(closed.slot.data(), NPY_INTP, windows, -1),
        array_from(closed.window.data(), NPY_INT64, windows, -1),
        array_from(closed.start.data(), NPY_DOUBLE, windows, -1),
        array_from(closed.end.data(), NPY_DOUBLE, windows, -1),
        array_from(closed.logsigs.data(), NPY_DOUBLE, windows, static_cast<npy_intp>(loop->words())),
    };
    PyObject* result = PyTuple_New(7);
    for (int i = 0; i < 7; ++i) {
        if (!parts[i] || !result) {
            for (int k = result ? i : 0; k < 7; ++k) Py_XDECREF(parts[k]);
            Py_XDECREF(result);
            return nullptr;
        }
        PyTuple_SET_ITEM(result, i, parts[i]);
    }
    return result;
}

template <typename F>
PyCFunction cast(F* function) {
    return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

PyMethodDef accumulator_methods[] = {
    {"push", accumulator_push, METH_O,
     "push($self, x, /)\n--\n\n"
     "Fold one sample into the signature.\n\n"
     "Equals `S <- S (x) exp(x - last)`, truncated at `depth`; the first sample only sets the base point.\n\n"
     "Args:\n"
     "    x: the sample, shape (channels,), finite: a float64 or float32 array, a list or a tuple of floats are read\n"
     "        where they are; anything else is converted first. NaN is the windowing's to fill.\n"
     "Raises:\n"
     "    ShapeError: x has another number of channels.\n"
     "    SampleError: a value is not finite. The state is unchanged.\n"
     "Reference: Kidger & Lyons 2021 (Signatory), section 5 (fused multiply-exponentiate)."},
    {"push_many", accumulator_push_many, METH_O,
     "push_many($self, X, /)\n--\n\n"
     "Fold samples in order; the same bits as pushing them one by one.\n\n"
     "Args:\n"
     "    X: the samples, shape (n, channels), finite.\n"
     "Raises:\n"
     "    ShapeError: X has another shape.\n"
     "    SampleError: a value is not finite. The state is unchanged."},
    {"_take", accumulator_take, METH_O, nullptr},
    {"words", cast(accumulator_words), METH_FASTCALL, nullptr},
    {"value", cast(accumulator_value), METH_FASTCALL | METH_KEYWORDS,
     "value($self, out=None)\n--\n\n"
     "The log-signature since the last reset, (B,), float64; zeros before the second sample.\n\n"
     "Args:\n"
     "    out: where to write it, (B,), float64, C-contiguous; None: a new array."},
    {"reset", accumulator_reset, METH_NOARGS,
     "reset($self, /)\n--\n\n"
     "Start a new window: forget the path so far but keep the last sample as its base point."},
    {"state", accumulator_state, METH_NOARGS, nullptr},
    {"set_state", cast(accumulator_set_state), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot accumulator_slots[] = {
    {Py_tp_new, reinterpret_cast<void*>(object_new)},
    {Py_tp_init, reinterpret_cast<void*>(accumulator_init)},
    {Py_tp_dealloc, reinterpret_cast<void*>(accumulator_dealloc)},
    {Py_tp_methods, accumulator_methods},
    {0, nullptr},
};

PyType_Spec accumulator_spec = {
    "streamrde.kernels._native.Accumulator", sizeof(Accumulator), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    accumulator_slots,
};

PyMethodDef loop_methods[] = {
    {"push", cast(loop_push), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot loop_slots[] = {
    {Py_tp_new, reinterpret_cast<void*>(object_new)},
    {Py_tp_init, reinterpret_cast<void*>(loop_init)},
    {Py_tp_dealloc, reinterpret_cast<void*>(loop_dealloc)},
    {Py_tp_methods, loop_methods},
    {0, nullptr},
};

PyType_Spec loop_spec = {"streamrde.kernels._native.Loop", sizeof(LoopObject), 0, Py_TPFLAGS_DEFAULT, loop_slots};

PyMethodDef functions[] = {
    {"fold", cast(fold), METH_FASTCALL, nullptr},
    {"fold_points", cast(fold_points), METH_FASTCALL, nullptr},
    {"tensor_log", cast(tensor_log), METH_FASTCALL, nullptr},
    {"choose", choose, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_native", nullptr, -1, functions, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__native() {
    import_array();
    choose_variant(nullptr);
    PyObject* module = PyModule_Create(&definition);
    if (!module) return nullptr;
    const std::pair<const char*, PyType_Spec*> types[] = {{"Accumulator", &accumulator_spec}, {"Loop", &loop_spec}};
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
