// Pooled random features as a Python object; see pooling.hpp.
#include "pooling.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#include "arrays.hpp"

namespace streamrde {

PoolingKernel pooling_kernel = pooling_baseline();

namespace {

// Entries per weight that is not 0 from which a block takes less time without its zeros, for a window alone as for many.
constexpr std::size_t least_zeros = 8;
static_assert(padding<float> % together == 0, "a row of directions is a number of groups");

// States in the rows of a table, perhaps in some of its columns.
struct Rows {
    double* data;
    npy_intp count, stride;
};

bool take_rows(PyObject* object, std::ptrdiff_t size, Rows& rows) {
    auto* array = reinterpret_cast<PyArrayObject*>(object);
    constexpr npy_intp item = sizeof(double);
    if (!PyArray_Check(object) || PyArray_TYPE(array) != NPY_DOUBLE || PyArray_NDIM(array) != 2 ||
        !PyArray_ISBEHAVED(array) || PyArray_STRIDE(array, 1) != item || PyArray_STRIDE(array, 0) % item) {
        PyErr_SetString(PyExc_TypeError, "rows must be rows of float64 that can be written, each one contiguous");
        return false;
    }
    if (PyArray_DIM(array, 1) != size) {
        PyErr_SetString(PyExc_ValueError, "rows have another width than a state");
        return false;
    }
    rows = {static_cast<double*>(PyArray_DATA(array)), PyArray_DIM(array, 0), PyArray_STRIDE(array, 0) / item};
    return true;
}

bool within(const PyArrayObject* slots, npy_intp count) {
    const auto* slot = static_cast<const npy_intp*>(PyArray_DATA(const_cast<PyArrayObject*>(slots)));
    const npy_intp n = PyArray_DIM(slots, 0);
    if (std::all_of(slot, slot + n, [count](npy_intp own) { return own >= 0 && own < count; })) return true;
    PyErr_SetString(PyExc_IndexError, "a slot is outside of the rows");
    return false;
}

class Pools {
public:
    // False with an error set where the arrays do not belong together.
    bool build(PyObject* arguments) {
        PyObject *shift, *scale, *blocks, *pools, *rates;
        Py_ssize_t summaries, roots;
        if (!PyArg_ParseTuple(arguments, "OOdnnO!O!O", &shift, &scale, &model_.clip, &summaries, &roots, &PyList_Type,
                              &blocks, &PyList_Type, &pools, &rates))
            return false;
        PyArrayObject* shifts = checked(shift, NPY_DOUBLE, 1, "shift");
        if (!shifts) return false;
        const npy_intp entries = PyArray_DIM(shifts, 0);
        PyArrayObject* scales = shaped(scale, NPY_DOUBLE, entries, -1, "scale");
        PyArrayObject* lives = scales ? checked(rates, NPY_DOUBLE, 1, "rates") : nullptr;
        if (!lives) return false;
        if (summaries < 0 || summaries > entries || roots < 0 || roots > entries || PyArray_DIM(lives, 0) < 1) {
            PyErr_SetString(PyExc_ValueError, "summaries or roots are outside of the token, or there is no rate");
            return false;
        }
        model_.entries = static_cast<int>(entries);
        model_.summaries = summaries;
        model_.roots = roots;
        model_.shift = copied(shifts);
        model_.scale = copied(scales);
        const auto* rate = static_cast<const double*>(PyArray_DATA(lives));
        model_.rates.assign(rate, rate + PyArray_DIM(lives, 0));
        model_.padded_random = 0;
        std::ptrdiff_t directions = 0;
        for (Py_ssize_t i = 0; i < PyList_GET_SIZE(blocks); ++i)
            if (!add_block(PyList_GET_ITEM(blocks, i), directions)) return false;
        model_.state = static_cast<std::ptrdiff_t>(model_.rates.size());
        for (Py_ssize_t i = 0; i < PyList_GET_SIZE(pools); ++i)
            if (!add_pool(PyList_GET_ITEM(pools, i), directions)) return false;
        model_.features = model_.state - static_cast<std::ptrdiff_t>(model_.rates.size());
        return true;
    }

