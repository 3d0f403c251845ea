// The compiled step as a Python object: weights in, then states, log-signatures and outputs as arrays.
#include "stepper.hpp"

#include <algorithm>
#include <cstring>
#include <memory>

#include "arrays.hpp"
#include "threads.hpp"

namespace streamrde {

StepKernels step_kernels = steps_baseline();

PyArrayObject* shaped(PyObject* object, int type, npy_intp rows, npy_intp columns, const char* name) {
    PyArrayObject* array = checked(object, type, columns < 0 ? 1 : 2, name);
    if (!array) return nullptr;
    if (PyArray_DIM(array, 0) != rows || (columns >= 0 && PyArray_DIM(array, 1) != columns)) {
        PyErr_Format(PyExc_ValueError, "%s has another shape than the model's", name);
        return nullptr;
    }
    return array;
}

bool take_tableau(PyObject* parts, Tableau& tableau) {
    PyObject *nodes, *stages, *weights;
    if (!PyArg_ParseTuple(parts, "iiO!O!O!", &tableau.order, &tableau.nodes, &PyTuple_Type, &nodes, &PyTuple_Type,
                          &stages, &PyTuple_Type, &weights))
        return false;
    const Py_ssize_t count = PyTuple_GET_SIZE(nodes);
    bool fits = count >= 1 && count <= 4 && PyTuple_GET_SIZE(stages) == count && PyTuple_GET_SIZE(weights) == count &&
                tableau.nodes >= 1 && tableau.nodes <= 4;
    tableau.stages = static_cast<int>(count);
    for (Py_ssize_t i = 0; fits && i < count; ++i) {
        PyObject* row = PyTuple_GET_ITEM(stages, i);
        tableau.node[i] = static_cast<int>(PyLong_AsLong(PyTuple_GET_ITEM(nodes, i)));
        tableau.weight[i] = PyFloat_AsDouble(PyTuple_GET_ITEM(weights, i));
        fits = PyTuple_Check(row) && PyTuple_GET_SIZE(row) == i && tableau.node[i] >= 0 &&
               tableau.node[i] <= tableau.nodes && (!i || tableau.node[i] >= tableau.node[i - 1]);
        for (Py_ssize_t j = 0; fits && j < i; ++j) tableau.stage[i][j] = PyFloat_AsDouble(PyTuple_GET_ITEM(row, j));
    }
    if (PyErr_Occurred()) return false;
    if (!fits) PyErr_SetString(PyExc_ValueError, "not a tableau of an explicit method of at most 4 stages");
    return fits;
}

bool take_scaling(PyObject* scale, PyObject* shift, double clip, int summaries, Scaling& scaling) {
    PyArrayObject* scales = checked(scale, NPY_DOUBLE, 1, "scale");
    if (!scales) return false;
    const int features = scaling.features = static_cast<int>(PyArray_DIM(scales, 0));
    scaling.scale = Numbers<double>(features);
    std::copy_n(static_cast<const double*>(PyArray_DATA(scales)), features, scaling.scale.data());
    if (shift != Py_None) {
        PyArrayObject* shifts = shaped(shift, NPY_DOUBLE, features, -1, "shift");
        if (!shifts) return false;
        scaling.shift = Numbers<double>(features);
        std::copy_n(static_cast<const double*>(PyArray_DATA(shifts)), features, scaling.shift.data());
    }
    scaling.clip = clip;
    scaling.summaries = summaries;
    if (features < 1) PyErr_SetString(PyExc_ValueError, "features out of range");
    return features >= 1;
}

template <typename T>
bool take_layer(PyObject* parts, int inputs, Layer<T>& made) {
    constexpr int type = sizeof(T) == 4 ? NPY_FLOAT : NPY_DOUBLE;
    PyObject *weight, *bias;
    int activation;
    if (!PyArg_ParseTuple(parts, "OOi", &weight, &bias, &activation)) return false;
    PyArrayObject* matrix = checked(weight, type, 2, "weight");
    if (!matrix) return false;
    made.outputs = static_cast<int>(PyArray_DIM(matrix, 0));
    made.inputs = static_cast<int>(PyArray_DIM(matrix, 1));
    PyArrayObject* offset = shaped(bias, type, made.outputs, -1, "bias");
    if (!offset) return false;
    if (made.outputs < 1 || made.inputs < 1 || (inputs >= 0 && made.inputs != inputs) || activation < 0 ||
        activation >= activations) {
        PyErr_SetString(PyExc_ValueError, "a layer does not fit the one before it");
        return false;
    }
    made.activation = static_cast<Activation>(activation);
    const int row = padded<T>(made.outputs);
    made.weight = Numbers<T>(static_cast<std::size_t>(row) * made.inputs);
    made.bias = Numbers<T>(row);
    const T* from = static_cast<const T*>(PyArray_DATA(matrix));
    for (int r = 0; r < made.outputs; ++r)
        for (int k = 0; k < made.inputs; ++k) made.weight.data()[k * row + r] = from[r * made.inputs + k];
    std::copy_n(static_cast<const T*>(PyArray_DATA(offset)), made.outputs, made.bias.data());
    return true;
}
template bool take_layer<float>(PyObject* parts, int inputs, Layer<float>& made);
template bool take_layer<double>(PyObject* parts, int inputs, Layer<double>& made);

namespace {

class AnyStepper {
public:
    virtual ~AnyStepper() = default;
    virtual PyObject* apply(bool readout, PyObject* x, bool probabilities) const = 0;
    virtual PyObject* step(PyObject* z, PyObject* logsig, PyObject* previous, bool error, int threads) const = 0;
};

template <typename T>
class StepperOf final : public AnyStepper {
    static constexpr int type = sizeof(T) == 4 ? NPY_FLOAT : NPY_DOUBLE;

public:
    // False with an error set where the arrays do not belong together.
    bool build(PyObject* initial, PyObject* readout, PyObject* layers, PyObject* last, PyObject* scale, PyObject* decay,
               PyObject* tableau, int substeps, double tolerance, int most_substeps, PyObject* shift, double clip,
               int summaries) {
        if (!take_scaling(scale, shift, clip, summaries, model_)) return false;
        model_.substeps = substeps;
        model_.tolerance = tolerance;
        model_.most_substeps = most_substeps;
        if (substeps < 0 || most_substeps < 2) {
            PyErr_SetString(PyExc_ValueError, "substeps out of range");
            return false;
        }
        if (!take_layer(initial, -1, model_.initial)) return false;
        model_.hidden = model_.initial.outputs;
        if (!take_layer(readout, model_.hidden, model_.readout)) return false;
        if (!PyList_Check(layers) || !PyList_GET_SIZE(layers)) {
            PyErr_SetString(PyExc_TypeError, "layers must be a list with at least one entry");
            return false;
        }
        int width = model_.hidden;
        for (Py_ssize_t i = 0; i < PyList_GET_SIZE(layers); ++i) {
            Layer<T> made;
            if (!take_layer(PyList_GET_ITEM(layers, i), width, made)) return false;
            width = made.outputs;
            model_.layers.push_back(std::move(made));
        }
        if (!pack_last(last, width)) return false;
        if (decay != Py_None) {
            PyArrayObject* rates = shaped(decay, type, model_.hidden, -1, "decay");
            if (!rates) return false;
            model_.decay = Numbers<T>(padded<T>(model_.hidden));
            std::copy_n(static_cast<const T*>(PyArray_DATA(rates)), model_.hidden, model_.decay.data());
        }
        return take_tableau(tableau, model_.tableau);
    }

