// A sequence of log-ODE steps and its gradients as Python functions: weights, log-signatures and states as arrays.
#include "sequence.hpp"

#include <algorithm>
#include <memory>

#include "arrays.hpp"
#include "threads.hpp"

namespace streamrde {

SequenceKernels sequence_kernels = sequences_baseline();

namespace {

template <typename T>
class Passes {
public:
    Sequence<T> model{};

    // False with an error set where the arrays do not belong together.
    bool take(PyObject* logsigs, PyObject* seconds, PyObject* mask, PyObject* before, PyObject* layers, PyObject* last,
              PyObject* rates, PyObject* tableau, int substeps, bool backward) {
        PyArrayObject* windows = checked(logsigs, type, 3, "logsigs");
        if (!windows) return false;
        model.rows = PyArray_DIM(windows, 0);
        model.windows = PyArray_DIM(windows, 1);
        model.features = static_cast<int>(PyArray_DIM(windows, 2));
        model.logsigs = data<T>(logsigs);
        model.substeps = substeps;
        if (substeps < 1 || model.features < 1) {
            PyErr_SetString(PyExc_ValueError, "features or substeps out of range");
            return false;
        }
        if (!take_tableau(tableau, model.tableau) || !take_layers(layers, backward) || !take_last(last, backward))
            return false;
        if (rates != Py_None) {
            if (!shaped(rates, type, model.hidden, -1, "rates") ||
                !shaped(seconds, type, model.rows, model.windows, "seconds"))
                return false;
            model.decay = Numbers<T>(model.row());
            std::copy_n(data<T>(rates), model.hidden, model.decay.data());
            model.seconds = data<T>(seconds);
        }
        if (mask != Py_None) {
            if (!shaped(mask, type, model.rows, model.width, "mask")) return false;
            model.mask = data<T>(mask);
        }
        if (before != Py_None) {
            if (!shaped(before, type, model.rows, model.features, "before")) return false;
            model.before = data<T>(before);
        }
        return true;
    }

    PyObject* forward(PyObject* first, bool keep, int threads) {
        const npy_intp N = model.rows, K = model.windows, H = model.hidden;
        if (!shaped(first, type, N, H, "first")) return nullptr;
        npy_intp shape[3] = {N, K + 1, H};
        const Record<T> record(model);
        npy_intp kept[1] = {keep ? N * K * record.size : 0};
        Owned states(PyArray_SimpleNew(3, shape, type)), tape(PyArray_SimpleNew(1, kept, type));
        if (!states || !tape) return nullptr;
        T *const to = data<T>(states.get()), *const record_to = keep ? data<T>(tape.get()) : nullptr;
        for (npy_intp r = 0; r < N; ++r) std::copy_n(data<T>(first) + r * H, H, to + r * (K + 1) * H);
        const bool memory = run(threads, [&](std::size_t, const std::vector<std::ptrdiff_t>& rows) {
            kernels().forward(model, rows.data(), static_cast<std::ptrdiff_t>(rows.size()), to, record_to);
        });
        return memory ? Py_BuildValue("(NN)", states.release(), tape.release()) : PyErr_NoMemory();
    }

    PyObject* backward(PyObject* gradient, PyObject* states, PyObject* tape, int threads) {
        const npy_intp N = model.rows, K = model.windows, H = model.hidden, B = model.features;
        PyArrayObject* wanted = checked(gradient, type, 3, "gradient");
        PyArrayObject* given = wanted ? checked(states, type, 3, "states") : nullptr;
        if (!given || !shaped(tape, type, N * K * Record<T>(model).size, -1, "tape")) return nullptr;
        for (PyArrayObject* array : {wanted, given})
            if (PyArray_DIM(array, 0) != N || PyArray_DIM(array, 1) != K + 1 || PyArray_DIM(array, 2) != H)
                return PyErr_Format(PyExc_ValueError, "states or their gradient have another shape than the model's");
        Owned first(zeros<T>(N, H)), last(zeros<T>(H * B, model.width)), last_bias(zeros<T>(H * B)),
            layers(PyList_New(0));
        Owned decay(model.decay.size() ? zeros<T>(H) : (Py_INCREF(Py_None), Py_None));
        if (!first || !last || !last_bias || !layers || !decay) return nullptr;
        for (const HiddenLayer<T>& layer : model.layers) {
            Owned pair(Py_BuildValue("(NN)", zeros<T>(layer.outputs, layer.inputs), zeros<T>(layer.outputs)));
            if (!pair || PyList_Append(layers.get(), pair.get()) < 0) return nullptr;
        }
        std::vector<std::unique_ptr<SharedGradients<T>>> shared(parts(threads));
        const bool memory = run(threads, [&](std::size_t part, const std::vector<std::ptrdiff_t>& rows) {
            T* to = part || padded<T>(model.width) != model.width ? nullptr : data<T>(last.get());
            shared[part] = std::make_unique<SharedGradients<T>>(model, to);
            kernels().backward(model, rows.data(), static_cast<std::ptrdiff_t>(rows.size()), data<T>(states),
                               data<T>(tape), data<T>(gradient), data<T>(first.get()), *shared[part]);
        });
        if (!memory) return PyErr_NoMemory();
        // In the order of the parts, so that the sums are the same in every run with as many threads.
        const int row = model.row(), wide = padded<T>(model.width);
        for (const auto& part : shared) {
            for (std::size_t i = 0; i < model.layers.size(); ++i) {
                const HiddenLayer<T>& layer = model.layers[i];
                PyObject* pair = PyList_GET_ITEM(layers.get(), i);
                add_rows(part->layers[i].data(), padded<T>(layer.inputs), layer.outputs, layer.inputs,
                         data<T>(PyTuple_GET_ITEM(pair, 0)));
                add_rows(part->biases[i].data(), 0, 1, layer.outputs, data<T>(PyTuple_GET_ITEM(pair, 1)));
            }
            if (part->last != data<T>(last.get())) add_rows(part->last, wide, H * B, model.width, data<T>(last.get()));
            for (npy_intp h = 0; h < H; ++h)
                for (npy_intp j = 0; j < B; ++j)
                    data<T>(last_bias.get())[h * B + j] += part->last_bias.data()[j * row + h];
            if (model.decay.size()) add_rows(part->decay.data(), 0, 1, H, data<T>(decay.get()));
        }
        return Py_BuildValue("(NNNNN)", first.release(), layers.release(), last.release(), last_bias.release(),
                             decay.release());
    }

private:
    static constexpr int type = type_of<T>;