    PyObject* advance(PyObject* states, PyObject* slots, PyObject* tokens, PyObject* weight, PyObject* bias) const {
        Rows rows;
        PoolWindows windows{};
        if (!take_rows(states, model_.state, rows)) return nullptr;
        PyArrayObject* places = checked(slots, NPY_INTP, 1, "slots");
        if (!places || !within(places, rows.count)) return nullptr;
        windows.count = PyArray_DIM(places, 0);
        PyArrayObject* own = shaped(tokens, NPY_DOUBLE, windows.count, model_.entries, "tokens");
        if (!own || !take_readout(weight, bias, windows.readout)) return nullptr;
        npy_intp shape[2] = {windows.count, windows.readout.outputs};
        PyObject* unusual = PyArray_SimpleNew(1, shape, NPY_BOOL);
        PyObject* outputs = nullptr;
        if (unusual && windows.readout.weight) outputs = PyArray_SimpleNew(2, shape, NPY_DOUBLE);
        if (!unusual || (windows.readout.weight && !outputs)) {
            Py_XDECREF(unusual);
            return nullptr;
        }
        windows.rows = rows.data;
        windows.stride = rows.stride;
        windows.slots = static_cast<const npy_intp*>(PyArray_DATA(places));
        windows.tokens = static_cast<const double*>(PyArray_DATA(own));
        windows.unusual = static_cast<std::uint8_t*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(unusual)));
        if (outputs) windows.outputs = static_cast<double*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(outputs)));
        if (!run(windows)) {
            Py_DECREF(unusual);
            Py_XDECREF(outputs);
            return PyErr_NoMemory();
        }
        return outputs ? Py_BuildValue("(NN)", unusual, outputs) : Py_BuildValue("(NO)", unusual, Py_None);
    }

    PyObject* read(PyObject* states, PyObject* slots, PyObject* weight, PyObject* bias) const {
        Rows rows;
        PoolReadout readout{};
        if (!take_rows(states, model_.state, rows)) return nullptr;
        PyArrayObject* places = checked(slots, NPY_INTP, 1, "slots");
        if (!places || !within(places, rows.count) || !take_readout(weight, bias, readout)) return nullptr;
        npy_intp shape[2] = {PyArray_DIM(places, 0), readout.outputs};
        PyObject* outputs = PyArray_SimpleNew(2, shape, NPY_DOUBLE);
        if (!outputs) return nullptr;
        const auto* slot = static_cast<const npy_intp*>(PyArray_DATA(places));
        auto* out = static_cast<double*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(outputs)));
        if (readout.weight)
            for (npy_intp i = 0; i < shape[0]; ++i)
                pooling_kernel.read(model_, rows.data + slot[i] * rows.stride, readout, out + i * readout.outputs);
        return outputs;
    }

    PyObject* pool(PyObject* tokens, PyObject* stops, PyObject* at) const {
        PyArrayObject* own = checked(tokens, NPY_DOUBLE, 2, "tokens");
        PyArrayObject* ends = own ? checked(stops, NPY_INTP, 1, "stops") : nullptr;
        PyArrayObject* wanted = ends && at != Py_None ? checked(at, NPY_INTP, 1, "at") : nullptr;
        if (!ends || (at != Py_None && !wanted)) return nullptr;
        const npy_intp count = PyArray_DIM(own, 0), streams = PyArray_DIM(ends, 0);
        const auto* stop = static_cast<const npy_intp*>(PyArray_DATA(ends));
        const npy_intp* place = wanted ? static_cast<const npy_intp*>(PyArray_DATA(wanted)) : nullptr;
        const npy_intp* place_end = wanted ? place + PyArray_DIM(wanted, 0) : nullptr;
        npy_intp before = 0;
        bool fits = PyArray_DIM(own, 1) == model_.entries;
        for (npy_intp i = 0; fits && i < streams; before = stop[i++]) fits = stop[i] >= before && stop[i] <= count;
        for (const npy_intp* p = place; fits && p != place_end; ++p)
            fits = *p >= 0 && *p < before && (p == place || p[-1] < *p);
        if (!fits) return PyErr_Format(PyExc_ValueError, "tokens, stops or places do not fit");
        npy_intp shape[2] = {wanted ? place_end - place : streams, model_.features};
        PyObject* found = PyArray_SimpleNew(2, shape, NPY_DOUBLE);
        if (!found) return nullptr;
        auto* out = static_cast<double*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(found)));
        const auto* token = static_cast<const double*>(PyArray_DATA(own));
        bool memory = true;
        Py_BEGIN_ALLOW_THREADS;
        memory = pool_all(token, stop, streams, place, place_end, out);
        Py_END_ALLOW_THREADS;
        if (memory) return found;
        Py_DECREF(found);
        return PyErr_NoMemory();
    }

