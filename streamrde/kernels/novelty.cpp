// P-values of windows: the compiled twin of inference.novelty, whose docstrings say what each number means.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <new>
#include <vector>

#include "arrays.hpp"

namespace streamrde {

namespace {

// Values of a function that is given at ascending places and linear between them.
struct Table {
    const double* places;
    const double* values;
    std::ptrdiff_t count;

    // NumPy's interp: beyond the ends the value there.
    double operator()(double x) const {
        if (!(x >= places[0])) return values[0];
        if (x >= places[count - 1]) return values[count - 1];
        const std::ptrdiff_t i = std::upper_bound(places, places + count, x) - places - 1;
        return (values[i + 1] - values[i]) / (places[i + 1] - places[i]) * (x - places[i]) + values[i];
    }
};

struct Block {
    std::ptrdiff_t begin, size, rank;
    std::vector<double> axes;  // (size, rank)
};

class Windows {
public:
    // False with an error set where the arrays do not belong together.
    bool build(PyObject* arguments) {
        PyObject *level, *coefficient, *size, *scale, *center, *spread, *rest, *tails, *log_p, *slope, *axes;
        if (!PyArg_ParseTuple(arguments, "OOOOOOOOOOO!dd", &level, &coefficient, &size, &scale, &center, &spread, &rest,
                              &tails, &log_p, &slope, &PyList_Type, &axes, &floor_, &least_p_))
            return false;
        if (!take(level, NPY_INTP, "level", level_) || !take(coefficient, NPY_INTP, "coefficient", coefficient_) ||
            !take(size, NPY_INTP, "size", size_) || !take(scale, NPY_DOUBLE, "scale", scale_) ||
            !take(center, NPY_DOUBLE, "center", center_) || !take(spread, NPY_DOUBLE, "spread", spread_) ||
            !take(rest, NPY_DOUBLE, "rest", rest_) || !take(log_p, NPY_DOUBLE, "log_p", log_p_) ||
            !take(slope, NPY_DOUBLE, "slope", slope_))
            return false;
        const std::ptrdiff_t blocks = PyList_GET_SIZE(axes);
        std::ptrdiff_t begin = 0;
        for (std::ptrdiff_t i = 0; i < blocks; ++i) {
            PyArrayObject* own = checked(PyList_GET_ITEM(axes, i), NPY_DOUBLE, 2, "axes");
            if (!own) return false;
            const auto* data = static_cast<const double*>(PyArray_DATA(own));
            Block block{begin, PyArray_DIM(own, 0), PyArray_DIM(own, 1), {}};
            block.axes.assign(data, data + PyArray_SIZE(own));
            begin += block.size;
            blocks_.push_back(std::move(block));
        }
        PyArrayObject* table = checked(tails, NPY_DOUBLE, 2, "tails");
        if (!table) return false;
        const auto* data = static_cast<const double*>(PyArray_DATA(table));
        tails_.assign(data, data + PyArray_SIZE(table));
        if (fits(begin, PyArray_DIM(table, 0), PyArray_DIM(table, 1))) return true;
        PyErr_SetString(PyExc_ValueError, "the arrays do not belong together");
        return false;
    }

    PyObject* p(PyObject* logsigs) const {
        PyArrayObject* windows = checked(logsigs, NPY_DOUBLE, 2, "logsigs");
        if (!windows) return nullptr;
        const auto coefficients = static_cast<npy_intp>(level_.size());
        if (PyArray_DIM(windows, 1) != coefficients)
            return PyErr_Format(PyExc_ValueError, "logsigs has another shape than the model's");
        npy_intp count = PyArray_DIM(windows, 0);
        PyObject* result = PyArray_SimpleNew(1, &count, NPY_DOUBLE);
        if (!result) return nullptr;
        const auto* from = static_cast<const double*>(PyArray_DATA(windows));
        auto* to = static_cast<double*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(result)));
        try {
            std::vector<double> g(level_.size()), u(center_.size()), inside(most_directions_);
            for (npy_intp i = 0; i < count; ++i) to[i] = of(from + i * coefficients, g.data(), u.data(), inside.data());
        } catch (const std::bad_alloc&) {
            Py_DECREF(result);
            return PyErr_NoMemory();
        }
        return result;
    }

private:
    template <typename T>
    static bool take(PyObject* object, int type, const char* name, std::vector<T>& target) {
        PyArrayObject* array = checked(object, type, 1, name);
        if (!array) return false;
        const auto* data = static_cast<const T*>(PyArray_DATA(array));
        target.assign(data, data + PyArray_SIZE(array));
        return true;
    }

    bool fits(std::ptrdiff_t features, npy_intp rows, npy_intp ranks) {
        const auto count = [](const auto& values) { return static_cast<std::ptrdiff_t>(values.size()); };
        if (blocks_.size() < 2 || ranks < 2 || rows != count(blocks_) + 1 || count(log_p_) != ranks) return false;
        const Block& sizes = blocks_.back();
        if (count(center_) != features || count(spread_) != features || count(scale_) != count(level_) ||
            count(level_) != sizes.begin || count(coefficient_) != count(size_) || count(rest_) != count(blocks_) ||
            count(slope_) != count(blocks_))
            return false;
        for (const Block& block : blocks_) {
            if (block.size < 1) return false;
            most_directions_ = std::max(most_directions_, block.rank);
        }
        for (std::size_t i = 0; i < size_.size(); ++i)
            if (coefficient_[i] < 0 || coefficient_[i] >= count(level_) || size_[i] < 0 || size_[i] >= sizes.size)
                return false;
        for (std::ptrdiff_t b = 0; b + 1 < count(blocks_); ++b)
            for (std::ptrdiff_t i = 0; i < blocks_[b].size; ++i)
                if (level_[blocks_[b].begin + i] != b + 1) return false;
        return true;
    }

