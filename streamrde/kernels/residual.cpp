// Half a block of a stack over a sequence, and its gradients, as Python functions: weights, tokens and states as arrays.
#include "residual.hpp"

#include <algorithm>
#include <cmath>
#include <memory>

#include "arrays.hpp"
#include "threads.hpp"

namespace streamrde {

ResidualKernels residual_kernels = residuals_baseline();

namespace {

template <typename T>
class Passes {
    static constexpr int type = type_of<T>;

public:
    Residual<T> model;

    // False with an error set where the arrays do not belong together. data: (x, keep, time, state); layers: (in, carried,
    // out).
    bool take(int cell, int option, PyObject* data, PyObject* norm, PyObject* layers, PyObject* vectors) {
        PyObject *x, *keep, *time, *state, *in, *carried, *out;
        if (!PyArg_ParseTuple(data, "OOOO", &x, &keep, &time, &state) ||
            !PyArg_ParseTuple(layers, "OOO", &in, &carried, &out))
            return false;
        PyArrayObject* tokens = checked(x, type, 3, "x");
        if (!tokens) return false;
        model.cell = static_cast<Cell>(cell);
        if (cell < 0 || cell >= cells || model.cell == Cell::rde || option < 1 ||
            option > form_of(model.cell, 1).most || PyArray_DIM(tokens, 2) < 1) {
            PyErr_SetString(PyExc_ValueError, "cell, option or width out of range");
            return false;
        }
        model.option = option;
        model.form = form_of(model.cell, option);
        model.steps = PyArray_DIM(tokens, 0);
        model.streams = PyArray_DIM(tokens, 1);
        const int width = model.width = model.part = static_cast<int>(PyArray_DIM(tokens, 2));
        if (model.form.in) {
            PyArrayObject* weight = PyTuple_Check(in) && PyTuple_GET_SIZE(in) == 2
                                        ? checked(PyTuple_GET_ITEM(in, 0), type, 2, "weight")
                                        : nullptr;
            if (!weight) return PyErr_Occurred() ? false : misfit();
            model.part = static_cast<int>(PyArray_DIM(weight, 0)) / model.form.in;
        }
        const bool is_state = model.form.carried || model.cell == Cell::s4d;  // the output has the state's size
        if (model.part < 1 || (is_state && model.part != width)) return misfit();
        if (!layer(in, 1, width, model.form.in, model.part, model.in) ||
            !layer(carried, 1, model.part, model.form.carried, model.part, model.carried) ||
            !layer(out, model.form.out, model.part, model.form.out ? 1 : 0, width, model.out) ||
            !vector(norm, width, model.norm) || !take_vectors(vectors))
            return false;
        model.x = streamrde::data<T>(x);
        if (keep != Py_None) {
            if (!shaped(keep, type, model.streams, width, "keep")) return false;
            model.keep = streamrde::data<T>(keep);
        }
        if (!model.form.lasts) return true;
        if (!shaped(time, type, model.steps, model.streams, "time") ||
            !shaped(state, type, model.streams, model.state_size(), "state"))
            return false;
        model.time = streamrde::data<T>(time);
        model.state = streamrde::data<T>(state);
        return true;
    }

    PyObject* forward(bool keep, int threads) {
        const npy_intp K = model.steps, N = model.streams;
        npy_intp given[3] = {K, N, model.width}, carried[3] = {K, N, model.state_size()};
        npy_intp kept[1] = {keep ? K * N * model.record() : 0};
        Owned y(PyArray_SimpleNew(3, given, type)), states(PyArray_SimpleNew(3, carried, type)),
            tape(PyArray_SimpleNew(1, kept, type));
        if (!y || !states || !tape) return nullptr;
        const bool memory = run(threads, [&](std::size_t, std::ptrdiff_t begin, std::ptrdiff_t end) {
            kernels().forward(model, begin, end, data<T>(y.get()), data<T>(states.get()),
                              keep ? data<T>(tape.get()) : nullptr);
        });
        return memory ? Py_BuildValue("(NNN)", y.release(), states.release(), tape.release()) : PyErr_NoMemory();
    }

