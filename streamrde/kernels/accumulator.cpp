// The signature of a path that grows: what LogSignature is made of.
#include <cstring>
#include <new>

#include "arrays.hpp"
#include "word_table.hpp"

namespace streamrde {
namespace {

// Samples wait here and are folded a run at a time, which gives the same bits at a fraction of the cost: a run reads and
// writes the row once. Whoever asks for anything but the last sample has them folded first.
constexpr npy_intp most_waiting = 32;

struct Accumulator {
    PyObject_HEAD
    int channels, depth;
    bool started, brackets;
    npy_intp row, waiting;
    Kernel kernel;
    double* memory;  // last (channels), signature (row), and the waiting samples
    WordTable* words;
};

double* last_of(Accumulator* self) { return self->memory; }
double* signature_of(Accumulator* self) { return self->memory + self->channels; }
double* waiting_of(Accumulator* self) { return signature_of(self) + self->row; }

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
    self->waiting = 0;
    self->kernel = select_kernel(channels, depth);
    const auto* places = static_cast<const npy_intp*>(PyArray_DATA(words));
    for (npy_intp i = 0; i < PyArray_DIM(words, 0); ++i) {
        if (places[i] < 0 || places[i] >= self->row) {
            PyErr_SetString(PyExc_ValueError, "an index lies outside the row");
            return -1;
        }
    }
    try {
        self->words = new WordTable(channels, depth, places, PyArray_DIM(words, 0));
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
        return -1;
    }
    const npy_intp size = channels + self->row + most_waiting * channels;
    self->memory = static_cast<double*>(PyMem_Calloc(size, sizeof(double)));
    if (!self->memory) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

void accumulator_dealloc(PyObject* object) {
    auto* self = reinterpret_cast<Accumulator*>(object);
    PyMem_Free(self->memory);
    delete self->words;
    PyTypeObject* type = Py_TYPE(object);
    type->tp_free(object);
    Py_DECREF(type);
}

// False, with an error set, for an object whose __init__ was not run.
bool ready(const Accumulator* self) {
    if (!self->memory) PyErr_SetString(PyExc_RuntimeError, "the accumulator was not initialised");
    return self->memory != nullptr;
}

bool all_finite(const double* values, npy_intp count) {
    constexpr int side = 8;
    double sums[side] = {};  // 0 * x is 0 for a finite x and NaN for any other
    npy_intp i = 0;
    for (; i + side <= count; i += side)
        for (int k = 0; k < side; ++k) sums[k] += 0.0 * values[i + k];
    double sum = 0.0;
    for (; i < count; ++i) sum += 0.0 * values[i];
    for (double part : sums) sum += part;
    return sum == 0.0;
}

void fold(Accumulator* self, const double* points, npy_intp count) {
    self->kernel.follow(self->channels, self->depth, signature_of(self), last_of(self), points, count);
    std::memcpy(last_of(self), points + (count - 1) * self->channels, self->channels * sizeof(double));
}

void fold_waiting(Accumulator* self) {
    if (!self->waiting) return;
    fold(self, waiting_of(self), self->waiting);
    self->waiting = 0;
}

void take(Accumulator* self, const double* points, npy_intp count) {
    if (!count) return;
    if (!self->started) {
        std::memcpy(last_of(self), points, self->channels * sizeof(double));
        self->started = true;
        points += self->channels;
        if (!--count) return;
    }
    if (count == 1) {
        double* place = waiting_of(self) + self->waiting * self->channels;
        for (int i = 0; i < self->channels; ++i) place[i] = points[i];
        if (++self->waiting == most_waiting) fold_waiting(self);
        return;
    }
    fold_waiting(self);
    fold(self, points, count);
}

// The sample as `channels` doubles, or null where it is not of a type that can be read directly.
const double* sample_from(Accumulator* self, PyObject* x) {
    const int channels = self->channels;
    // Converted where it is going to wait; `take` then copies it onto itself.
    double* sample = waiting_of(self) + self->waiting * channels;
    // No subclass: the mask of a masked array would be lost.
    if (PyArray_CheckExact(x)) {
        auto* array = reinterpret_cast<PyArrayObject*>(x);
        if (PyArray_NDIM(array) != 1 || PyArray_DIM(array, 0) != channels || PyArray_ISBYTESWAPPED(array))
            return nullptr;
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
    if (PyArray_CheckExact(X)) {
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
    npy_intp size = static_cast<npy_intp>(self->words->size());
    if (count == 1 && arguments[0] != Py_None) {
        PyArrayObject* out = checked(arguments[0], NPY_DOUBLE, 1, "out");
        if (!out) return nullptr;
        if (PyArray_DIM(out, 0) != size || !PyArray_ISWRITEABLE(out)) {
            return PyErr_Format(PyExc_ValueError, "out must be writeable and have %zd values", size);
        }
        result = Py_NewRef(arguments[0]);
    } else {
        result = PyArray_SimpleNew(1, &size, NPY_DOUBLE);
        if (!result) return nullptr;
    }
    auto* out = static_cast<double*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(result)));
    fold_waiting(self);
    self->kernel.log(self->channels, self->depth, signature_of(self), self->words->words(), out);
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
    if (self->waiting) {
        const double* newest = waiting_of(self) + (self->waiting - 1) * self->channels;
        std::memcpy(last_of(self), newest, self->channels * sizeof(double));
        self->waiting = 0;
    }
    std::memset(signature_of(self), 0, self->row * sizeof(double));
    Py_RETURN_NONE;
}

PyObject* accumulator_state(PyObject* object, PyObject*) {
    auto* self = reinterpret_cast<Accumulator*>(object);
    if (!ready(self)) return nullptr;
    fold_waiting(self);
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
    self->waiting = 0;
    std::memcpy(self->memory, PyArray_DATA(state), PyArray_DIM(state, 0) * sizeof(double));
    Py_RETURN_NONE;
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

}  // namespace

PyType_Spec accumulator_spec = {
    "streamrde.kernels._native.Accumulator",  sizeof(Accumulator), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, accumulator_slots,
};

}  // namespace streamrde