    // The p-value of one window; the rest is room to work in.
    double of(const double* logsig, double* g, double* u, double* inside) const {
        describe(logsig, g, u);
        const auto ranks = static_cast<std::ptrdiff_t>(log_p_.size());
        double score = 0.0;
        for (std::size_t b = 0; b < blocks_.size(); ++b) {
            const Block& block = blocks_[b];
            const double* own = u + block.begin;
            std::fill_n(inside, block.rank, 0.0);
            double squares = 0.0;
            for (std::ptrdiff_t i = 0; i < block.size; ++i) {
                squares += own[i] * own[i];
                const double* row = block.axes.data() + i * block.rank;
                for (std::ptrdiff_t r = 0; r < block.rank; ++r) inside[r] += own[i] * row[r];
            }
            double projected = 0.0;
            for (std::ptrdiff_t r = 0; r < block.rank; ++r) projected += inside[r] * inside[r];
            const double distance = rest_[b] * std::max(squares - projected, 0.0);
            // max(NaN, 0) may be 0: the squares tell.
            if (!std::isfinite(distance) || !std::isfinite(squares)) return least_p_;
            const double* tail = tails_.data() + static_cast<std::ptrdiff_t>(b) * ranks;
            score -= Table{tail, log_p_.data(), ranks}(distance);
            if (const double last = tail[ranks - 1]; distance > last)
                score += slope_[b] * std::log(distance / std::max(last, floor_));
        }
        const double* scores = tails_.data() + static_cast<std::ptrdiff_t>(blocks_.size()) * ranks;
        return score <= scores[ranks - 1] ? std::exp(Table{scores, log_p_.data(), ranks}(score)) : least_p_;
    }

    // Features of a window, less their centres, in spreads.
    void describe(const double* logsig, double* g, double* u) const {
        const std::size_t coefficients = level_.size();
        for (std::size_t i = 0; i < coefficients; ++i) {
            const double size = std::fabs(logsig[i]);
            double root;
            switch (level_[i]) {
                case 1:
                    root = size;
                    break;
                case 2:
                    root = std::sqrt(size);
                    break;
                case 3:
                    root = std::cbrt(size);
                    break;
                default:
                    root = std::pow(size, 1.0 / static_cast<double>(level_[i]));
            }
            g[i] = std::copysign(root, logsig[i]) * scale_[i];
        }
        const Block& sizes = blocks_.back();
        double* size = u + sizes.begin;
        std::fill_n(size, sizes.size, 0.0);
        for (std::size_t i = 0; i < size_.size(); ++i) size[size_[i]] += g[coefficient_[i]] * g[coefficient_[i]];
        for (std::ptrdiff_t i = 0; i < sizes.size; ++i) size[i] = std::log(size[i] + floor_);
        for (std::size_t b = 0; b + 1 < blocks_.size(); ++b) {
            const Block& block = blocks_[b];
            double squares = 0.0;
            for (std::ptrdiff_t i = 0; i < block.size; ++i) squares += g[block.begin + i] * g[block.begin + i];
            const double norm = std::sqrt(squares / static_cast<double>(block.size) + floor_);
            for (std::ptrdiff_t i = 0; i < block.size; ++i) u[block.begin + i] = g[block.begin + i] / norm;
        }
        for (std::size_t i = 0; i < center_.size(); ++i) u[i] = (u[i] - center_[i]) * spread_[i];
    }

    std::vector<npy_intp> level_, coefficient_, size_;
    std::vector<double> scale_, center_, spread_, rest_, tails_, log_p_, slope_;
    std::vector<Block> blocks_;
    std::ptrdiff_t most_directions_ = 0;
    double floor_ = 0.0, least_p_ = 0.0;
};

struct NoveltyObject {
    PyObject_HEAD
    Windows* windows;
};

// Novelty(level, coefficient, size, scale, center, spread, rest, tails, log_p, slope, axes, floor, least_p)
int novelty_init(PyObject* object, PyObject* arguments, PyObject*) {
    auto* self = reinterpret_cast<NoveltyObject*>(object);
    if (self->windows) {
        PyErr_SetString(PyExc_ValueError, "give the training windows once");
        return -1;
    }
    try {
        auto windows = std::make_unique<Windows>();
        if (windows->build(arguments)) self->windows = windows.release();
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
    }
    return self->windows ? 0 : -1;
}

void novelty_dealloc(PyObject* object) {
    delete reinterpret_cast<NoveltyObject*>(object)->windows;
    PyTypeObject* type = Py_TYPE(object);
    type->tp_free(object);
    Py_DECREF(type);
}

// p(logsigs) -> (n,)
PyObject* novelty_p(PyObject* object, PyObject* logsigs) {
    const Windows* windows = reinterpret_cast<NoveltyObject*>(object)->windows;
    if (!windows) return PyErr_Format(PyExc_RuntimeError, "the training windows were not given");
    return windows->p(logsigs);
}

PyMethodDef novelty_methods[] = {
    {"p", novelty_p, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot novelty_slots[] = {
    {Py_tp_new, reinterpret_cast<void*>(object_new)},
    {Py_tp_init, reinterpret_cast<void*>(novelty_init)},
    {Py_tp_dealloc, reinterpret_cast<void*>(novelty_dealloc)},
    {Py_tp_methods, novelty_methods},
    {0, nullptr},
};

}  // namespace

PyType_Spec novelty_spec = {"streamrde.kernels._native.Novelty", sizeof(NoveltyObject), 0, Py_TPFLAGS_DEFAULT,
                            novelty_slots};

}  // namespace streamrde