    PyObject* backward(PyObject* of_y, PyObject* of_states, PyObject* states, PyObject* tape, int threads) {
        const npy_intp K = model.steps, N = model.streams, S = model.state_size();
        if (!is_like(of_y, model.width) || !is_like(states, S) || (of_states != Py_None && !is_like(of_states, S)) ||
            !shaped(tape, type, K * N * model.record(), -1, "tape"))
            return nullptr;
        npy_intp shape[3] = {K, N, model.width};
        Owned x(PyArray_SimpleNew(3, shape, type)), state(zeros<T>(N, S)), norm(zeros<T>(model.width)),
            layers(PyTuple_New(3)), vectors(PyTuple_New(model.form.vectors));
        if (!x || !state || !norm || !layers || !vectors) return nullptr;
        std::vector<std::unique_ptr<ResidualGradients<T>>> shared(parts(threads));
        const bool memory = run(threads, [&](std::size_t part, std::ptrdiff_t begin, std::ptrdiff_t end) {
            shared[part] = std::make_unique<ResidualGradients<T>>(model);
            kernels().backward(model, begin, end, data<T>(of_y), of_states == Py_None ? nullptr : data<T>(of_states),
                               data<T>(states), data<T>(tape), data<T>(x.get()), data<T>(state.get()), *shared[part]);
        });
        if (!memory) return PyErr_NoMemory();
        const Linear<T>* own[3] = {&model.in, &model.carried, &model.out};
        for (int i = 0; i < 3; ++i) {
            PyObject* pair = gradients_of(*own[i], i, shared);
            if (!pair) return nullptr;
            PyTuple_SET_ITEM(layers.get(), i, pair);
        }
        for (int i = 0; i < model.form.vectors; ++i) {
            const int size = size_of(i);
            PyObject* sum = zeros<T>(size);
            if (!sum) return nullptr;
            PyTuple_SET_ITEM(vectors.get(), i, sum);
            for (const auto& part : shared) add(part->vectors[i].data(), size, data<T>(sum));
        }
        for (const auto& part : shared) add(part->norm.data(), model.width, data<T>(norm.get()));
        return Py_BuildValue("(NNNNN)", x.release(), state.release(), norm.release(), layers.release(),
                             vectors.release());
    }

private:
    static const ResidualKernel<T>& kernels() {
        if constexpr (sizeof(T) == 4) return residual_kernels.of_float;
        else return residual_kernels.of_double;
    }
    static bool misfit() {
        PyErr_SetString(PyExc_ValueError, "layers or vectors do not fit the cell");
        return false;
    }
    bool is_like(PyObject* object, npy_intp size) const {
        PyArrayObject* array = checked(object, type, 3, "gradient or states");
        if (!array) return false;
        if (PyArray_DIM(array, 0) == model.steps && PyArray_DIM(array, 1) == model.streams &&
            PyArray_DIM(array, 2) == size)
            return true;
        PyErr_SetString(PyExc_ValueError, "a gradient or states have another shape than the model's");
        return false;
    }

    // (weight, bias or None), or None where the cell has none.
    static bool layer(PyObject* pair, int ins, int in, int outs, int out, Linear<T>& made) {
        if (!outs) return pair == Py_None ? true : misfit();
        PyObject *weight, *bias;
        if (!PyTuple_Check(pair)) return misfit();
        if (!PyArg_ParseTuple(pair, "OO", &weight, &bias) || !shaped(weight, type, outs * out, ins * in, "weight") ||
            (bias != Py_None && !shaped(bias, type, outs * out, -1, "bias")))
            return false;
        made = {ins, in, outs, out, data<T>(weight), bias == Py_None ? nullptr : data<T>(bias)};
        return true;
    }
    static bool vector(PyObject* object, int size, Numbers<T>& made) {
        if (!shaped(object, type, size, -1, "vector")) return false;
        made = Numbers<T>(padded<T>(size));
        std::copy_n(data<T>(object), size, made.data());
        return true;
    }
    int size_of(int i) const { return is_skip(model.cell, i) ? model.width : model.part; }
    bool take_vectors(PyObject* vectors) {
        if (!PyTuple_Check(vectors) || PyTuple_GET_SIZE(vectors) != model.form.vectors) return misfit();
        for (int i = 0; i < model.form.vectors; ++i) {
            Numbers<T> numbers;
            if (!vector(PyTuple_GET_ITEM(vectors, i), size_of(i), numbers)) return false;
            for (int j = 0; turns(model.cell, model.option, i) && j < model.part; ++j)
                model.fastest = std::max(model.fastest, std::abs(numbers.data()[j]));
            model.vectors.push_back(std::move(numbers));
        }
        return true;
    }