private:
    static Numbers<double> copied(PyArrayObject* array) {
        Numbers<double> made(PyArray_DIM(array, 0));
        if (made.size()) std::memcpy(made.data(), PyArray_DATA(array), made.size() * sizeof(double));
        return made;
    }

    bool add_block(PyObject* parts, std::ptrdiff_t& directions) {
        PyObject *entries, *weight, *bias;
        if (!PyArg_ParseTuple(parts, "OOO", &entries, &weight, &bias)) return false;
        PyArrayObject* places = checked(entries, NPY_INTP, 1, "entries");
        PyArrayObject* offsets = places ? checked(bias, NPY_FLOAT, 1, "bias") : nullptr;
        if (!offsets || !within(places, model_.entries)) return false;
        DirectionBlock block;
        block.directions = static_cast<int>(PyArray_DIM(offsets, 0));
        block.width = static_cast<int>(PyArray_DIM(places, 0));
        PyArrayObject* matrix = shaped(weight, NPY_FLOAT, block.directions, block.width, "weight");
        if (!matrix) return false;
        const auto* place = static_cast<const npy_intp*>(PyArray_DATA(places));
        block.entries.assign(place, place + block.width);
        const int row = padded<float>(block.directions);
        block.bias = Numbers<float>(row);
        const auto* from = static_cast<const float*>(PyArray_DATA(matrix));
        const auto* offset = static_cast<const float*>(PyArray_DATA(offsets));
        if (!group_directions(block, from, offset)) {
            block.weight = Numbers<float>(static_cast<std::size_t>(row) * block.width);
            for (int r = 0; r < block.directions; ++r) {
                for (int k = 0; k < block.width; ++k)
                    block.weight.data()[static_cast<std::ptrdiff_t>(k) * row + r] =
                        from[static_cast<std::ptrdiff_t>(r) * block.width + k];
                block.bias.data()[r] = 0.0f - offset[r];
            }
        }
        block.first = model_.padded_random;
        block.place = directions;
        model_.padded_random += row;
        directions += block.directions;
        model_.grouped = model_.grouped || !block.groups.empty();
        model_.blocks.push_back(std::move(block));
        return true;
    }

    // Groups of the directions, with the fewest weights first; false where a dense block takes as long.
    bool group_directions(DirectionBlock& block, const float* weight, const float* offset) const {
        // Zeros may be left out only where all that they would be multiplied by is finite.
        if (!std::isfinite(static_cast<float>(model_.clip))) return false;
        const std::size_t row = block.bias.size();
        std::vector<std::int32_t> lengths(row), order(row);
        for (std::size_t r = 0; r < row; ++r) order[r] = static_cast<std::int32_t>(r);
        for (int r = 0; r < block.directions; ++r) {
            const float* own = weight + static_cast<std::ptrdiff_t>(r) * block.width;
            lengths[r] = block.width - static_cast<std::int32_t>(std::count(own, own + block.width, 0.0f));
        }
        std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return lengths[a] < lengths[b]; });
        std::size_t terms = 0;
        for (std::size_t first = 0; first < row; first += together) terms += lengths[order[first + together - 1]];
        if (terms * together * least_zeros > static_cast<std::size_t>(block.width) * row) return false;
        block.weight = Numbers<float>(terms * together);
        std::vector<std::int32_t> entries(terms * together, 0);
        block.groups.resize(row / together);
        std::size_t term = 0;
        for (std::size_t place = 0; place < row; ++place) {
            const std::int32_t r = order[place];
            const std::size_t lane = place % together;
            DirectionGroup& group = block.groups[place / together];
            if (!lane) group.length = lengths[order[place + together - 1]];
            group.places[lane] = r;
            if (r < block.directions) {
                block.bias.data()[place] = 0.0f - offset[r];
                std::size_t to = term * together + lane;
                for (int k = 0; k < block.width; ++k) {
                    const float value = weight[static_cast<std::ptrdiff_t>(r) * block.width + k];
                    if (value == 0.0f) continue;
                    block.weight.data()[to] = value;
                    entries[to] = block.entries[k];
                    to += together;
                }
            }
            if (lane + 1 == together) term += group.length;
        }
        block.entries = std::move(entries);
        return true;
    }

    bool add_pool(PyObject* parts, std::ptrdiff_t directions) {
        int kind, random, stretched;
        Py_ssize_t begin, stop;
        Pool pool;
        if (!PyArg_ParseTuple(parts, "ipnnip", &kind, &random, &begin, &stop, &pool.life, &stretched)) return false;
        const std::ptrdiff_t most = random ? directions : model_.entries;
        bool fits = kind >= 0 && kind < pool_kinds && begin >= 0 && stop >= begin && stop <= most &&
                    pool.life >= rising && pool.life < static_cast<int>(model_.rates.size());
        const bool best = fits && static_cast<PoolKind>(kind) == PoolKind::best;
        fits = fits && (random || !best);
        for (DirectionBlock& block : model_.blocks) {
            if (!random || !fits) break;
            const std::ptrdiff_t end = block.place + block.directions;
            // A block is pooled as a whole or not at all.
            fits = end <= begin || block.place >= stop || (block.place >= begin && end <= stop);
            if (best && block.place >= begin && end <= stop) block.compared = true;
        }
        if (!fits) {
            PyErr_SetString(PyExc_ValueError, "a pool is outside of its source");
            return false;
        }
        pool.kind = static_cast<PoolKind>(kind);
        pool.random = random;
        pool.stretched = stretched;
        pool.begin = begin;
        pool.stop = stop;
        pool.state = model_.state;
        pool.rate = pool.life < 0 ? 1.0 : model_.rates[pool.life];
        model_.state += stop - begin;
        model_.pools.push_back(pool);
        return true;
    }

    bool take_readout(PyObject* weight, PyObject* bias, PoolReadout& readout) const {
        readout = {};
        if (weight == Py_None) return true;
        PyArrayObject* offset = checked(bias, NPY_DOUBLE, 1, "bias");
        if (!offset) return false;
        readout.outputs = PyArray_DIM(offset, 0);
        PyArrayObject* matrix = shaped(weight, NPY_DOUBLE, readout.outputs, model_.features, "weight");
        if (!matrix) return false;
        readout.weight = static_cast<const double*>(PyArray_DATA(matrix));
        readout.bias = static_cast<const double*>(PyArray_DATA(offset));
        return true;
    }

    // False where memory ran out.
    bool run(const PoolWindows& windows) const {
        bool memory = true;
        Py_BEGIN_ALLOW_THREADS;
        try {
            if (windows.count) pooling_kernel.advance(model_, windows);
        } catch (const std::bad_alloc&) {
            memory = false;
        }
        Py_END_ALLOW_THREADS;
        return memory;
    }

    bool pool_all(const double* tokens, const npy_intp* stops, npy_intp streams, const npy_intp* place,
                  const npy_intp* place_end, double* out) const try {
        std::vector<double> state(model_.state);
        PoolWindows windows{};
        windows.rows = state.data();
        npy_intp begin = 0;
        const auto go_to = [&](npy_intp stop) {
            windows.tokens = tokens + begin * model_.entries;
            windows.count = stop - begin;
            if (windows.count) pooling_kernel.advance(model_, windows);
            begin = stop;
        };
        for (npy_intp i = 0; i < streams; ++i) {
            std::fill(state.begin(), state.end(), 0.0);
            if (!place) {
                go_to(stops[i]);
                write_features(state.data(), out + i * model_.features);
                continue;
            }
            for (; place != place_end && *place < stops[i]; ++place, out += model_.features) {
                go_to(*place + 1);
                write_features(state.data(), out);
            }
            begin = stops[i];
        }
        return true;
    } catch (const std::bad_alloc&) {
        return false;
    }

    void write_features(const double* state, double* out) const {
        for (const Pool& pool : model_.pools) {
            const std::ptrdiff_t size = pool.stop - pool.begin;
            const double weight = pool_weight(pool, state);
            for (std::ptrdiff_t i = 0; i < size; ++i) out[i] = state[pool.state + i] / weight;
            if (pool.stretched) stretch(state + pool.state, state[0] == 0 ? 0.0 : 1.0 / weight, size, out);
            out += size;
        }
    }

    PoolingModel model_;
};

