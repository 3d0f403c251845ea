// Compiled once per instruction set, with STREAMRDE_POOLING naming the function it gives.
#include "pooling.hpp"

#include <cmath>

#include "vectors-inl.hpp"

namespace streamrde {
namespace {

// Windows whose random features are computed at once: as many as fit into half of a second-level cache, so that a block's
// weights are read once for all of them.
constexpr std::ptrdiff_t chunk_bytes = 256 << 10;
constexpr std::ptrdiff_t largest_chunk = 64;
// Windows of which a sparse block computes one direction at once, and the fewest for which that takes less time than one
// after the other.
constexpr std::ptrdiff_t strip = 16;
constexpr std::ptrdiff_t least_strip = 4;
// Partial sums of a readout: its terms i, i + 16, ... are added in turn.
constexpr int readout_lanes = 16;
constexpr int readout_vectors = readout_lanes / lanes_of<double>;
// Outputs that are read at once: their sums fill the registers, but for a value, a weight and a product.
constexpr int registers = vector_bytes == 64 ? 32 : 16;
constexpr int most_outputs = (registers - 3) / readout_vectors < 6 ? (registers - 3) / readout_vectors : 6;

typedef float HalfFloats __attribute__((vector_size(vector_bytes / 2)));

template <typename T>
T* buffer(std::size_t size) {
    thread_local Numbers<T> memory;
    if (memory.size() < size) memory = Numbers<T>(size);
    return memory.data();
}

inline Doubles widened(const float* from) {
    HalfFloats value;
    __builtin_memcpy(&value, from, sizeof value);
    return __builtin_convertvector(value, Doubles);
}

// h[s] = -b + sum_k x[s][k] W[k], for S windows and N vectors of directions.
template <int S, int N>
inline void feature_tile(const float* weight, std::ptrdiff_t stride, int width, const float* x, const float* bias,
                         float* h, std::ptrdiff_t h_stride) {
    constexpr int lanes = lanes_of<float>;
    Floats sum[S][N];
#pragma GCC unroll 16
    for (int s = 0; s < S; ++s)
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) sum[s][n] = load(bias + n * lanes);
    for (int k = 0; k < width; ++k) {
        Floats row[N];
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) row[n] = load(weight + k * stride + n * lanes);
#pragma GCC unroll 16
        for (int s = 0; s < S; ++s)
#pragma GCC unroll 16
            for (int n = 0; n < N; ++n) sum[s][n] += row[n] * x[s * width + k];
    }
#pragma GCC unroll 16
    for (int s = 0; s < S; ++s)
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) store(h + s * h_stride + n * lanes, sum[s][n]);
}

template <int S>
void feature_rows(const DirectionBlock& block, const float* x, float* h, std::ptrdiff_t h_stride) {
    // A window alone has more vectors at a time, or its sums would wait for each other.
    constexpr int lanes = lanes_of<float>, vectors = S == 1 ? 8 : 2;
    const int padded_directions = padded<float>(block.directions);
    int r = 0;
    for (; r + vectors * lanes <= padded_directions; r += vectors * lanes)
        feature_tile<S, vectors>(block.weight.data() + r, padded_directions, block.width, x, block.bias.data() + r,
                                 h + r, h_stride);
    for (; r < padded_directions; r += lanes)
        feature_tile<S, 1>(block.weight.data() + r, padded_directions, block.width, x, block.bias.data() + r, h + r,
                           h_stride);
}

// Numbers at any places.
inline Floats gathered(const float* from, const std::int32_t* place) {
#if defined(__AVX512F__)
    return Floats{from[place[0]],  from[place[1]],  from[place[2]],  from[place[3]], from[place[4]],  from[place[5]],
                  from[place[6]],  from[place[7]],  from[place[8]],  from[place[9]], from[place[10]], from[place[11]],
                  from[place[12]], from[place[13]], from[place[14]], from[place[15]]};
#elif defined(__AVX2__)
    return Floats{from[place[0]], from[place[1]], from[place[2]], from[place[3]],
                  from[place[4]], from[place[5]], from[place[6]], from[place[7]]};
#else
    return Floats{from[place[0]], from[place[1]], from[place[2]], from[place[3]]};
#endif
}