    static void add(const T* from, int size, T* to) {
        for (int i = 0; i < size; ++i) to[i] += from[i];
    }
    // (weight, bias), each None where the layer has none. Parts are added in their order, so that the sums are the same in
    // every run with as many threads.
    static PyObject* gradients_of(const Linear<T>& layer, int place,
                                  const std::vector<std::unique_ptr<ResidualGradients<T>>>& shared) {
        if (!layer.weight) return Py_BuildValue("(OO)", Py_None, Py_None);
        const int outputs = layer.outs * layer.out, inputs = layer.ins * layer.in, columns = layer.columns();
        Owned weight(zeros<T>(outputs, inputs)), bias(layer.bias ? zeros<T>(outputs) : (Py_INCREF(Py_None), Py_None));
        if (!weight || !bias) return nullptr;
        for (const auto& part : shared)
            for (int j = 0; j < outputs; ++j) {
                const int column = j / layer.out * padded<T>(layer.out) + j % layer.out;
                const T* from = part->weights[place].data() + column;
                T* to = data<T>(weight.get()) + static_cast<std::ptrdiff_t>(j) * inputs;
                for (int k = 0; k < inputs; ++k)
                    to[k] +=
                        from[static_cast<std::ptrdiff_t>(k / layer.in * padded<T>(layer.in) + k % layer.in) * columns];
                if (layer.bias) data<T>(bias.get())[j] += part->biases[place].data()[column];
            }
        return Py_BuildValue("(NN)", weight.release(), bias.release());
    }

    std::size_t parts(int threads) const {
        const double per_token = static_cast<double>(model.in.rows()) * model.in.columns() +
                                 static_cast<double>(model.carried.rows()) * model.carried.columns() +
                                 static_cast<double>(model.out.rows()) * model.out.columns() + 50.0 * model.row();
        const double work = per_token * static_cast<double>(model.steps) * static_cast<double>(model.streams);
        return threads_for(work, model.streams, threads);
    }

    // Calls run(part, first stream, one behind the last); false where memory ran out.
    template <typename Run>
    bool run(int threads, const Run& run) const {
        bool memory = true;
        Py_BEGIN_ALLOW_THREADS;
        try {
            const auto count = static_cast<std::ptrdiff_t>(parts(threads));
            run_parts(static_cast<std::size_t>(count), [&](std::size_t part) {
                const auto i = static_cast<std::ptrdiff_t>(part);
                run(part, model.streams * i / count, model.streams * (i + 1) / count);
            });
        } catch (const std::bad_alloc&) {
            memory = false;
        }
        Py_END_ALLOW_THREADS;
        return memory;
    }
};

template <typename T>
PyObject* forward(PyObject* arguments) {
    PyObject *data, *norm, *layers, *vectors;
    int cell, option, keep, threads;
    if (!PyArg_ParseTuple(arguments, "O!iiOO!Opi", &PyTuple_Type, &data, &cell, &option, &norm, &PyTuple_Type, &layers,
                          &vectors, &keep, &threads))
        return nullptr;
    Passes<T> passes;
    if (!passes.take(cell, option, data, norm, layers, vectors)) return nullptr;
    return passes.forward(keep, threads);
}

template <typename T>
PyObject* backward(PyObject* arguments) {
    PyObject *data, *norm, *layers, *vectors, *of_y, *of_states, *states, *tape;
    int cell, option, threads;
    if (!PyArg_ParseTuple(arguments, "O!iiOO!OOOOOi", &PyTuple_Type, &data, &cell, &option, &norm, &PyTuple_Type,
                          &layers, &vectors, &of_y, &of_states, &states, &tape, &threads))
        return nullptr;
    Passes<T> passes;
    if (!passes.take(cell, option, data, norm, layers, vectors)) return nullptr;
    return passes.backward(of_y, of_states, states, tape, threads);
}

// residual_forward((x, keep, time, state), cell, option, norm, (in, carried, out), vectors, keep, threads)
// -> (y, states, tape)
PyObject* residual_forward(PyObject*, PyObject* arguments) {
    return with_type_of(first_of(first_of(arguments)),
                        [&](auto number) { return forward<decltype(number)>(arguments); });
}

// residual_backward((x, keep, time, state), cell, option, norm, (in, carried, out), vectors, gradient of y, of the states,
// states, tape, threads) -> gradients (x, state, norm, (in, carried, out), vectors)
PyObject* residual_backward(PyObject*, PyObject* arguments) {
    return with_type_of(first_of(first_of(arguments)),
                        [&](auto number) { return backward<decltype(number)>(arguments); });
}

}  // namespace

PyMethodDef residual_functions[] = {
    {"residual_forward", residual_forward, METH_VARARGS, nullptr},
    {"residual_backward", residual_backward, METH_VARARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace streamrde