    PyObject* apply(bool readout, PyObject* x, bool probabilities) const override {
        const Layer<T>& layer = readout ? model_.readout : model_.initial;
        PyArrayObject* array = checked(x, type, 2, "x");
        if (!array) return nullptr;
        const npy_intp count = PyArray_DIM(array, 0);
        if (PyArray_DIM(array, 1) != layer.inputs)
            return PyErr_Format(PyExc_ValueError, "x has another shape than the model's");
        npy_intp shape[2] = {count, layer.outputs};
        PyObject* result = PyArray_SimpleNew(2, shape, type);
        if (!result) return nullptr;
        T* out = static_cast<T*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(result)));
        const StepKernel<T>& kernel = kernels();
        kernel.apply(layer, static_cast<const T*>(PyArray_DATA(array)), out, count);
        if (probabilities) kernel.softmax(out, layer.outputs, count);
        return result;
    }

    PyObject* step(PyObject* z, PyObject* logsig, PyObject* previous, bool error, int threads) const override {
        PyArrayObject* states = checked(z, type, 2, "z");
        if (!states) return nullptr;
        const npy_intp count = PyArray_DIM(states, 0);
        if (PyArray_DIM(states, 1) != model_.hidden)
            return PyErr_Format(PyExc_ValueError, "z has another shape than the model's");
        PyArrayObject* own = shaped(logsig, NPY_DOUBLE, count, model_.features, "logsig");
        PyArrayObject* before = own;
        if (own && previous != Py_None) before = shaped(previous, NPY_DOUBLE, count, model_.features, "previous");
        if (!before) return nullptr;
        Steps<T> steps{};
        npy_intp shape[2] = {count, model_.hidden};
        PyObject* moved = PyArray_SimpleNew(2, shape, type);
        PyObject* errors = moved && error ? PyArray_SimpleNew(1, shape, NPY_DOUBLE) : nullptr;
        if (!moved || (error && !errors)) {
            Py_XDECREF(moved);
            return nullptr;
        }
        steps.z = static_cast<T*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(moved)));
        std::memcpy(steps.z, PyArray_DATA(states), count * model_.hidden * sizeof(T));
        steps.logsig = static_cast<const double*>(PyArray_DATA(own));
        steps.previous = previous == Py_None ? nullptr : static_cast<const double*>(PyArray_DATA(before));
        steps.error = error ? static_cast<double*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(errors))) : nullptr;
        steps.count = count;
        bool memory = true;
        Py_BEGIN_ALLOW_THREADS;
        memory = run(steps, threads);
        Py_END_ALLOW_THREADS;
        if (!memory) {
            Py_DECREF(moved);
            Py_XDECREF(errors);
            return PyErr_NoMemory();
        }
        return error ? Py_BuildValue("(NN)", moved, errors) : moved;
    }

