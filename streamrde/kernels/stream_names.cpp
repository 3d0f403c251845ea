// Names of live streams as a Python object, over Arrow's strings: offsets, int32, and bytes.
#include <cstring>
#include <new>

#include "arrays.hpp"
#include "names.hpp"

namespace streamrde {
namespace {

struct NamesObject {
    PyObject_HEAD
    Names* names;
};

int names_init(PyObject* object, PyObject* arguments, PyObject*) {
    auto* self = reinterpret_cast<NamesObject*>(object);
    if (!PyArg_ParseTuple(arguments, "")) return -1;
    if (self->names) {
        PyErr_SetString(PyExc_ValueError, "initialise once");
        return -1;
    }
    try {
        self->names = new Names();
    } catch (const std::exception&) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

void names_dealloc(PyObject* object) {
    delete reinterpret_cast<NamesObject*>(object)->names;
    PyTypeObject* type = Py_TYPE(object);
    type->tp_free(object);
    Py_DECREF(type);
}

Names* names_of(PyObject* object) {
    Names* names = reinterpret_cast<NamesObject*>(object)->names;
    if (!names) PyErr_SetString(PyExc_RuntimeError, "the names were not initialised");
    return names;
}

// Strings from their offsets and bytes, checked.
struct Strings {
    const std::int32_t* offsets = nullptr;
    const char* data = nullptr;
    npy_intp count = 0;

    bool read(PyObject* const* arguments, Py_ssize_t given) {
        if (given != 2) {
            PyErr_SetString(PyExc_TypeError, "it takes offsets and bytes");
            return false;
        }
        PyArrayObject* ends = checked(arguments[0], NPY_INT32, 1, "offsets");
        PyArrayObject* bytes = ends ? checked(arguments[1], NPY_UINT8, 1, "bytes") : nullptr;
        if (!bytes) return false;
        offsets = static_cast<const std::int32_t*>(PyArray_DATA(ends));
        data = static_cast<const char*>(PyArray_DATA(bytes));
        count = PyArray_DIM(ends, 0) - 1;
        bool fits = count >= 0 && offsets[0] >= 0 && offsets[count] <= PyArray_DIM(bytes, 0);
        for (npy_intp i = 0; fits && i < count; ++i) fits = offsets[i] <= offsets[i + 1];
        if (!fits) PyErr_SetString(PyExc_ValueError, "offsets do not ascend within the bytes");
        return fits;
    }
};

// find(offsets, bytes) -> slots, -1 where a name has none
PyObject* names_find(PyObject* object, PyObject* const* arguments, Py_ssize_t given) {
    const Names* names = names_of(object);
    Strings strings;
    if (!names || !strings.read(arguments, given)) return nullptr;
    PyObject* slots = PyArray_SimpleNew(1, &strings.count, NPY_INTP);
    if (!slots) return nullptr;
    auto* found = static_cast<std::int64_t*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(slots)));
    names->find(strings.offsets, strings.data, strings.count, found);
    return slots;
}

// add(offsets, bytes) -> (slots, added)
PyObject* names_add(PyObject* object, PyObject* const* arguments, Py_ssize_t given) {
    Names* names = names_of(object);
    Strings strings;
    if (!names || !strings.read(arguments, given)) return nullptr;
    PyObject* slots = PyArray_SimpleNew(1, &strings.count, NPY_INTP);
    if (!slots) return nullptr;
    auto* found = static_cast<std::int64_t*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(slots)));
    std::vector<std::int64_t> added;
    try {
        names->add(strings.offsets, strings.data, strings.count, found, added);
    } catch (const std::bad_alloc&) {
        Py_DECREF(slots);
        return PyErr_NoMemory();
    }
    PyObject* fresh = array_from(added.data(), NPY_INTP, static_cast<npy_intp>(added.size()), -1);
    if (fresh) return Py_BuildValue("(NN)", slots, fresh);
    Py_DECREF(slots);
    return nullptr;
}