// Features of one window with the standardised token s, without the weights that are 0.
void sparse_row(const DirectionBlock& block, const float* s, float* h) {
    constexpr int lanes = lanes_of<float>, vectors = together / lanes;
    const float *weight = block.weight.data(), *bias = block.bias.data();
    const std::int32_t* entry = block.entries.data();
    for (const DirectionGroup& group : block.groups) {
        Floats sum[vectors];
#pragma GCC unroll 16
        for (int v = 0; v < vectors; ++v) sum[v] = load(bias + v * lanes);
        for (int k = 0; k < group.length; ++k, weight += together, entry += together)
#pragma GCC unroll 16
            for (int v = 0; v < vectors; ++v) sum[v] += load(weight + v * lanes) * gathered(s, entry + v * lanes);
        float own[together];
        __builtin_memcpy(own, sum, sizeof own);
        for (int l = 0; l < together; ++l) h[group.places[l]] = own[l];
        bias += together;
    }
}

// The same for `count` windows side by side, whose tokens stand entry after entry, (T, strip).
void sparse_strip(const DirectionBlock& block, const float* turned, std::ptrdiff_t count, float* h,
                  std::ptrdiff_t h_stride) {
    constexpr int lanes = lanes_of<float>, vectors = strip / lanes;
    const float *weight = block.weight.data(), *bias = block.bias.data();
    const std::int32_t* entry = block.entries.data();
    for (const DirectionGroup& group : block.groups) {
        float own[together][strip];
        for (int l = 0; l < together; ++l) {
            Floats sum[vectors];
#pragma GCC unroll 16
            for (int v = 0; v < vectors; ++v) sum[v] = all<float>(bias[l]);
            for (int k = 0; k < group.length; ++k) {
                const float* x = turned + static_cast<std::ptrdiff_t>(entry[k * together + l]) * strip;
                const float factor = weight[k * together + l];
#pragma GCC unroll 16
                for (int v = 0; v < vectors; ++v) sum[v] += load(x + v * lanes) * factor;
            }
#pragma GCC unroll 16
            for (int v = 0; v < vectors; ++v) store(own[l] + v * lanes, sum[v]);
        }
        for (std::ptrdiff_t w = 0; w < count; ++w)
            for (int l = 0; l < together; ++l) h[w * h_stride + group.places[l]] = own[l][w];
        weight += static_cast<std::ptrdiff_t>(group.length) * together;
        entry += static_cast<std::ptrdiff_t>(group.length) * together;
        bias += together;
    }
}

void sparse_features(const PoolingModel& model, const float* s, std::ptrdiff_t count, float* turned, float* h) {
    std::ptrdiff_t i = 0;
    while (i < count) {
        const std::ptrdiff_t own = count - i < strip ? count - i : strip;
        const bool few = own < least_strip;
        const float* from = s + i * model.entries;
        if (!few)
            for (std::ptrdiff_t k = 0; k < model.entries; ++k)
                for (std::ptrdiff_t w = 0; w < strip; ++w)
                    turned[k * strip + w] = w < own ? from[w * model.entries + k] : 0.0f;
        for (const DirectionBlock& block : model.blocks) {
            if (block.groups.empty()) continue;
            float* to = h + i * model.padded_random + block.first;
            if (!few) sparse_strip(block, turned, own, to, model.padded_random);
            for (std::ptrdiff_t w = 0; few && w < own; ++w)
                sparse_row(block, from + w * model.entries, to + w * model.padded_random);
        }
        i += own;
    }
}

