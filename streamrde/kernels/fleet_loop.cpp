// The fleet's loop as a Python object.
#include <algorithm>
#include <cstring>
#include <new>
#include <tuple>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "loop.hpp"
#include "shares.hpp"

namespace streamrde {
namespace {

static_assert(sizeof(npy_intp) == sizeof(std::int64_t), "slots are 64-bit");

struct LoopObject {
    PyObject_HEAD
    Loop* loop;
    std::vector<double>* limits;  // of push_one: low and high of each channel; null: none
};

// The types in kernels/outcome.py, loaded with the first loop and kept.
struct Types {
    PyObject *outcome, *refusal;
    PyArray_Descr *window, *episode, *unused, *cut;
};
Types types{};

bool load_types() {
    if (types.cut) return true;
    PyObject* module = PyImport_ImportModule("streamrde.kernels.outcome");
    if (!module) return false;
    Types found{};
    const auto dtype = [module](const char* name) {
        return reinterpret_cast<PyArray_Descr*>(PyObject_GetAttrString(module, name));
    };
    const bool complete = (found.outcome = PyObject_GetAttrString(module, "Outcome")) &&
                          (found.refusal = PyObject_GetAttrString(module, "Refusal")) &&
                          (found.window = dtype("WINDOW")) && (found.episode = dtype("EPISODE")) &&
                          (found.unused = dtype("UNUSED")) && (found.cut = dtype("CUT"));
    Py_DECREF(module);
    if (complete) types = found;
    return complete;
}

// Speeds as three rows of numbers; false with an error set.
bool take_speeds(PyObject* given, const char* name, Speeds& speeds) {
    PyArrayObject* rows = checked(given, NPY_DOUBLE, 2, name);
    if (!rows) return false;
    const npy_intp all = PyArray_DIM(rows, 1);
    if (PyArray_DIM(rows, 0) != 3 || all < 1) {
        PyErr_Format(PyExc_ValueError, "%s must have three rows", name);
        return false;
    }
    const auto* own = static_cast<const double*>(PyArray_DATA(rows));
    try {
        speeds = {{own, own + all}, {own + all, own + 2 * all}, {own + 2 * all, own + 3 * all}};
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
        return false;
    }
    return true;
}

// Parts (n, 7) and scales (n, 2) as numbers, and the words of each scale, see `compiled_loop`; false with an error set.
bool take_tokens(const Layout& layout, PyObject* parts, PyObject* scales, PyObject* scale_words, Tokens& tokens) {
    PyArrayObject* part_rows = checked(parts, NPY_INTP, 2, "parts");
    PyArrayObject* scale_rows = part_rows ? checked(scales, NPY_INTP, 2, "scales") : nullptr;
    if (!scale_rows) return false;
    const npy_intp part_count = PyArray_DIM(part_rows, 0), scale_count = PyArray_DIM(scale_rows, 0);
    const auto unfit = [] {
        PyErr_SetString(PyExc_ValueError, "the token's description does not fit the row");
        return false;
    };
    if ((part_count && PyArray_DIM(part_rows, 1) != 7) || PyArray_DIM(scale_rows, 1) != 2 || scale_count < 1 ||
        PyTuple_GET_SIZE(scale_words) != scale_count || tokens.constants.size() % 2 != 1)
        return unfit();
    tokens.channels = layout.channels;
    tokens.path = layout.path();
    tokens.values = layout.values();
    const npy_intp signature = row_size(layout.path(), layout.depth);
    const std::ptrdiff_t summed = tokens.summaries ? layout.channels * sums_of_a_channel : 0;
    if (tokens.rings < layout.signature + signature || tokens.sums < tokens.rings ||
        tokens.waves < tokens.sums + summed || tokens.pulses < tokens.waves + layout.channels * tokens.wave_size() ||
        tokens.pulses + layout.channels * tokens.pulse_size() > layout.width)
        return unfit();
    const auto* row = static_cast<const npy_intp*>(PyArray_DATA(part_rows));
    try {
        for (npy_intp i = 0; i < part_count; ++i, row += 7) {
            const npy_intp earlier = row[0], later = row[1], depth = row[3];
            if (depth < 1 || depth > layout.depth) return unfit();
            const npy_intp size = row_size(tokens.path, static_cast<int>(depth));
            if (later >= i || earlier >= i || (later < 0) != (earlier < 0) || row[4] != size || row[5] < 1 ||
                row[2] < 0 || row[6] < 0 || tokens.rings + row[6] + row[5] * size > tokens.sums)
                return unfit();
            if (later >= 0 && (row[2] >= tokens.parts[earlier].slots || tokens.parts[earlier].size < size ||
                               tokens.parts[later].size < size))
                return unfit();
            tokens.parts.push_back({earlier, later, row[2], row[5], static_cast<int>(depth), size, row[6],
                                    select_kernel(tokens.path, static_cast<int>(depth))});
        }
        row = static_cast<const npy_intp*>(PyArray_DATA(scale_rows));
        for (npy_intp i = 0; i < scale_count; ++i, row += 2) {
            PyArrayObject* words = checked(PyTuple_GET_ITEM(scale_words, i), NPY_INTP, 1, "words");
            if (!words) return false;
            if (row[0] >= part_count || row[1] < 1 || row[1] > layout.depth) return unfit();
            const int depth = static_cast<int>(row[1]);
            const npy_intp size = row_size(tokens.path, depth), count = PyArray_DIM(words, 0);
            if (row[0] >= 0 && tokens.parts[row[0]].size < size) return unfit();
            const auto* place = static_cast<const npy_intp*>(PyArray_DATA(words));
            for (npy_intp k = 0; k < count; ++k)
                if (place[k] < 0 || place[k] >= size) return unfit();
            tokens.scales.push_back(
                {row[0], depth, select_kernel(tokens.path, depth), WordTable(tokens.path, depth, place, count)});
        }
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
        return false;
    }
    return true;
}

int loop_init(PyObject* object, PyObject* arguments, PyObject*) {
    auto* self = reinterpret_cast<LoopObject*>(object);
    Layout layout{};
    Partition partition{};
    Order order{};
    int time, counts, elapsed, hold, carry, resumes, duplicates, merge;
    long long wait_samples, lateness_samples, max_held, restart_after;
    const char* policy_name;
    PyObject *indices, *initial, *policy_numbers, *bands, *constants, *parts, *scales, *scale_words;
    Tokens tokens;
    int ends, summaries;
    if (!PyArg_ParseTuple(arguments, "(nnnn)(ipppi)OO(sO)(pddpp)(Ld)(dLLipL)(nnnnppOOOOO!)", &layout.width, &layout.x,
                          &layout.seen, &layout.signature, &layout.channels, &time, &counts, &elapsed, &layout.depth,
                          &indices, &initial, &policy_name, &policy_numbers, &hold, &partition.longest_gap,
                          &partition.holds, &carry, &resumes, &wait_samples, &partition.wait_seconds, &order.lateness,
                          &lateness_samples, &max_held, &duplicates, &merge, &restart_after, &tokens.rings,
                          &tokens.sums, &tokens.waves, &tokens.pulses, &ends, &summaries, &bands, &constants, &parts,
                          &scales, &PyTuple_Type, &scale_words))
        return -1;
    if (!load_types()) return -1;
    PyArrayObject* words = checked(indices, NPY_INTP, 1, "indices");
    PyArrayObject* fills = words ? checked(initial, NPY_DOUBLE, 1, "fills") : nullptr;
    PyArrayObject* numbers = fills ? checked(policy_numbers, NPY_DOUBLE, 1, "numbers") : nullptr;
    if (!numbers) return -1;
    layout.time = time != 0;
    layout.counts = counts != 0;
    layout.elapsed = elapsed != 0;
    const bool sized = layout.channels >= 0 && layout.channels < (1 << 20) && layout.path() >= 1 && layout.depth >= 1 &&
                       layout.depth <= max_depth;
    const npy_intp size = sized ? row_size(layout.path(), layout.depth) : 0;
    const auto* place = static_cast<const npy_intp*>(PyArray_DATA(words));
    const npy_intp features = PyArray_DIM(words, 0);
    std::unique_ptr<Policy> policy =
        make_policy(policy_name, static_cast<const double*>(PyArray_DATA(numbers)), PyArray_DIM(numbers, 0));
    if (!policy) {
        PyErr_Format(PyExc_ValueError, "no compiled window policy '%s' takes these numbers", policy_name);
        return -1;
    }
    bool fits = size && layout.x >= columns && layout.x + layout.values() <= layout.seen &&
                layout.seen + layout.channels <= layout.signature && layout.signature + size <= layout.width &&
                (policy->features == 0 || policy->features == static_cast<std::size_t>(features)) && duplicates >= 0 &&
                duplicates <= 2 && PyArray_DIM(fills, 0) == layout.channels && !self->loop;
    for (npy_intp i = 0; fits && i < features; ++i) fits = place[i] >= 0 && place[i] < size;
    if (!fits) {
        PyErr_SetString(PyExc_ValueError, "the row's layout does not fit the sizes");
        return -1;
    }
    partition.hold = hold != 0;
    partition.carry = carry != 0;
    partition.resumes = resumes != 0;
    partition.wait_samples = wait_samples;
    order.lateness_samples = lateness_samples;
    order.max_held = max_held;
    order.duplicates = static_cast<Duplicates>(duplicates);
    order.merge = merge != 0;
    order.restart_after = restart_after;
    const auto* fill = static_cast<const double*>(PyArray_DATA(fills));
    tokens.ends = ends != 0;
    tokens.summaries = summaries != 0;
    if (!take_speeds(bands, "bands", tokens.bands) || !take_speeds(constants, "constants", tokens.constants) ||
        !take_tokens(layout, parts, scales, scale_words, tokens))
        return -1;
    layout.observes = tokens.observes();
    try {
        self->loop = new Loop(layout, partition, std::move(policy), order, select_kernel(layout.path(), layout.depth),
                              WordTable(layout.path(), layout.depth, place, features), std::move(tokens),
                              {fill, fill + layout.channels});
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

void loop_dealloc(PyObject* object) {
    delete reinterpret_cast<LoopObject*>(object)->loop;
    delete reinterpret_cast<LoopObject*>(object)->limits;
    PyTypeObject* type = Py_TYPE(object);
    type->tp_free(object);
    Py_DECREF(type);
}

// The table and the streams that a call is about, checked.
struct Table {
    Loop* loop = nullptr;
    double* rows = nullptr;
    npy_intp slots_in_table = 0;
    const std::int64_t* slot = nullptr;
    npy_intp count = 0;

    bool read(PyObject* object, PyObject* const* arguments, Py_ssize_t given, Py_ssize_t wanted) {
        loop = reinterpret_cast<LoopObject*>(object)->loop;
        if (!loop) {
            PyErr_SetString(PyExc_RuntimeError, "the loop was not initialised");
            return false;
        }
        if (given != wanted) {
            PyErr_Format(PyExc_TypeError, "it takes %zd arguments", wanted);
            return false;
        }
        PyArrayObject* table = checked(arguments[0], NPY_DOUBLE, 2, "rows");
        PyArrayObject* slots = table ? checked(arguments[1], NPY_INTP, 1, "slots") : nullptr;
        if (!slots) return false;
        rows = static_cast<double*>(PyArray_DATA(table));
        slots_in_table = PyArray_DIM(table, 0);
        slot = static_cast<const std::int64_t*>(PyArray_DATA(slots));
        count = PyArray_DIM(slots, 0);
        bool fits = PyArray_DIM(table, 1) == loop->layout().width && PyArray_ISWRITEABLE(table);
        for (npy_intp i = 0; fits && i < count; ++i) fits = slot[i] >= 0 && slot[i] < slots_in_table;
        return fits || unfit();
    }

    static bool unfit() {
        PyErr_SetString(PyExc_ValueError, "the arrays' shapes or slots do not belong together");
        return false;
    }

    // One number per slot, or null.
    const double* times(PyObject* object) const {
        PyArrayObject* t = checked(object, NPY_DOUBLE, 1, "t");
        if (!t || (PyArray_DIM(t, 0) != count && !unfit())) return nullptr;
        return static_cast<const double*>(PyArray_DATA(t));
    }
};

// In order of slot, each stream's silences in order of time.
void sort_by_slot(Outcome& outcome) {
    std::sort(outcome.owing.begin(), outcome.owing.end());
    outcome.owing.erase(std::unique(outcome.owing.begin(), outcome.owing.end()), outcome.owing.end());
    std::stable_sort(outcome.cuts.begin(), outcome.cuts.end(),
                     [](const Cut& a, const Cut& b) { return a.slot < b.slot; });
}

// An array of structures of kernels/outcome.py.
template <typename Row>
PyObject* structured(const std::vector<Row>& rows, PyArray_Descr* dtype) {
    const npy_intp count = static_cast<npy_intp>(rows.size());
    Py_INCREF(dtype);
    PyObject* array = PyArray_NewFromDescr(&PyArray_Type, dtype, 1, &count, nullptr, nullptr, 0, nullptr);
    if (array && count)
        std::memcpy(PyArray_DATA(reinterpret_cast<PyArrayObject*>(array)), rows.data(), count * sizeof(Row));
    return array;
}

// An Outcome of kernels/outcome.py.
PyObject* as_outcome(Outcome& outcome, const Loop& loop) {
    sort_by_slot(outcome);
    const auto windows = static_cast<npy_intp>(outcome.windows.size());
    const auto episodes = static_cast<npy_intp>(outcome.episodes.size());
    constexpr std::size_t count = 8;
    PyObject* parts[count] = {
        structured(outcome.windows, types.window),
        array_from(outcome.logsigs.data(), NPY_DOUBLE, windows, static_cast<npy_intp>(loop.token_size())),
        array_from(outcome.values.data(), NPY_DOUBLE, windows, loop.layout().channels),
        structured(outcome.episodes, types.episode),
        array_from(outcome.origins.data(), NPY_DOUBLE, episodes, loop.layout().values()),
        structured(outcome.unused, types.unused),
        array_from(outcome.owing.data(), NPY_INTP, static_cast<npy_intp>(outcome.owing.size()), -1),
        structured(outcome.cuts, types.cut),
    };
    bool memory = true;
    for (PyObject* part : parts) memory &= part != nullptr;
    PyObject* result = memory ? PyObject_Vectorcall(types.outcome, parts, count, nullptr) : nullptr;
    for (PyObject* part : parts) Py_XDECREF(part);
    return result;
}

// Raises a Refusal of kernels/outcome.py.
PyObject* raise_refusal(const Refusal& refusal) {
    PyObject* error = PyObject_CallFunction(types.refusal, "inid", static_cast<int>(refusal.fault),
                                            static_cast<Py_ssize_t>(refusal.row), refusal.column, refusal.bound);
    if (error) PyErr_SetObject(types.refusal, error);
    Py_XDECREF(error);
    return nullptr;
}

// Runs `work` on a table without the GIL and returns what closed.
template <typename Work>
PyObject* without_gil(const Table& table, Work work) {
    Outcome outcome;
    bool memory = true;
    Py_BEGIN_ALLOW_THREADS;
    try {
        table.loop->reserve(static_cast<std::size_t>(table.slots_in_table));
        work(outcome);
    } catch (const std::bad_alloc&) {
        memory = false;
    }
    Py_END_ALLOW_THREADS;
    return memory ? as_outcome(outcome, *table.loop) : PyErr_NoMemory();
}

// A number of windows that a call may close: negative is any number. False where it is none.
bool read_windows(PyObject* object, std::int64_t& windows) {
    const long long given = PyLong_AsLongLong(object);
    if (given == -1 && PyErr_Occurred()) return false;
    windows = given < 0 ? unbounded : given;
    return true;
}

// push(rows, slots, t, x, drop, threads = 1, windows = -1) -> an Outcome; raises a Refusal
PyObject* loop_push(PyObject* object, PyObject* const* arguments, Py_ssize_t given) {
    Table table;
    if (!table.read(object, arguments, std::min<Py_ssize_t>(given, 5), 5)) return nullptr;
    const double* times = table.times(arguments[2]);
    PyArrayObject* x = times ? checked(arguments[3], NPY_DOUBLE, 2, "x") : nullptr;
    if (!x) return nullptr;
    if (PyArray_DIM(x, 0) != table.count || PyArray_DIM(x, 1) != table.loop->layout().channels) {
        Table::unfit();
        return nullptr;
    }
    const int drop = PyObject_IsTrue(arguments[4]);
    const long threads = drop < 0 ? -1 : given > 5 ? PyLong_AsLong(arguments[5]) : 1;
    if (threads == -1 && PyErr_Occurred()) return nullptr;
    std::int64_t windows = unbounded;
    if (given > 6 && !read_windows(arguments[6], windows)) return nullptr;
    const auto* data = static_cast<const double*>(PyArray_DATA(x));
    Refusal refusal;
    PyObject* result = without_gil(table, [&](Outcome& outcome) {
        if (!drop && table.loop->holds(table.rows, table.slot, table.count)) {
            // The first refusal in order of arrival shows only when the rows before it have been taken, in this order.
            std::vector<Loop::Saved> saved = table.loop->save(table.rows, table.slot, table.count);
            refusal =
                table.loop->push(table.rows, table.slot, times, data, nullptr, table.count, false, windows, outcome);
            if (refusal.fault != Fault::none) table.loop->put_back(table.rows, saved);
            return;
        }
        refusal = push_streams(*table.loop, {table.rows, table.slots_in_table, table.slot, times, data, table.count},
                               drop != 0, static_cast<int>(threads), windows, outcome);
    });
    if (!result || refusal.fault == Fault::none) return result;
    Py_DECREF(result);
    return raise_refusal(refusal);
}

// A sample's values where they can be read without a conversion: of a float64 array, a list or a tuple of floats.
bool read_sample(PyObject* x, int channels, double* sample) {
    // No subclass: the mask of a masked array would be lost.
    if (PyArray_CheckExact(x)) {
        auto* array = reinterpret_cast<PyArrayObject*>(x);
        if (PyArray_NDIM(array) != 1 || PyArray_DIM(array, 0) != channels || PyArray_TYPE(array) != NPY_DOUBLE ||
            PyArray_ISBYTESWAPPED(array))
            return false;
        for (int i = 0; i < channels; ++i)
            std::memcpy(sample + i, PyArray_BYTES(array) + i * PyArray_STRIDE(array, 0), sizeof(double));
        return true;
    }
    if ((!PyList_Check(x) && !PyTuple_Check(x)) || PySequence_Fast_GET_SIZE(x) != channels) return false;
    for (int i = 0; i < channels; ++i) {
        PyObject* item = PySequence_Fast_GET_ITEM(x, i);
        if (!PyFloat_Check(item)) return false;
        sample[i] = PyFloat_AS_DOUBLE(item);
    }
    return true;
}

// push_one(rows, slot, t, x, drop): push of one row without arrays around it -> None where it closed and began nothing,
// False where it has to be pushed the other way, else as push.
PyObject* loop_push_one(PyObject* object, PyObject* const* arguments, Py_ssize_t given) {
    Loop* loop = reinterpret_cast<LoopObject*>(object)->loop;
    if (!loop) return PyErr_Format(PyExc_RuntimeError, "the loop was not initialised");
    if (given != 5) return PyErr_Format(PyExc_TypeError, "push_one takes 5 arguments");
    constexpr int most_channels = 64;
    double sample[most_channels];
    const int channels = loop->layout().channels;
    if (channels > most_channels || !PyFloat_Check(arguments[2]) || !read_sample(arguments[3], channels, sample))
        Py_RETURN_FALSE;
    if (const std::vector<double>* limits = reinterpret_cast<LoopObject*>(object)->limits) {
        const double *low = limits->data(), *high = low + channels;
        bool inside = true;  // NaN is
        for (int i = 0; i < channels; ++i) inside &= !(sample[i] < low[i]) && !(sample[i] > high[i]);
        if (!inside) Py_RETURN_FALSE;
    }
    PyArrayObject* table = checked(arguments[0], NPY_DOUBLE, 2, "rows");
    if (!table) return nullptr;
    const std::int64_t slot = PyLong_AsLongLong(arguments[1]);
    if (slot == -1 && PyErr_Occurred()) return nullptr;
    if (PyArray_DIM(table, 1) != loop->layout().width || !PyArray_ISWRITEABLE(table) || slot < 0 ||
        slot >= PyArray_DIM(table, 0)) {
        Table::unfit();
        return nullptr;
    }
    auto* rows = static_cast<double*>(PyArray_DATA(table));
    const double t = PyFloat_AS_DOUBLE(arguments[2]);
    const bool drop = arguments[4] == Py_True;
    // A refused row may then have moved held samples on, and they would have to be put back.
    if (!drop && loop->holds(rows, &slot, 1)) Py_RETURN_FALSE;
    Outcome outcome;
    Refusal refusal;
    try {
        loop->reserve(static_cast<std::size_t>(PyArray_DIM(table, 0)));
        refusal = loop->push(rows, &slot, &t, sample, nullptr, 1, drop, unbounded, outcome);
    } catch (const std::bad_alloc&) {
        return PyErr_NoMemory();
    }
    if (refusal.fault != Fault::none) return raise_refusal(refusal);
    if (outcome.empty()) Py_RETURN_NONE;
    return as_outcome(outcome, *loop);
}

// How many windows a call may close, and how many of one stream: its last two arguments, unbounded where they are left out.
struct Bounds {
    std::int64_t windows = unbounded, share = unbounded;

    bool read(PyObject* const* arguments, Py_ssize_t given, Py_ssize_t wanted) {
        return given <= wanted || (given == wanted + 2 && read_windows(arguments[wanted], windows) &&
                                   read_windows(arguments[wanted + 1], share));
    }
};

// advance(rows, slots, t, windows = -1, share = -1)
PyObject* loop_advance(PyObject* object, PyObject* const* arguments, Py_ssize_t given) {
    Table table;
    Bounds bounds;
    if (!bounds.read(arguments, given, 3) || !table.read(object, arguments, given == 5 ? 3 : given, 3)) return nullptr;
    const double* times = table.times(arguments[2]);
    if (!times) return nullptr;
    return without_gil(table, [&](Outcome& outcome) {
        table.loop->advance(table.rows, table.slot, times, table.count, bounds.windows, bounds.share, outcome);
    });
}

// pass_time(rows, slots, t)
PyObject* loop_pass_time(PyObject* object, PyObject* const* arguments, Py_ssize_t given) {
    Table table;
    if (!table.read(object, arguments, given, 3)) return nullptr;
    const double* times = table.times(arguments[2]);
    if (!times) return nullptr;
    return without_gil(
        table, [&](Outcome& outcome) { table.loop->pass_time(table.rows, table.slot, times, table.count, outcome); });
}

// flush(rows, slots, windows = -1, share = -1), go_on(...)
template <void (Loop::*method)(double*, const std::int64_t*, std::ptrdiff_t, std::int64_t, std::int64_t, Outcome&)>
PyObject* loop_in_shares(PyObject* object, PyObject* const* arguments, Py_ssize_t given) {
    Table table;
    Bounds bounds;
    if (!bounds.read(arguments, given, 2) || !table.read(object, arguments, given == 4 ? 2 : given, 2)) return nullptr;
    return without_gil(table, [&](Outcome& outcome) {
        (table.loop->*method)(table.rows, table.slot, table.count, bounds.windows, bounds.share, outcome);
    });
}

// close(rows, slots)
PyObject* loop_close(PyObject* object, PyObject* const* arguments, Py_ssize_t given) {
    Table table;
    if (!table.read(object, arguments, given, 2)) return nullptr;
    return without_gil(table,
                       [&](Outcome& outcome) { table.loop->close(table.rows, table.slot, table.count, outcome); });
}

Loop* initialised(PyObject* object) {
    Loop* loop = reinterpret_cast<LoopObject*>(object)->loop;
    if (!loop) PyErr_SetString(PyExc_RuntimeError, "the loop was not initialised");
    return loop;
}

// held(slot) -> (n, entry)
PyObject* loop_held(PyObject* object, PyObject* slot) {
    Loop* loop = initialised(object);
    const Py_ssize_t place = loop ? PyNumber_AsSsize_t(slot, PyExc_IndexError) : -1;
    if (!loop || (place == -1 && PyErr_Occurred())) return nullptr;
    const Held* held = place < 0 ? nullptr : loop->held_of(static_cast<std::size_t>(place));
    const npy_intp width = loop->layout().entry();
    const npy_intp pending = held ? held->pending.size() : 0, waiting = held ? held->waiting.size() : 0;
    PyObject* result = array_from(pending ? held->pending.at(0) : nullptr, NPY_DOUBLE, pending, width);
    if (!result || !waiting) return result;
    Py_DECREF(result);
    npy_intp shape[2] = {pending + waiting, width};
    result = PyArray_SimpleNew(2, shape, NPY_DOUBLE);
    if (!result) return nullptr;
    auto* out = static_cast<double*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(result)));
    if (pending) std::memcpy(out, held->pending.at(0), pending * width * sizeof(double));
    std::memcpy(out + pending * width, held->waiting.at(0), waiting * width * sizeof(double));
    return result;
}

// hold(slot, entries, ripe)
PyObject* loop_hold(PyObject* object, PyObject* const* arguments, Py_ssize_t given) {
    Loop* loop = initialised(object);
    if (!loop) return nullptr;
    if (given != 3) return PyErr_Format(PyExc_TypeError, "hold takes 3 arguments");
    const Py_ssize_t slot = PyNumber_AsSsize_t(arguments[0], PyExc_IndexError);
    if (slot == -1 && PyErr_Occurred()) return nullptr;
    PyArrayObject* entries = checked(arguments[1], NPY_DOUBLE, 2, "entries");
    const Py_ssize_t ripe = entries ? PyNumber_AsSsize_t(arguments[2], PyExc_IndexError) : -1;
    if (!entries || (ripe == -1 && PyErr_Occurred())) return nullptr;
    const npy_intp count = PyArray_DIM(entries, 0);
    if (slot < 0 || ripe < 0 || ripe > count || PyArray_DIM(entries, 1) != loop->layout().entry()) {
        Table::unfit();
        return nullptr;
    }
    try {
        loop->hold(static_cast<std::size_t>(slot), static_cast<const double*>(PyArray_DATA(entries)), count, ripe);
    } catch (const std::exception&) {
        return PyErr_NoMemory();
    }
    Py_RETURN_NONE;
}

// limit(low, high): values outside of them have to be pushed another way than by push_one.
PyObject* loop_limit(PyObject* object, PyObject* const* arguments, Py_ssize_t given) {
    Loop* loop = initialised(object);
    if (!loop) return nullptr;
    if (given != 2) return PyErr_Format(PyExc_TypeError, "limit takes 2 arguments");
    PyArrayObject* low = checked(arguments[0], NPY_DOUBLE, 1, "low");
    PyArrayObject* high = low ? checked(arguments[1], NPY_DOUBLE, 1, "high") : nullptr;
    if (!high) return nullptr;
    const npy_intp channels = loop->layout().channels;
    if (PyArray_DIM(low, 0) != channels || PyArray_DIM(high, 0) != channels) {
        Table::unfit();
        return nullptr;
    }
    const auto *a = static_cast<const double*>(PyArray_DATA(low)), *b = static_cast<const double*>(PyArray_DATA(high));
    auto& limits = reinterpret_cast<LoopObject*>(object)->limits;
    try {
        if (!limits) limits = new std::vector<double>();
        limits->assign(a, a + channels);
        limits->insert(limits->end(), b, b + channels);
    } catch (const std::bad_alloc&) {
        return PyErr_NoMemory();
    }
    Py_RETURN_NONE;
}

PyMethodDef loop_methods[] = {
    {"push", cast(loop_push), METH_FASTCALL, nullptr},
    {"push_one", cast(loop_push_one), METH_FASTCALL, nullptr},
    {"advance", cast(loop_advance), METH_FASTCALL, nullptr},
    {"pass_time", cast(loop_pass_time), METH_FASTCALL, nullptr},
    {"flush", cast(loop_in_shares<&Loop::flush>), METH_FASTCALL, nullptr},
    {"go_on", cast(loop_in_shares<&Loop::go_on>), METH_FASTCALL, nullptr},
    {"close", cast(loop_close), METH_FASTCALL, nullptr},
    {"held", loop_held, METH_O, nullptr},
    {"hold", cast(loop_hold), METH_FASTCALL, nullptr},
    {"limit", cast(loop_limit), METH_FASTCALL, nullptr},
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
