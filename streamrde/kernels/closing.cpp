// The end of a stack over a sequence, and its gradients, as Python functions: the last norm, what is pooled, and the rows of
// states. It computes little and moves much, so that one variant does.
#include <algorithm>
#include <cmath>
#include <vector>

#include "arrays.hpp"

namespace streamrde {
namespace {

template <typename T>
class Closing {
    static constexpr int type = type_of<T>;

public:
    // False with an error set where the arrays do not belong together.
    bool take(PyObject* x, PyObject* z, PyObject* norm, PyObject* carried, bool mean, bool last, double memory) {
        PyArrayObject* outputs = checked(x, type, 3, "x");
        PyArrayObject* first = outputs ? checked(z, type, 2, "z") : nullptr;
        if (!first) return false;
        steps_ = PyArray_DIM(outputs, 0);
        streams_ = PyArray_DIM(outputs, 1);
        width_ = PyArray_DIM(outputs, 2);
        hidden_ = PyArray_DIM(first, 1);
        x_ = data<T>(x);
        z_ = data<T>(z);
        mean_ = mean;
        last_ = last;
        memory_ = memory;
        if (norm != Py_None) {
            if (!shaped(norm, type, width_, -1, "norm")) return false;
            norm_ = data<T>(norm);
        }
        npy_intp size = (mean + last) * width_ + mean;
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(carried); ++i) {
            PyObject* states = PyTuple_GET_ITEM(carried, i);
            PyArrayObject* array = checked(states, type, 3, "states");
            if (!array) return false;
            if (PyArray_DIM(array, 0) != steps_ || PyArray_DIM(array, 1) != streams_) return misfit();
            carried_.push_back({data<T>(states), PyArray_DIM(array, 2)});
            size += PyArray_DIM(array, 2);
        }
        return (size == hidden_ && PyArray_DIM(first, 0) == streams_ && (mean || last) && memory >= 1) || misfit();
    }

    PyObject* forward() const {
        npy_intp shape[3] = {streams_, steps_ + 1, hidden_};
        Owned states(PyArray_SimpleNew(3, shape, type));
        if (!states) return nullptr;
        T* const whole = data<T>(states.get());
        std::vector<double> mean(width_);
        std::vector<T> normed(width_);
        Py_BEGIN_ALLOW_THREADS;
        for (npy_intp n = 0; n < streams_; ++n) {
            const T* z = z_ + n * hidden_;
            T* to = std::copy_n(z, hidden_, whole + n * (steps_ + 1) * hidden_);
            if (mean_) std::copy_n(z, width_, mean.data());
            T count = mean_ ? z[pooled()] : T(0);
            for (npy_intp k = 0; k < steps_; ++k) {
                const npy_intp row = k * streams_ + n;
                norm(x_ + row * width_, normed.data());
                if (mean_) {
                    count = std::min<T>(count + 1, static_cast<T>(memory_));
                    for (npy_intp i = 0; i < width_; ++i) {
                        mean[i] += (normed[i] - mean[i]) / count;
                        *to++ = static_cast<T>(mean[i]);
                    }
                }
                if (last_) to = std::copy_n(normed.data(), width_, to);
                if (mean_) *to++ = count;
                for (const auto& [from, size] : carried_) to = std::copy_n(from + row * size, size, to);
            }
        }
        Py_END_ALLOW_THREADS;
        return states.release();
    }