// Random features of `count` windows with standardised tokens s (count, T): h (count, padded features).
void random_features(const PoolingModel& model, const float* s, std::ptrdiff_t count, float* x, float* h) {
    constexpr int group = 4;
    for (const DirectionBlock& block : model.blocks) {
        if (!block.groups.empty()) continue;
        for (std::ptrdiff_t i = 0; i < count; ++i)
            for (int k = 0; k < block.width; ++k) x[i * block.width + k] = s[i * model.entries + block.entries[k]];
        std::ptrdiff_t i = 0;
        for (; i + group <= count; i += group)
            feature_rows<group>(block, x + i * block.width, h + i * model.padded_random + block.first,
                                model.padded_random);
        for (; i < count; ++i)
            feature_rows<1>(block, x + i * block.width, h + i * model.padded_random + block.first, model.padded_random);
    }
    // In the room of dense blocks' tokens, which are not needed any more.
    if (model.grouped) sparse_features(model, s, count, x, h);
}

// 1 for the largest of each `rivals` neighbouring directions of a block, the first of equals, and 0 for the others.
void mark_best(const PoolingModel& model, const float* h, float* best) {
    for (const DirectionBlock& block : model.blocks) {
        if (!block.compared) continue;
        const float* from = h + block.first;
        float* out = best + block.first;
        for (int begin = 0; begin < block.directions; begin += rivals) {
            const int stop = begin + rivals < block.directions ? begin + rivals : block.directions;
            int place = begin;
            float largest = from[begin];
            for (int r = begin; r < stop; ++r) {
                place = from[r] > largest ? r : place;
                largest = from[r] > largest ? from[r] : largest;
                out[r] = 0.0f;
            }
            out[place] = 1.0f;
        }
    }
}

// Parts of a value that pools keep, of vectors and of single numbers.
struct Above {
    static Doubles of(Doubles value) { return value > 0.0 ? all<double>(1.0) : Doubles{}; }
    static double of(double value) { return value > 0.0 ? 1.0 : 0.0; }
};
struct Positive {
    static Doubles of(Doubles value) { return value > 0.0 ? value : Doubles{}; }
    static double of(double value) { return value > 0.0 ? value : 0.0; }
};
struct Itself {
    template <typename V>
    static V of(V value) {
        return value;
    }
};

// What a window changes in a pool. number: of the window in its stream, from 1.
template <typename Part>
struct Sum {
    template <typename V>
    static V of(V state, V value, double, double) {
        return state + Part::of(value);
    }
};
template <typename Part>
struct FadingSum {
    template <typename V>
    static V of(V state, V value, double rate, double) {
        return state * rate + Part::of(value);
    }
};
template <typename Part>
struct RisingSum {
    template <typename V>
    static V of(V state, V value, double, double number) {
        return state + Part::of(value) * number;
    }
};
struct Largest {
    template <typename V>
    static V of(V state, V value, double, double) {
        return value > state ? value : state;
    }
};
template <typename Part>
struct Latest {
    template <typename V>
    static V of(V, V value, double, double) {
        return Part::of(value);
    }
};

// Windows of one stream, whose values stand `stride` apart.
struct Run {
    std::ptrdiff_t stride, count;
    double number;  // of the first window in its stream, from 1
};

// Values of a run into `size` numbers of the stream's state. replace: the first value takes the state's place.
template <typename Change>
void change(double* state, const float* values, const Run& run, std::ptrdiff_t size, double rate, bool replace) {
    constexpr int lanes = lanes_of<double>;
    std::ptrdiff_t i = 0;
    for (; i + lanes <= size; i += lanes) {
        const float* value = values + i;
        Doubles own = replace ? widened(value) : load(state + i);
        for (std::ptrdiff_t w = 0; w < run.count; ++w, value += run.stride)
            own = Change::of(own, widened(value), rate, run.number + static_cast<double>(w));
        store(state + i, own);
    }
    for (; i < size; ++i) {
        const float* value = values + i;
        double own = replace ? *value : state[i];
        for (std::ptrdiff_t w = 0; w < run.count; ++w, value += run.stride)
            own = Change::of(own, static_cast<double>(*value), rate, run.number + static_cast<double>(w));
        state[i] = own;
    }
}

template <typename Part>
void add(const Pool& pool, double* state, const float* values, const Run& run, std::ptrdiff_t size) {
    if (pool.life == rising) change<RisingSum<Part>>(state, values, run, size, 1.0, false);
    else if (pool.rate == 1.0) change<Sum<Part>>(state, values, run, size, 1.0, false);
    else change<FadingSum<Part>>(state, values, run, size, pool.rate, false);
}

