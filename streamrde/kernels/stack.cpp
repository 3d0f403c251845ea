// The compiled step of a stack as a Python object.
#include "stack.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#include "arrays.hpp"
#include "threads.hpp"

namespace streamrde {

StackKernels stack_kernels = stacks_baseline();

namespace {

// Below this many multiply-adds a thread costs more than it saves.
constexpr double work_per_thread = 2e6;

// How many layers and vectors a recurrence has, how many rows its state is, and the largest option.
struct Needs {
    int layers, vectors, parts, most;
};
constexpr Needs needs_of(Cell cell, int option) {
    switch (cell) {
        case Cell::rg_lru:
            return {4, 1, 1, 1};
        case Cell::min_gru:
            return {3, 0, 1, 1};
        case Cell::lru:
            return {4, 3, 2, 1};
        case Cell::gru:
            return {6, 0, 1, 1};
        case Cell::lstm:
            return {8, 0, 2, 1};
        case Cell::s4d:
            return {0, 4 * option + 1, 2 * option, most_modes};
        case Cell::slice:
            return {option * option + 2 * option, 2, option, most_rows};
        default:
            return {4, 1, 1, most_substeps};
    }
}

class AnyStack {
public:
    virtual ~AnyStack() = default;
    virtual PyObject* output(PyObject* pooled, bool probabilities) const = 0;
    virtual PyObject* step(PyObject* z, PyObject* tokens, int threads) const = 0;
};

template <typename T>
class StackOf final : public AnyStack {
    static constexpr int type = sizeof(T) == 4 ? NPY_FLOAT : NPY_DOUBLE;

public:
    // False with an error set where the arrays do not belong together.
    bool build(int cell, int part, int option, bool mean, bool last, double memory, double unit, PyObject* scaling,
               PyObject* ends, PyObject* norm, PyObject* blocks) {
        if (cell < 0 || cell >= cells || part < 1 || option < 1 || option > needs_of(static_cast<Cell>(cell), 1).most ||
            !(mean || last) || !(memory >= 1) || !(unit >= 0)) {
            PyErr_SetString(PyExc_ValueError, "not a stack");
            return false;
        }
        PyObject *scale, *shift, *input, *readout;
        double clip, gain;
        int summaries;
        if (!PyArg_ParseTuple(scaling, "OOdid", &scale, &shift, &clip, &summaries, &gain) ||
            !PyArg_ParseTuple(ends, "OO", &input, &readout) || !take_scaling(scale, shift, clip, summaries, model_) ||
            !take_layer(input, model_.features, model_.input))
            return false;
        model_.cell = static_cast<Cell>(cell);
        model_.width = model_.input.outputs;
        model_.part = part;
        model_.option = option;
        model_.parts = needs().parts;
        model_.mean = mean;
        model_.last = last;
        model_.memory = static_cast<T>(memory);
        model_.unit = unit;
        model_.gain = static_cast<T>(gain);
        const int pooled = (mean + last) * model_.width;
        if (!take_layer(readout, pooled, model_.readout) || !vector(norm, model_.width, model_.norm)) return false;
        if (!PyList_Check(blocks) || !PyList_GET_SIZE(blocks)) {
            PyErr_SetString(PyExc_TypeError, "blocks must be a list with at least one entry");
            return false;
        }
        model_.hidden = pooled + mean + static_cast<int>(PyList_GET_SIZE(blocks)) * model_.parts * part;
        for (Py_ssize_t i = 0; i < PyList_GET_SIZE(blocks); ++i) {
            StackBlock<T> made;
            if (!block(PyList_GET_ITEM(blocks, i), made)) return false;
            model_.blocks.push_back(std::move(made));
        }
        return true;
    }

    PyObject* output(PyObject* pooled, bool probabilities) const override {
        const Layer<T>& layer = model_.readout;
        PyArrayObject* array = checked(pooled, type, 2, "pooled");
        if (!array) return nullptr;
        const npy_intp count = PyArray_DIM(array, 0);
        if (PyArray_DIM(array, 1) != layer.inputs)
            return PyErr_Format(PyExc_ValueError, "pooled has another shape than the model's");
        npy_intp shape[2] = {count, layer.outputs};
        PyObject* result = PyArray_SimpleNew(2, shape, type);
        if (!result) return nullptr;
        T* out = static_cast<T*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(result)));
        const StepKernel<T>& kernel = layers();
        kernel.apply(layer, static_cast<const T*>(PyArray_DATA(array)), out, count);
        if (probabilities) kernel.softmax(out, layer.outputs, count);
        return result;
    }