    static const SequenceKernel<T>& kernels() {
        if constexpr (sizeof(T) == 4) return sequence_kernels.of_float;
        else return sequence_kernels.of_double;
    }

    static void add_rows(const T* from, std::ptrdiff_t stride, std::ptrdiff_t rows, std::ptrdiff_t size, T* to) {
        for (std::ptrdiff_t r = 0; r < rows; ++r)
            for (std::ptrdiff_t i = 0; i < size; ++i) to[r * size + i] += from[r * stride + i];
    }

    bool take_layers(PyObject* layers, bool backward) {
        if (!PyList_Check(layers) || !PyList_GET_SIZE(layers)) {
            PyErr_SetString(PyExc_TypeError, "layers must be a list with at least one entry");
            return false;
        }
        for (Py_ssize_t i = 0; i < PyList_GET_SIZE(layers); ++i) {
            PyObject *weight, *bias;
            int activation;
            if (!PyArg_ParseTuple(PyList_GET_ITEM(layers, i), "OOi", &weight, &bias, &activation)) return false;
            PyArrayObject* matrix = checked(weight, type, 2, "weight");
            if (!matrix || !shaped(bias, type, PyArray_DIM(matrix, 0), -1, "bias")) return false;
            HiddenLayer<T> layer;
            const int outputs = layer.outputs = static_cast<int>(PyArray_DIM(matrix, 0));
            const int inputs = layer.inputs = static_cast<int>(PyArray_DIM(matrix, 1));
            if (outputs < 1 || inputs < 1 || (i && inputs != model.width) || activation < 0 ||
                activation >= activations) {
                PyErr_SetString(PyExc_ValueError, "a layer does not fit the one before it");
                return false;
            }
            layer.activation = static_cast<Activation>(activation);
            if (!i) model.hidden = inputs;
            model.width = outputs;
            const T* from = data<T>(weight);
            const int in = padded<T>(inputs), out = padded<T>(outputs);
            layer.forward = Numbers<T>(static_cast<std::size_t>(inputs) * out);
            layer.bias = Numbers<T>(out);
            std::copy_n(data<T>(bias), outputs, layer.bias.data());
            if (backward) layer.backward = Numbers<T>(static_cast<std::size_t>(outputs) * in);
            for (int r = 0; r < outputs; ++r) {
                for (int k = 0; k < inputs; ++k) layer.forward.data()[k * out + r] = from[r * inputs + k];
                if (backward) std::copy_n(from + r * inputs, inputs, layer.backward.data() + r * in);
            }
            model.layers.push_back(std::move(layer));
        }
        return true;
    }

    bool take_last(PyObject* parts, bool backward) {
        PyObject *weight, *bias;
        if (!PyArg_ParseTuple(parts, "OO", &weight, &bias)) return false;
        const std::ptrdiff_t H = model.hidden, B = model.features, width = model.width, row = model.row();
        if (!shaped(weight, type, H * B, width, "last weight") || !shaped(bias, type, H * B, -1, "last bias"))
            return false;
        const T *w = data<T>(weight), *b = data<T>(bias);
        if (backward) {
            const std::ptrdiff_t wide = padded<T>(model.width);
            model.backward = w;
            if (wide == width) return true;
            model.copied = Numbers<T>(H * B * wide);
            for (std::ptrdiff_t r = 0; r < H * B; ++r)
                std::copy_n(w + r * width, width, model.copied.data() + r * wide);
            model.backward = model.copied.data();
            return true;
        }
        model.forward = Numbers<T>((width + 1) * B * row);
        T* to = model.forward.data();
        constexpr std::ptrdiff_t tile = padding<T>;  // of a transposition, so that no line is fetched twice
        for (std::ptrdiff_t j = 0; j < B; ++j) {
            for (std::ptrdiff_t h0 = 0; h0 < H; h0 += tile)
                for (std::ptrdiff_t k0 = 0; k0 < width; k0 += tile)
                    for (std::ptrdiff_t k = k0; k < std::min(k0 + tile, width); ++k)
                        for (std::ptrdiff_t h = h0; h < std::min(h0 + tile, H); ++h)
                            to[(k * B + j) * row + h] = w[(h * B + j) * width + k];
            for (std::ptrdiff_t h = 0; h < H; ++h) to[(width * B + j) * row + h] = b[h * B + j];
        }
        return true;
    }