void change_pool(const Pool& pool, double* state, const float* values, const Run& run, std::ptrdiff_t size) {
    const float* last = values + (run.count - 1) * run.stride;
    const Run one{run.stride, 1, run.number};
    switch (pool.kind) {
        case PoolKind::share:
            return add<Above>(pool, state, values, run, size);
        case PoolKind::mean:
            return pool.random ? add<Positive>(pool, state, values, run, size)
                               : add<Itself>(pool, state, values, run, size);
        case PoolKind::best:
            return add<Itself>(pool, state, values, run, size);
        case PoolKind::max:
            return change<Largest>(state, values, run, size, 1.0, run.number == 1);
        case PoolKind::last:
            return pool.random ? change<Latest<Positive>>(state, last, one, size, 1.0, false)
                               : change<Latest<Itself>>(state, last, one, size, 1.0, false);
    }
}

// Windows of one stream into its state.
void take(const PoolingModel& model, double* state, const float* s, const float* h, const float* best,
          std::ptrdiff_t count) {
    Run run{model.entries, count, state[0] + 1.0};
    for (std::size_t life = 0; life < model.rates.size(); ++life)
        for (std::ptrdiff_t w = 0; w < count; ++w) state[life] = state[life] * model.rates[life] + 1.0;
    for (const Pool& pool : model.pools) {
        if (!pool.random) {
            run.stride = model.entries;
            change_pool(pool, state + pool.state, s + pool.begin, run, pool.stop - pool.begin);
            continue;
        }
        run.stride = model.padded_random;
        const float* from = pool.kind == PoolKind::best ? best : h;
        for (const DirectionBlock& block : model.blocks)
            if (block.place >= pool.begin && block.place < pool.stop)
                change_pool(pool, state + pool.state + block.place - pool.begin, from + block.first, run,
                            block.directions);
    }
}

// sum_i w[i] x[i] for O rows of weights, `stride` apart.
template <int O>
void dots(const double* weight, std::ptrdiff_t stride, const double* x, std::ptrdiff_t size, double* out) {
    constexpr int lanes = lanes_of<double>;
    Doubles sum[O][readout_vectors] = {};
    std::ptrdiff_t i = 0;
    for (; i + readout_lanes <= size; i += readout_lanes) {
#pragma GCC unroll 16
        for (int v = 0; v < readout_vectors; ++v) {
            const Doubles value = load(x + i + v * lanes);
#pragma GCC unroll 16
            for (int o = 0; o < O; ++o) sum[o][v] += load(weight + o * stride + i + v * lanes) * value;
        }
    }
    for (int o = 0; o < O; ++o) {
        double own[readout_lanes];
        __builtin_memcpy(own, sum[o], sizeof own);
        for (std::ptrdiff_t k = i; k < size; ++k) own[k - i] += weight[o * stride + k] * x[k];
        for (int half = readout_lanes / 2; half; half /= 2)
            for (int l = 0; l < half; ++l) own[l] += own[l + half];
        out[o] = own[0];
    }
}

// The same for `rows` of them, 1 to O.
template <int O>
void some_dots(int rows, const double* weight, std::ptrdiff_t stride, const double* x, std::ptrdiff_t size,
               double* out) {
    if (rows == O) return dots<O>(weight, stride, x, size, out);
    if constexpr (O > 1) some_dots<O - 1>(rows, weight, stride, x, size, out);
}