    // gradient: with respect to the states.
    PyObject* backward(PyObject* gradient, bool through) const {
        PyArrayObject* array = checked(gradient, type, 3, "gradient");
        if (!array) return nullptr;
        if (PyArray_DIM(array, 0) != streams_ || PyArray_DIM(array, 1) != steps_ + 1 ||
            PyArray_DIM(array, 2) != hidden_)
            return misfit(), nullptr;
        Owned x(zeros<T>(steps_, streams_, width_)), z(zeros<T>(streams_, hidden_)), factors(zeros<T>(width_));
        Owned parts(PyTuple_New(through ? static_cast<Py_ssize_t>(carried_.size()) : 0));
        if (!x || !z || !factors || !parts) return nullptr;
        std::vector<T*> carried;
        for (std::size_t i = 0; through && i < carried_.size(); ++i) {
            PyObject* part = zeros<T>(steps_, streams_, carried_[i].second);
            if (!part) return nullptr;
            PyTuple_SET_ITEM(parts.get(), static_cast<Py_ssize_t>(i), part);
            carried.push_back(data<T>(part));
        }
        const T* const given = data<T>(gradient);
        T *const to_x = data<T>(x.get()), *const to_z = data<T>(z.get()), *const to_factors = data<T>(factors.get());
        std::vector<double> reached(width_);
        std::vector<T> own(width_);
        Py_BEGIN_ALLOW_THREADS;
        for (npy_intp n = 0; n < streams_; ++n) {
            const T* const rows = given + n * (steps_ + 1) * hidden_;
            const double begun = mean_ ? static_cast<double>(z_[n * hidden_ + pooled()]) : 0.0;
            std::fill(reached.begin(), reached.end(), 0.0);
            for (npy_intp k = steps_ - 1; k >= 0; --k) {
                const npy_intp row = k * streams_ + n;
                const T* from = rows + (k + 1) * hidden_;
                std::fill(own.begin(), own.end(), T(0));
                if (mean_) {
                    const double share = 1 / std::min(begun + static_cast<double>(k + 1), memory_);
                    for (npy_intp i = 0; i < width_; ++i) {
                        reached[i] += from[i];
                        own[i] = static_cast<T>(share * reached[i]);
                        reached[i] *= 1 - share;
                    }
                    from += width_;
                }
                for (npy_intp i = 0; last_ && i < width_; ++i) own[i] += from[i];
                norm_backwards(x_ + row * width_, own.data(), to_x + row * width_, to_factors);
                from = rows + (k + 1) * hidden_ + pooled() + mean_;
                for (std::size_t i = 0; i < carried.size(); from += carried_[i++].second)
                    std::copy_n(from, carried_[i].second, carried[i] + row * carried_[i].second);
            }
            std::copy_n(rows, hidden_, to_z + n * hidden_);
            for (npy_intp i = 0; mean_ && i < width_; ++i) to_z[n * hidden_ + i] += static_cast<T>(reached[i]);
        }
        Py_END_ALLOW_THREADS;
        return Py_BuildValue("(NNNN)", x.release(), z.release(), factors.release(), parts.release());
    }

private:
    npy_intp pooled() const { return (mean_ + last_) * width_; }
    static bool misfit() {
        PyErr_SetString(PyExc_ValueError, "states do not fit the outputs");
        return false;
    }
    T inverse_size(const T* x) const {
        // Four sums, so that they need not wait for one another.
        T sums[4] = {};
        npy_intp i = 0;
        for (; i + 4 <= width_; i += 4)
            for (int j = 0; j < 4; ++j) sums[j] += x[i + j] * x[i + j];
        for (; i < width_; ++i) sums[0] += x[i] * x[i];
        return 1 / std::sqrt((sums[0] + sums[1] + sums[2] + sums[3]) / static_cast<T>(width_) + T(norm_floor));
    }
    void norm(const T* x, T* to) const {
        const T inverse = norm_ ? inverse_size(x) : T(1);
        for (npy_intp i = 0; i < width_; ++i) to[i] = norm_ ? x[i] * inverse * norm_[i] : x[i];
    }
    void norm_backwards(const T* x, const T* of, T* to, T* of_factors) const {
        if (!norm_) {
            std::copy_n(of, width_, to);
            return;
        }
        const T inverse = inverse_size(x);
        T sum = 0;
        for (npy_intp i = 0; i < width_; ++i) {
            const T product = of[i] * x[i];
            of_factors[i] += product * inverse;
            sum += product * norm_[i];
        }
        const T less = sum / static_cast<T>(width_) * inverse * inverse;
        for (npy_intp i = 0; i < width_; ++i) to[i] = inverse * (of[i] * norm_[i] - x[i] * less);
    }

    npy_intp steps_ = 0, streams_ = 0, width_ = 0, hidden_ = 0;
    const T *x_ = nullptr, *z_ = nullptr, *norm_ = nullptr;
    std::vector<std::pair<const T*, npy_intp>> carried_;
    bool mean_ = false, last_ = false;
    double memory_ = 1;
};

template <typename T>
PyObject* run(PyObject* arguments, bool is_backward) {
    PyObject *x, *z, *norm, *carried, *gradient = nullptr;
    int mean, last, through = 0;
    double memory;
    if (!PyArg_ParseTuple(arguments, is_backward ? "OOOO!ppdOp" : "OOOO!ppd", &x, &z, &norm, &PyTuple_Type, &carried,
                          &mean, &last, &memory, &gradient, &through))
        return nullptr;
    Closing<T> closing;
    if (!closing.take(x, z, norm, carried, mean, last, memory)) return nullptr;
    return is_backward ? closing.backward(gradient, through) : closing.forward();
}

PyObject* of_either(PyObject* arguments, bool is_backward) {
    return with_type_of(first_of(arguments),
                        [&](auto number) { return run<decltype(number)>(arguments, is_backward); });
}

// closing_forward(x, z, norm, states, mean, last, memory) -> all states
PyObject* closing_forward(PyObject*, PyObject* arguments) { return of_either(arguments, false); }
// closing_backward(x, z, norm, states, mean, last, memory, gradient, through) -> gradients (x, z, norm, states)
PyObject* closing_backward(PyObject*, PyObject* arguments) { return of_either(arguments, true); }

}  // namespace

PyMethodDef closing_functions[] = {
    {"closing_forward", closing_forward, METH_VARARGS, nullptr},
    {"closing_backward", closing_backward, METH_VARARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace streamrde
