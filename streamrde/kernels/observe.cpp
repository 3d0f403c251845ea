// What samples show of their streams before they are taken: values that cannot be, channels that do not come.
//
// The compiled twin of `observe` in reference.py, where the marks and the events are explained.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <new>
#include <vector>

#include "arrays.hpp"

namespace streamrde {
namespace {

struct Marks {
    std::uint32_t since, longest, outside;
};

// Stops one below the largest number, which as a bound means never.
void up(std::uint32_t& count) {
    if (count < UINT32_MAX - 1) ++count;
}

PyObject* observe(PyObject*, PyObject* const* arguments, Py_ssize_t given) {
    if (given != 6) return PyErr_Format(PyExc_TypeError, "observe takes 6 arguments");
    PyArrayObject* table = checked(arguments[0], NPY_UINT32, 2, "marks");
    PyArrayObject* slots = table ? checked(arguments[1], NPY_INTP, 1, "slots") : nullptr;
    PyArrayObject* samples = slots ? checked(arguments[2], NPY_DOUBLE, 2, "x") : nullptr;
    PyArrayObject* bounds = samples ? checked(arguments[3], NPY_DOUBLE, 2, "bounds") : nullptr;
    PyArrayObject* sentinels = bounds ? checked(arguments[4], NPY_DOUBLE, 1, "sentinels") : nullptr;
    PyArrayObject* after = sentinels ? checked(arguments[5], NPY_UINT32, 2, "after") : nullptr;
    if (!after) return nullptr;
    const npy_intp count = PyArray_DIM(samples, 0), channels = PyArray_DIM(samples, 1), width = PyArray_DIM(table, 1);
    const auto* slot = static_cast<const npy_intp*>(PyArray_DATA(slots));
    bool fits = width == 2 + 3 * channels && PyArray_DIM(slots, 0) == count && PyArray_ISWRITEABLE(table) &&
                PyArray_DIM(bounds, 0) == 4 && PyArray_DIM(bounds, 1) == channels && PyArray_DIM(after, 0) == 3 &&
                PyArray_DIM(after, 1) == channels;
    for (npy_intp i = 0; fits && i < count; ++i) fits = slot[i] >= 0 && slot[i] < PyArray_DIM(table, 0);
    if (!fits) {
        PyErr_SetString(PyExc_ValueError, "the arrays' shapes or slots do not belong together");
        return nullptr;
    }
    auto* marks = static_cast<std::uint32_t*>(PyArray_DATA(table));
    const auto* x = static_cast<const double*>(PyArray_DATA(samples));
    const auto* low = static_cast<const double*>(PyArray_DATA(bounds));
    const double *high = low + channels, *near_low = high + channels, *near_high = near_low + channels;
    const auto* known = static_cast<const double*>(PyArray_DATA(sentinels));
    const double* known_end = known + PyArray_DIM(sentinels, 0);
    const auto* unseen_after = static_cast<const std::uint32_t*>(PyArray_DATA(after));
    const std::uint32_t *gone_after = unseen_after + channels, *far_after = gone_after + channels;
    std::vector<std::int64_t> events;
    try {
        for (npy_intp i = 0; i < count; ++i, x += channels) {
            std::uint32_t* row = marks + slot[i] * width;
            bool usual = true;  // no value is missing, none is far
            for (npy_intp c = 0; c < channels; ++c) usual &= (x[c] >= near_low[c]) & (x[c] <= near_high[c]);
            if (usual && row[1]) {
                up(row[0]);
                continue;
            }
            bool any = false;
            for (npy_intp c = 0; c < channels; ++c) any |= !std::isnan(x[c]);
            if (!any) continue;
            auto* own = reinterpret_cast<Marks*>(row + 2);
            bool calm = true;
            up(row[0]);
            for (npy_intp c = 0; c < channels; ++c) {
                Marks& mark = own[c];
                const double value = x[c];
                const bool before = mark.longest != 0;
                const std::uint64_t bound =
                    before ? std::max<std::uint64_t>(gone_after[c], 10ull * mark.longest) : unseen_after[c];
                if (std::isnan(value)) {
                    up(mark.since);
                    if (mark.since == bound) events.insert(events.end(), {i, c, before ? gone : unseen});
                    calm = false;
                    continue;
                }
                if (mark.since >= bound && mark.since) events.insert(events.end(), {i, c, seen_again});
                if (before) mark.longest = std::max(mark.longest, mark.since);
                else mark.longest = 1;
                mark.since = 0;
                if (value >= near_low[c] && value <= near_high[c]) {
                    if (mark.outside >= far_after[c] && mark.outside) events.insert(events.end(), {i, c, near_again});
                    mark.outside = 0;
                } else if (std::isfinite(value)) {
                    if (value < low[c] || value > high[c] || std::find(known, known_end, value) != known_end) {
                        events.insert(events.end(), {i, c, implausible});
                    } else {
                        up(mark.outside);
                        if (mark.outside == far_after[c]) events.insert(events.end(), {i, c, far});
                    }
                }
                calm &= mark.outside == 0;
            }
            row[1] = calm;
        }
    } catch (const std::bad_alloc&) {
        return PyErr_NoMemory();
    }
    if (events.empty()) Py_RETURN_NONE;
    return array_from(events.data(), NPY_INT64, static_cast<npy_intp>(events.size() / 3), 3);
}

}  // namespace

PyMethodDef observe_functions[] = {
    {"observe", cast(observe), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace streamrde