    std::size_t parts(int threads) const {
        const double work =
            static_cast<double>(model.rows) * model.windows * model.hidden * model.width * model.features;
        return threads_for(work, model.rows, threads);
    }

    // After so many windows a row's state stays as it is: the rest are padding, of length 0.
    std::ptrdiff_t length(std::ptrdiff_t r) const {
        const std::ptrdiff_t K = model.windows, B = model.features;
        const auto moves = [&](std::ptrdiff_t k) {
            const T* logsig = model.logsigs + (r * K + k) * B;
            return (model.decay.size() && model.seconds[r * K + k] != 0) ||
                   std::any_of(logsig, logsig + B, [](T l) { return l != 0; });
        };
        std::ptrdiff_t k = K;
        while (k && !moves(k - 1)) --k;
        return model.before ? std::min(k + 1, K) : k;  // the window before drives a first stage
    }

    // Calls run(part, its rows, the longest first); false where memory ran out.
    template <typename Run>
    bool run(int threads, const Run& run) {
        bool memory = true;
        Py_BEGIN_ALLOW_THREADS;
        try {
            std::vector<std::ptrdiff_t> lengths(model.rows), order(model.rows);
            for (std::ptrdiff_t r = 0; r < model.rows; ++r) {
                lengths[r] = length(r);
                order[r] = r;
            }
            model.lengths = lengths.data();
            std::stable_sort(order.begin(), order.end(),
                             [&](std::ptrdiff_t a, std::ptrdiff_t b) { return lengths[a] > lengths[b]; });
            std::vector<std::vector<std::ptrdiff_t>> rows(parts(threads));
            for (std::size_t i = 0; i < order.size(); ++i) rows[i % rows.size()].push_back(order[i]);
            run_parts(rows.size(), [&](std::size_t part) { run(part, rows[part]); });
        } catch (const std::bad_alloc&) {
            memory = false;
        }
        Py_END_ALLOW_THREADS;
        return memory;
    }
};

template <typename T>
PyObject* forward(PyObject* arguments) {
    PyObject *first, *logsigs, *seconds, *mask, *before, *layers, *last, *rates, *tableau;
    int substeps, keep, threads;
    if (!PyArg_ParseTuple(arguments, "OOOOOOOOOipi", &first, &logsigs, &seconds, &mask, &before, &layers, &last, &rates,
                          &tableau, &substeps, &keep, &threads))
        return nullptr;
    Passes<T> passes;
    if (!passes.take(logsigs, seconds, mask, before, layers, last, rates, tableau, substeps, false)) return nullptr;
    return passes.forward(first, keep, threads);
}

template <typename T>
PyObject* backward(PyObject* arguments) {
    PyObject *gradient, *states, *tape, *logsigs, *seconds, *mask, *before, *layers, *last, *rates, *tableau;
    int substeps, threads;
    if (!PyArg_ParseTuple(arguments, "OOOOOOOOOOOii", &gradient, &states, &tape, &logsigs, &seconds, &mask, &before,
                          &layers, &last, &rates, &tableau, &substeps, &threads))
        return nullptr;
    Passes<T> passes;
    if (!passes.take(logsigs, seconds, mask, before, layers, last, rates, tableau, substeps, true)) return nullptr;
    return passes.backward(gradient, states, tape, threads);
}

// sequence_forward(first, logsigs, seconds, mask, before, layers, last, rates, tableau, substeps, keep, threads)
// -> (states, tape)
PyObject* sequence_forward(PyObject*, PyObject* arguments) {
    return with_type_of(first_of(arguments), [&](auto number) { return forward<decltype(number)>(arguments); });
}

// sequence_backward(gradient, states, tape, logsigs, seconds, mask, before, layers, last, rates, tableau, substeps, threads)
// -> gradients (first, [(weight, bias)], last weight, last bias, rates)
PyObject* sequence_backward(PyObject*, PyObject* arguments) {
    return with_type_of(first_of(arguments), [&](auto number) { return backward<decltype(number)>(arguments); });
}

}  // namespace

PyMethodDef sequence_functions[] = {
    {"sequence_forward", sequence_forward, METH_VARARGS, nullptr},
    {"sequence_backward", sequence_backward, METH_VARARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace streamrde
