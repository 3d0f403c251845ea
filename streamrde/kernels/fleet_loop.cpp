// The fleet's loop as a Python object.
#include <cstring>
#include <new>

#include "arrays.hpp"
#include "loop.hpp"

namespace streamrde {
namespace {

struct LoopObject {
    PyObject_HEAD
    Loop* loop;
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
        self->loop = new Loop({width, x, signature, channels, depth}, {every != 0, seconds, epoch != 0, n, hold != 0},
                                         select_kernel(channels + 1, depth),
                              WordTable(channels + 1, depth, place, PyArray_DIM(words, 0)));
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
    Refusal refusal;
    Closed closed;
    bool memory = true;
    Py_BEGIN_ALLOW_THREADS;
    try {
        if (!drop) refusal = loop->check(row, slot, times, samples, n);
        if (refusal.fault == Fault::none) loop->push(row, slot, times, samples, n, closed);
    } catch (const std::bad_alloc&) {
        memory = false;
    }
    Py_END_ALLOW_THREADS;
    if (!memory) return PyErr_NoMemory();
    if (refusal.fault != Fault::none) {
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

}  // namespace

PyType_Spec loop_spec = {"streamrde.kernels._native.Loop", sizeof(LoopObject), 0, Py_TPFLAGS_DEFAULT, loop_slots};

}  // namespace streamrde