struct PoolingObject {
    PyObject_HEAD
    Pools* pools;
};

// Pooling(shift, scale, clip, summaries, roots, blocks, pools, rates)
int pooling_init(PyObject* object, PyObject* arguments, PyObject*) {
    auto* self = reinterpret_cast<PoolingObject*>(object);
    if (self->pools) {
        PyErr_SetString(PyExc_ValueError, "give the features once");
        return -1;
    }
    try {
        auto pools = std::make_unique<Pools>();
        if (pools->build(arguments)) self->pools = pools.release();
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
    }
    return self->pools ? 0 : -1;
}

void pooling_dealloc(PyObject* object) {
    delete reinterpret_cast<PoolingObject*>(object)->pools;
    PyTypeObject* type = Py_TYPE(object);
    type->tp_free(object);
    Py_DECREF(type);
}

const Pools* ready(PyObject* object, Py_ssize_t count, Py_ssize_t wanted) {
    const Pools* pools = reinterpret_cast<PoolingObject*>(object)->pools;
    if (!pools) PyErr_SetString(PyExc_RuntimeError, "the features were not given");
    else if (count != wanted) PyErr_Format(PyExc_TypeError, "takes %zd arguments, not %zd", wanted, count);
    return count == wanted ? pools : nullptr;
}