    PyObject* step(PyObject* z, PyObject* tokens, int threads) const override {
        PyArrayObject* states = checked(z, type, 2, "z");
        if (!states) return nullptr;
        const npy_intp count = PyArray_DIM(states, 0);
        if (PyArray_DIM(states, 1) != model_.hidden)
            return PyErr_Format(PyExc_ValueError, "z has another shape than the model's");
        PyArrayObject* own = shaped(tokens, NPY_DOUBLE, count, model_.features, "tokens");
        if (!own) return nullptr;
        npy_intp shape[2] = {count, model_.hidden};
        PyObject* moved = PyArray_SimpleNew(2, shape, type);
        if (!moved) return nullptr;
        T* to = static_cast<T*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(moved)));
        std::memcpy(to, PyArray_DATA(states), count * model_.hidden * sizeof(T));
        bool memory = true;
        Py_BEGIN_ALLOW_THREADS;
        memory = run(to, static_cast<const double*>(PyArray_DATA(own)), count, threads);
        Py_END_ALLOW_THREADS;
        if (memory) return moved;
        Py_DECREF(moved);
        return PyErr_NoMemory();
    }

private:
    static const StepKernel<T>& layers() {
        if constexpr (sizeof(T) == 4) return step_kernels.of_float;
        else return step_kernels.of_double;
    }
    static StackKernel<T> kernel() {
        if constexpr (sizeof(T) == 4) return stack_kernels.of_float;
        else return stack_kernels.of_double;
    }

    static bool vector(PyObject* object, int size, Numbers<T>& made) {
        PyArrayObject* array = shaped(object, type, size, -1, "vector");
        if (!array) return false;
        made = Numbers<T>(padded<T>(size));
        std::copy_n(static_cast<const T*>(PyArray_DATA(array)), size, made.data());
        return true;
    }

    // (before, between, layers, vectors, inner, gate, down)
    bool block(PyObject* parts, StackBlock<T>& made) const {
        PyObject *before, *between, *layers, *vectors, *inner, *gate, *down;
        const int width = model_.width, part = model_.part;
        if (!PyArg_ParseTuple(parts, "OOO!O!OOO", &before, &between, &PyTuple_Type, &layers, &PyTuple_Type, &vectors,
                              &inner, &gate, &down) ||
            !vector(before, width, made.before) || !vector(between, width, made.between) ||
            !take_layer(inner, width, made.inner) || !take_layer(gate, width, made.gate) ||
            !take_layer(down, made.inner.outputs, made.down))
            return false;
        const Needs own = needs();
        bool fits = PyTuple_GET_SIZE(layers) == own.layers && PyTuple_GET_SIZE(vectors) == own.vectors &&
                    made.gate.outputs == made.inner.outputs && made.down.outputs == width &&
                    (model_.blocks.empty() || made.inner.outputs == model_.blocks.front().inner.outputs);
        for (int i = 0; fits && i < own.layers; ++i) {
            Layer<T> layer;
            if (!take_layer(PyTuple_GET_ITEM(layers, i), -1, layer)) return false;
            const bool out = leaves(i), carried = out || carries(i);
            fits = layer.inputs == (carried ? part : width) && layer.outputs == (out ? width : part);
            made.layers.push_back(std::move(layer));
        }
        for (int i = 0; fits && i < own.vectors; ++i) {
            Numbers<T> numbers;
            const bool wide = i == 2 && model_.cell == Cell::lru;
            if (!vector(PyTuple_GET_ITEM(vectors, i), wide ? width : part, numbers)) return false;
            if (turns(i))
                for (int j = 0; j < part; ++j) made.fastest = std::max(made.fastest, std::abs(numbers.data()[j]));
            made.vectors.push_back(std::move(numbers));
        }
        // Its modes and their channels have one width.
        fits = fits && (model_.cell != Cell::s4d || part == width);
        if (!fits) PyErr_SetString(PyExc_ValueError, "a block does not fit its recurrence");
        return fits;
    }

    // Layer i of the recurrence leads out of the state, or takes the state.
    bool leaves(int i) const {
        switch (model_.cell) {
            case Cell::rg_lru:
                return i == 3;
            case Cell::min_gru:
                return i == 2;
            case Cell::lru:
                return i >= 2;
            case Cell::slice:
                return i >= model_.option * (model_.option + 1);
            case Cell::rde:
                return i == 3;
            default:
                return false;
        }
    }
    bool carries(int i) const {
        return (model_.cell == Cell::gru && i >= 3) || (model_.cell == Cell::lstm && i >= 4) ||
               (model_.cell == Cell::rde && (i == 1 || i == 2));
    }
    // Vector i has angles.
    bool turns(int i) const {
        return (model_.cell == Cell::lru && i == 1) ||
               (model_.cell == Cell::s4d && i >= model_.option && i < 2 * model_.option);
    }
    Needs needs() const { return needs_of(model_.cell, model_.option); }

    // False where memory ran out. Streams are split over threads; none of their numbers depends on how.
    bool run(T* z, const double* tokens, std::ptrdiff_t count, int threads) const {
        const double work = static_cast<double>(count) * model_.blocks.size() * 8 * model_.width * model_.width;
        const std::ptrdiff_t most =
            std::min<std::ptrdiff_t>(count, static_cast<std::ptrdiff_t>(work / work_per_thread));
        const std::ptrdiff_t parts = std::max<std::ptrdiff_t>(1, std::min<std::ptrdiff_t>(threads, most));
        try {
            run_parts(static_cast<std::size_t>(parts), [&](std::ptrdiff_t i) {
                const std::ptrdiff_t begin = count * i / parts, end = count * (i + 1) / parts;
                if (begin < end)
                    kernel()(model_, z + begin * model_.hidden, tokens + begin * model_.features, end - begin);
            });
        } catch (const std::bad_alloc&) {
            return false;
        }
        return true;
    }

    StackModel<T> model_;
};