private:
    static const StepKernel<T>& kernels() {
        if constexpr (sizeof(T) == 4) return step_kernels.of_float;
        else return step_kernels.of_double;
    }

    bool pack_last(PyObject* parts, int width) {
        PyObject *weight, *bias;
        if (!PyArg_ParseTuple(parts, "OO", &weight, &bias)) return false;
        const int hidden = model_.hidden, features = model_.features, row = padded<T>(hidden);
        const npy_intp outputs = static_cast<npy_intp>(hidden) * features;
        PyArrayObject* matrix = shaped(weight, type, outputs, width, "last weight");
        PyArrayObject* offset = matrix ? shaped(bias, type, outputs, -1, "last bias") : nullptr;
        if (!offset) return false;
        const T* w = static_cast<const T*>(PyArray_DATA(matrix));
        const T* b = static_cast<const T*>(PyArray_DATA(offset));
        const std::ptrdiff_t flat = static_cast<std::ptrdiff_t>(width + 1) * row;
        model_.contracted = (flat + panel<T> - 1) / panel<T> * panel<T>;
        model_.last = Numbers<T>(static_cast<std::size_t>(model_.contracted) * features);
        for (int k = 0; k <= width; ++k)
            for (int h = 0; h < hidden; ++h)
                for (int j = 0; j < features; ++j) {
                    const std::ptrdiff_t i = static_cast<std::ptrdiff_t>(k) * row + h,
                                         output = static_cast<std::ptrdiff_t>(h) * features + j;
                    model_.last.data()[(i / panel<T> * features + j) * panel<T> + i % panel<T>] =
                        k < width ? w[output * width + k] : b[output];
                }
        return true;
    }

    // False where memory ran out. Streams are split over threads; none of their numbers depends on how.
    bool run(const Steps<T>& steps, int threads) const {
        const double work = static_cast<double>(steps.count) * model_.contracted * model_.features;
        const auto parts = static_cast<std::ptrdiff_t>(threads_for(work, steps.count, threads));
        const auto part = [&](std::ptrdiff_t i) {
            const std::ptrdiff_t begin = steps.count * i / parts, end = steps.count * (i + 1) / parts;
            Steps<T> own = steps;
            own.count = end - begin;
            own.z += begin * model_.hidden;
            own.logsig += begin * model_.features;
            if (own.previous) own.previous += begin * model_.features;
            if (own.error) own.error += begin;
            if (own.count) kernels().step(model_, own);
        };
        try {
            run_parts(static_cast<std::size_t>(parts), part);
        } catch (const std::bad_alloc&) {
            return false;
        }
        return true;
    }

    Model<T> model_;
};