// Slots, all live; or null with an error set.
const std::int64_t* live_slots(const Names* names, PyObject* object, npy_intp& count) {
    PyArrayObject* slots = names ? checked(object, NPY_INTP, 1, "slots") : nullptr;
    if (!slots) return nullptr;
    count = PyArray_DIM(slots, 0);
    const auto* slot = static_cast<const std::int64_t*>(PyArray_DATA(slots));
    for (npy_intp i = 0; i < count; ++i) {
        if (!names->is_live(slot[i])) {
            PyErr_Format(PyExc_ValueError, "slot %lld has no stream", static_cast<long long>(slot[i]));
            return nullptr;
        }
    }
    return slot;
}

// names(slots) -> (offsets, bytes)
PyObject* names_names(PyObject* object, PyObject* slots) {
    const Names* names = names_of(object);
    npy_intp count = 0;
    const std::int64_t* slot = live_slots(names, slots, count);
    if (!slot) return nullptr;
    npy_intp ends = count + 1, size = 0;
    for (npy_intp i = 0; i < count; ++i) size += static_cast<npy_intp>(names->name(slot[i]).size());
    if (size > 0x7fffffff) return PyErr_Format(PyExc_OverflowError, "the names have more than 2 GiB together");
    PyObject* offsets = PyArray_SimpleNew(1, &ends, NPY_INT32);
    PyObject* bytes = offsets ? PyArray_SimpleNew(1, &size, NPY_UINT8) : nullptr;
    if (!bytes) {
        Py_XDECREF(offsets);
        return nullptr;
    }
    auto* end = static_cast<std::int32_t*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(offsets)));
    auto* to = static_cast<char*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(bytes)));
    end[0] = 0;
    for (npy_intp i = 0; i < count; ++i) {
        const std::string_view name = names->name(slot[i]);
        if (!name.empty()) std::memcpy(to + end[i], name.data(), name.size());
        end[i + 1] = end[i] + static_cast<std::int32_t>(name.size());
    }
    return Py_BuildValue("(NN)", offsets, bytes);
}

// release(slots)
PyObject* names_release(PyObject* object, PyObject* slots) {
    Names* names = names_of(object);
    npy_intp count = 0;
    const std::int64_t* slot = live_slots(names, slots, count);
    if (!slot) return nullptr;
    try {
        for (npy_intp i = 0; i < count; ++i)
            if (names->is_live(slot[i])) names->release(slot[i]);  // a slot may be named twice
    } catch (const std::bad_alloc&) {
        return PyErr_NoMemory();
    }
    Py_RETURN_NONE;
}

// live() -> slots in the order in which their streams began
PyObject* names_live(PyObject* object, PyObject*) {
    const Names* names = names_of(object);
    if (!names) return nullptr;
    try {
        const std::vector<std::int64_t> slots = names->in_order();
        return array_from(slots.data(), NPY_INTP, static_cast<npy_intp>(slots.size()), -1);
    } catch (const std::bad_alloc&) {
        return PyErr_NoMemory();
    }
}

Py_ssize_t names_length(PyObject* object) {
    const Names* names = names_of(object);
    return names ? names->size() : -1;
}

PyMethodDef names_methods[] = {
    {"find", cast(names_find), METH_FASTCALL, nullptr},
    {"add", cast(names_add), METH_FASTCALL, nullptr},
    {"names", names_names, METH_O, nullptr},
    {"release", names_release, METH_O, nullptr},
    {"live", names_live, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot names_slots[] = {
    {Py_tp_new, reinterpret_cast<void*>(object_new)},        {Py_tp_init, reinterpret_cast<void*>(names_init)},
    {Py_tp_dealloc, reinterpret_cast<void*>(names_dealloc)}, {Py_tp_methods, names_methods},
    {Py_sq_length, reinterpret_cast<void*>(names_length)},   {0, nullptr},
};

}  // namespace

PyType_Spec names_spec = {"streamrde.kernels._native.Names", sizeof(NamesObject), 0, Py_TPFLAGS_DEFAULT, names_slots};

}  // namespace streamrde