void read(const PoolingModel& model, const double* state, const PoolReadout& readout, double* out) {
    for (std::ptrdiff_t o = 0; o < readout.outputs; ++o) out[o] = readout.bias[o];
    const std::ptrdiff_t lives = static_cast<std::ptrdiff_t>(model.rates.size());
    for (const Pool& pool : model.pools) {
        const double* x = state + pool.state;
        const std::ptrdiff_t size = pool.stop - pool.begin;
        double weight = pool_weight(pool, state);
        if (pool.stretched) {
            double* features = buffer<double>(static_cast<std::size_t>(size));
            stretch(x, state[0] == 0 ? 0.0 : 1.0 / weight, size, features);
            x = features;
            weight = 1.0;
        }
        std::ptrdiff_t groups = (readout.outputs + most_outputs - 1) / most_outputs;
        for (std::ptrdiff_t o = 0; o < readout.outputs; --groups) {
            const double* from = readout.weight + o * model.features + pool.state - lives;
            // Groups of one size nearly: a lone output would wait for the state as long as several.
            const int count = static_cast<int>((readout.outputs - o + groups - 1) / groups);
            double sums[most_outputs];
            some_dots<most_outputs>(count, from, model.features, x, size, sums);
            for (int k = 0; k < count; ++k, ++o) out[o] += sums[k] / weight;
        }
    }
}

// s = clip(r((token - shift) scale)), NaN as 0; r takes signed square roots up to the place `roots`. Returns whether an
// entry before the summaries is not finite.
bool standardise(const PoolingModel& model, const double* token, float* s) {
    const double *shift = model.shift.data(), *scale = model.scale.data();
    const double high = model.clip, low = -model.clip;
    const auto write = [=](std::ptrdiff_t k, double value) {
        value = value != value ? 0.0 : value;
        value = value < low ? low : value;
        s[k] = static_cast<float>(value > high ? high : value);
    };
    for (std::ptrdiff_t k = 0; k < model.roots; ++k) {
        const double value = (token[k] - shift[k]) * scale[k];
        write(k, std::copysign(std::sqrt(std::fabs(value)), value));
    }
    for (std::ptrdiff_t k = model.roots; k < model.entries; ++k) write(k, (token[k] - shift[k]) * scale[k]);
    double sum = 0;
    for (std::ptrdiff_t k = 0; k < model.summaries; ++k) sum += token[k] * 0.0;
    return !(sum == 0.0);
}

void advance(const PoolingModel& model, const PoolWindows& windows) {
    const std::ptrdiff_t row = model.padded_random, entries = model.entries;
    std::ptrdiff_t chunk = chunk_bytes / static_cast<std::ptrdiff_t>(sizeof(float)) / (row ? row : 1);
    chunk = chunk < 1 ? 1 : chunk > largest_chunk ? largest_chunk : chunk;
    if (model.grouped && chunk > strip) chunk -= chunk % strip;
    chunk = chunk < windows.count ? chunk : windows.count;
    // Tokens of dense blocks or, in whole strips, of sparse ones.
    const std::ptrdiff_t room = entries * (chunk < least_strip || chunk > strip ? chunk : strip);
    float* h = buffer<float>(static_cast<std::size_t>(chunk) * (2 * row + entries) + room);
    float* best = h + chunk * row;
    float* s = best + chunk * row;
    float* x = s + chunk * entries;
    for (std::ptrdiff_t begin = 0; begin < windows.count; begin += chunk) {
        const std::ptrdiff_t count = windows.count - begin < chunk ? windows.count - begin : chunk;
        for (std::ptrdiff_t i = 0; i < count; ++i) {
            const bool unusual = standardise(model, windows.tokens + (begin + i) * entries, s + i * entries);
            if (windows.unusual) windows.unusual[begin + i] = unusual;
        }
        random_features(model, s, count, x, h);
        for (std::ptrdiff_t i = 0; i < count; ++i) mark_best(model, h + i * row, best + i * row);
        for (std::ptrdiff_t i = 0; i < count;) {
            const std::intptr_t slot = windows.slots ? windows.slots[begin + i] : 0;
            std::ptrdiff_t run = 1;
            if (!windows.readout.weight)
                while (i + run < count && (!windows.slots || windows.slots[begin + i + run] == slot)) ++run;
            double* state = windows.rows + slot * windows.stride;
            take(model, state, s + i * entries, h + i * row, best + i * row, run);
            if (windows.readout.weight)
                read(model, state, windows.readout, windows.outputs + (begin + i) * windows.readout.outputs);
            i += run;
        }
    }
}

}  // namespace

PoolingKernel STREAMRDE_POOLING() { return {advance, read}; }

}  // namespace streamrde