// advance(rows, slots, tokens, weight, bias) -> (unusual, outputs)
PyObject* pooling_advance(PyObject* object, PyObject* const* arguments, Py_ssize_t count) {
    const Pools* pools = ready(object, count, 5);
    return pools ? pools->advance(arguments[0], arguments[1], arguments[2], arguments[3], arguments[4]) : nullptr;
}

// read(rows, slots, weight, bias) -> outputs
PyObject* pooling_read(PyObject* object, PyObject* const* arguments, Py_ssize_t count) {
    const Pools* pools = ready(object, count, 4);
    return pools ? pools->read(arguments[0], arguments[1], arguments[2], arguments[3]) : nullptr;
}

// pool(tokens, stops, at) -> features
PyObject* pooling_pool(PyObject* object, PyObject* const* arguments, Py_ssize_t count) {
    const Pools* pools = ready(object, count, 3);
    return pools ? pools->pool(arguments[0], arguments[1], arguments[2]) : nullptr;
}

PyMethodDef pooling_methods[] = {
    {"advance", cast(pooling_advance), METH_FASTCALL, nullptr},
    {"read", cast(pooling_read), METH_FASTCALL, nullptr},
    {"pool", cast(pooling_pool), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot pooling_slots[] = {
    {Py_tp_new, reinterpret_cast<void*>(object_new)},
    {Py_tp_init, reinterpret_cast<void*>(pooling_init)},
    {Py_tp_dealloc, reinterpret_cast<void*>(pooling_dealloc)},
    {Py_tp_methods, pooling_methods},
    {0, nullptr},
};

}  // namespace

PyType_Spec pooling_spec = {"streamrde.kernels._native.Pooling", sizeof(PoolingObject), 0, Py_TPFLAGS_DEFAULT,
                            pooling_slots};

}  // namespace streamrde