struct StackObject {
    PyObject_HEAD
    AnyStack* stack;
};

template <typename T>
AnyStack* made(PyObject* arguments) {
    int is_double, cell, part, option, mean, last;
    double memory, unit;
    PyObject *scaling, *ends, *norm, *blocks;
    if (!PyArg_ParseTuple(arguments, "pi(ii)ppddO!O!OO", &is_double, &cell, &part, &option, &mean, &last, &memory,
                          &unit, &PyTuple_Type, &scaling, &PyTuple_Type, &ends, &norm, &blocks))
        return nullptr;
    auto stack = std::make_unique<StackOf<T>>();
    return stack->build(cell, part, option, mean, last, memory, unit, scaling, ends, norm, blocks) ? stack.release()
                                                                                                   : nullptr;
}

// Stack(is_double, cell, (part, option), mean, last, memory, unit, (scale, shift, clip, summaries, gain), (input, readout), norm, blocks)
int stack_init(PyObject* object, PyObject* arguments, PyObject*) {
    auto* self = reinterpret_cast<StackObject*>(object);
    if (self->stack || PyTuple_GET_SIZE(arguments) < 1) {
        PyErr_SetString(PyExc_ValueError, "give the model once");
        return -1;
    }
    try {
        const int is_double = PyObject_IsTrue(PyTuple_GET_ITEM(arguments, 0));
        self->stack = is_double ? made<double>(arguments) : made<float>(arguments);
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
    }
    return self->stack ? 0 : -1;
}

void stack_dealloc(PyObject* object) {
    delete reinterpret_cast<StackObject*>(object)->stack;
    PyTypeObject* type = Py_TYPE(object);
    type->tp_free(object);
    Py_DECREF(type);
}

const AnyStack* ready(PyObject* object) {
    const AnyStack* stack = reinterpret_cast<StackObject*>(object)->stack;
    if (!stack) PyErr_SetString(PyExc_RuntimeError, "the stack was not initialised");
    return stack;
}

// output(pooled, probabilities)
PyObject* stack_output(PyObject* object, PyObject* const* arguments, Py_ssize_t count) {
    const AnyStack* stack = ready(object);
    if (!stack) return nullptr;
    if (count != 2) return PyErr_Format(PyExc_TypeError, "output takes 2 arguments");
    return stack->output(arguments[0], arguments[1] == Py_True);
}

// step(z, tokens, threads) -> z
PyObject* stack_step(PyObject* object, PyObject* const* arguments, Py_ssize_t count) {
    const AnyStack* stack = ready(object);
    if (!stack) return nullptr;
    if (count != 3) return PyErr_Format(PyExc_TypeError, "step takes 3 arguments");
    const long threads = PyLong_AsLong(arguments[2]);
    if (threads == -1 && PyErr_Occurred()) return nullptr;
    return stack->step(arguments[0], arguments[1], static_cast<int>(threads));
}

PyMethodDef stack_methods[] = {
    {"output", cast(stack_output), METH_FASTCALL, nullptr},
    {"step", cast(stack_step), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot stack_slots[] = {
    {Py_tp_new, reinterpret_cast<void*>(object_new)},
    {Py_tp_init, reinterpret_cast<void*>(stack_init)},
    {Py_tp_dealloc, reinterpret_cast<void*>(stack_dealloc)},
    {Py_tp_methods, stack_methods},
    {0, nullptr},
};

}  // namespace

PyType_Spec stack_spec = {"streamrde.kernels._native.Stack", sizeof(StackObject), 0, Py_TPFLAGS_DEFAULT, stack_slots};

}  // namespace streamrde
