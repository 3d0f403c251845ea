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
    bool build(int cell, int units, int part, int option, bool mean, bool last, double memory, double unit,
               PyObject* scaling, PyObject* ends, PyObject* norm, PyObject* blocks) {
        const auto is_of = [](int number, bool lasts) {
            return number >= 0 && number < cells && form_of(static_cast<Cell>(number), 1).lasts == lasts;
        };
        if (!is_of(cell, true) || !is_of(units, false) || part < 1 || option < 1 ||
            option > form_of(static_cast<Cell>(cell), 1).most || !(mean || last) || !(memory >= 1) || !(unit >= 0)) {
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
        model_.units = static_cast<Cell>(units);
        model_.width = model_.input.outputs;
        model_.part = part;
        model_.option = option;
        model_.form = form_of(model_.cell, option);
        model_.mean = mean;
        model_.last = last;
        model_.memory = static_cast<T>(memory);
        model_.unit = unit;
        model_.gain = static_cast<T>(gain);
        const int pooled = (mean + last) * model_.width;
        if (!take_layer(readout, pooled, model_.readout) ||
            (norm != Py_None && !vector(norm, model_.width, model_.norm)))
            return false;
        if (!PyList_Check(blocks) || !PyList_GET_SIZE(blocks)) {
            PyErr_SetString(PyExc_TypeError, "blocks must be a list with at least one entry");
            return false;
        }
        model_.hidden = pooled + mean + static_cast<int>(PyList_GET_SIZE(blocks)) * model_.form.state * part;
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

    // (before, between, layers, vectors, inner, gate or None, down)
    bool block(PyObject* parts, StackBlock<T>& made) const {
        PyObject *before, *between, *layers, *vectors, *inner, *gate, *down;
        const int width = model_.width, part = model_.part;
        if (!PyArg_ParseTuple(parts, "OOO!O!OOO", &before, &between, &PyTuple_Type, &layers, &PyTuple_Type, &vectors,
                              &inner, &gate, &down) ||
            !vector(before, width, made.before) || !vector(between, width, made.between) ||
            !take_layer(inner, width, made.inner) || (has_gate() && !take_layer(gate, width, made.gate)) ||
            !take_layer(down, made.inner.outputs, made.down))
            return false;
        const Form own = model_.form;
        const int count = own.in + own.carried + own.out;
        bool fits = PyTuple_GET_SIZE(layers) == count && PyTuple_GET_SIZE(vectors) == own.vectors &&
                    (!has_gate() || made.gate.outputs == made.inner.outputs) && made.down.outputs == width &&
                    (model_.blocks.empty() || made.inner.outputs == model_.blocks.front().inner.outputs);
        for (int i = 0; fits && i < count; ++i) {
            Layer<T> layer;
            if (!take_layer(PyTuple_GET_ITEM(layers, i), -1, layer)) return false;
            const bool out = i >= own.in + own.carried, carried = i >= own.in;
            fits = layer.inputs == (carried ? part : width) && layer.outputs == (out ? width : part);
            made.layers.push_back(std::move(layer));
        }
        for (int i = 0; fits && i < own.vectors; ++i) {
            Numbers<T> numbers;
            const bool wide = is_skip(model_.cell, i);
            if (!vector(PyTuple_GET_ITEM(vectors, i), wide ? width : part, numbers)) return false;
            if (turns(model_.cell, model_.option, i))
                for (int j = 0; j < part; ++j) made.fastest = std::max(made.fastest, std::abs(numbers.data()[j]));
            made.vectors.push_back(std::move(numbers));
        }
        // Where no layer leads out of the state, its parts and their channels have one width.
        fits = fits && (own.out || part == width);
        if (!fits) PyErr_SetString(PyExc_ValueError, "a block does not fit its recurrence");
        return fits;
    }

    bool has_gate() const { return form_of(model_.units, 1).in > 1; }

    // False where memory ran out. Streams are split over threads; none of their numbers depends on how.
    bool run(T* z, const double* tokens, std::ptrdiff_t count, int threads) const {
        const double work = static_cast<double>(count) * model_.blocks.size() * 8 * model_.width * model_.width;
        const auto parts = static_cast<std::ptrdiff_t>(threads_for(work, count, threads));
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
    int is_double, cell, part, option, units, mean, last;
    double memory, unit;
    PyObject *scaling, *ends, *norm, *blocks;
    if (!PyArg_ParseTuple(arguments, "pi(iii)ppddO!O!OO", &is_double, &cell, &part, &option, &units, &mean, &last,
                          &memory, &unit, &PyTuple_Type, &scaling, &PyTuple_Type, &ends, &norm, &blocks))
        return nullptr;
    auto stack = std::make_unique<StackOf<T>>();
    return stack->build(cell, units, part, option, mean, last, memory, unit, scaling, ends, norm, blocks)
               ? stack.release()
               : nullptr;
}

// Stack(is_double, cell, (part, option, units), mean, last, memory, unit, (scale, shift, clip, summaries, gain), (input, readout), norm, blocks)
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