struct StepperObject {
    PyObject_HEAD
    AnyStepper* stepper;
};

template <typename T>
AnyStepper* made(PyObject* arguments) {
    PyObject *initial, *readout, *layers, *last, *scale, *decay, *tableau, *shift;
    int is_double, substeps, most_substeps, summaries;
    double tolerance, clip;
    if (!PyArg_ParseTuple(arguments, "pOOOOOOOidiOdi", &is_double, &initial, &readout, &layers, &last, &scale, &decay,
                          &tableau, &substeps, &tolerance, &most_substeps, &shift, &clip, &summaries))
        return nullptr;
    auto stepper = std::make_unique<StepperOf<T>>();
    if (!stepper->build(initial, readout, layers, last, scale, decay, tableau, substeps, tolerance, most_substeps,
                        shift, clip, summaries))
        return nullptr;
    return stepper.release();
}

// Stepper(is_double, initial, readout, layers, last, scale, decay, tableau, substeps, tolerance, most_substeps, shift, clip,
//         summaries)
int stepper_init(PyObject* object, PyObject* arguments, PyObject*) {
    auto* self = reinterpret_cast<StepperObject*>(object);
    if (self->stepper || PyTuple_GET_SIZE(arguments) < 1) {
        PyErr_SetString(PyExc_ValueError, "give the model once");
        return -1;
    }
    try {
        const int is_double = PyObject_IsTrue(PyTuple_GET_ITEM(arguments, 0));
        self->stepper = is_double ? made<double>(arguments) : made<float>(arguments);
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
    }
    return self->stepper ? 0 : -1;
}

void stepper_dealloc(PyObject* object) {
    delete reinterpret_cast<StepperObject*>(object)->stepper;
    PyTypeObject* type = Py_TYPE(object);
    type->tp_free(object);
    Py_DECREF(type);
}

const AnyStepper* ready(PyObject* object) {
    const AnyStepper* stepper = reinterpret_cast<StepperObject*>(object)->stepper;
    if (!stepper) PyErr_SetString(PyExc_RuntimeError, "the stepper was not initialised");
    return stepper;
}

PyObject* stepper_initial(PyObject* object, PyObject* x0) {
    const AnyStepper* stepper = ready(object);
    return stepper ? stepper->apply(false, x0, false) : nullptr;
}

// output(z, probabilities)
PyObject* stepper_output(PyObject* object, PyObject* const* arguments, Py_ssize_t count) {
    const AnyStepper* stepper = ready(object);
    if (!stepper) return nullptr;
    if (count != 2) return PyErr_Format(PyExc_TypeError, "output takes 2 arguments");
    return stepper->apply(true, arguments[0], arguments[1] == Py_True);
}

// step(z, logsig, previous, error, threads) -> z or (z, errors)
PyObject* stepper_step(PyObject* object, PyObject* const* arguments, Py_ssize_t count) {
    const AnyStepper* stepper = ready(object);
    if (!stepper) return nullptr;
    if (count != 5) return PyErr_Format(PyExc_TypeError, "step takes 5 arguments");
    const long threads = PyLong_AsLong(arguments[4]);
    if (threads == -1 && PyErr_Occurred()) return nullptr;
    return stepper->step(arguments[0], arguments[1], arguments[2], arguments[3] == Py_True, static_cast<int>(threads));
}

PyMethodDef stepper_methods[] = {
    {"initial", stepper_initial, METH_O, nullptr},
    {"output", cast(stepper_output), METH_FASTCALL, nullptr},
    {"step", cast(stepper_step), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot stepper_slots[] = {
    {Py_tp_new, reinterpret_cast<void*>(object_new)},
    {Py_tp_init, reinterpret_cast<void*>(stepper_init)},
    {Py_tp_dealloc, reinterpret_cast<void*>(stepper_dealloc)},
    {Py_tp_methods, stepper_methods},
    {0, nullptr},
};

}  // namespace

PyType_Spec stepper_spec = {"streamrde.kernels._native.Stepper", sizeof(StepperObject), 0, Py_TPFLAGS_DEFAULT,
                            stepper_slots};

}  // namespace streamrde
