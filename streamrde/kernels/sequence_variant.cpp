// Compiled once per instruction set, with STREAMRDE_SEQUENCES naming the function it gives.
#include "sequence.hpp"

#include <algorithm>
#include <cstring>

#ifdef STREAMRDE_X86
#include <immintrin.h>
#endif

namespace streamrde {
namespace {

// Inside the unnamed namespace, or the linker would keep one instruction set's copy of the templates for all.
#include "vectors.hpp"

#include "products.hpp"

// Contracted matrices of a block: with the weights streaming by they should stay in a second-level cache.
constexpr std::ptrdiff_t block_bytes = 512 << 10;
constexpr std::ptrdiff_t most_rows = 48;
// Windows whose gradients go into the last layer's together; what they need of a pair of vectors stays in a first-level cache.
constexpr std::ptrdiff_t most_entries = 64;

// Memory that is given away in aligned pieces.
template <typename T>
class Arena {
public:
    // Called twice with the same requests: to add up, and to hand out.
    T* take(std::ptrdiff_t size) {
        T* piece = memory_.size() ? memory_.data() + used_ : nullptr;
        used_ += (size + padding<T> - 1) / padding<T> * padding<T>;
        return piece;
    }
    void provide() {
        memory_ = Numbers<T>(used_ + padding<T>);
        used_ = 0;
    }

private:
    Numbers<T> memory_;
    std::ptrdiff_t used_ = 0;
};

template <typename T, typename A>
void activate_rows(T* values, T* slopes, std::ptrdiff_t stride, int size, std::ptrdiff_t count) {
    for (std::ptrdiff_t s = 0; s < count; ++s)
        for (int i = 0; i < size; i += lanes_of<T>) {
            const std::ptrdiff_t place = s * stride + i;
            const Vector<T> x = load(values + place), y = A::template of<T>(x);
            store(values + place, y);
            if constexpr (!A::from_output)
                if (slopes) store(slopes + place, A::template slope<T>(x, y));
        }
}

// gradient *= slope, for activations whose outputs tell it.
template <typename T, typename A>
void slope_rows(T* gradient, std::ptrdiff_t stride, const T* outputs, std::ptrdiff_t outputs_stride, int size,
                std::ptrdiff_t count) {
    for (std::ptrdiff_t s = 0; s < count; ++s)
        for (int i = 0; i < size; i += lanes_of<T>) {
            const Vector<T> y = load(outputs + s * outputs_stride + i);
            store(gradient + s * stride + i, load(gradient + s * stride + i) * A::template slope<T>(y, y));
        }
}

template <typename T>
void multiply_rows(T* values, std::ptrdiff_t stride, const T* factors, std::ptrdiff_t factors_stride, int size,
                   std::ptrdiff_t count) {
    for (std::ptrdiff_t s = 0; s < count; ++s)
        for (int i = 0; i < size; i += lanes_of<T>)
            store(values + s * stride + i, load(values + s * stride + i) * load(factors + s * factors_stride + i));
}

template <typename T>
void copy_row(const T* from, int size, T* to) {
    std::memcpy(to, from, size * sizeof(T));
}

// A block of rows that go through their windows together, some windows contracted at a time.
template <typename T>
struct Block {
    using V = Vector<T>;
    static constexpr int lanes = lanes_of<T>;

    const Sequence<T>& model;
    const Record<T> record;
    const int H, B, row, wide;
    const std::ptrdiff_t matrix;  // numbers in a contracted matrix
    const bool carries, decays;
    std::ptrdiff_t rows_at_once, windows_at_once;
    const std::ptrdiff_t* rows = nullptr;  // the block's, the longest first
    std::ptrdiff_t count = 0;
    T *matrices, *logsigs, *factors, *mask;
    std::vector<std::ptrdiff_t> offset;  // first matrix of a contracted window's

    Block(const Sequence<T>& given, std::ptrdiff_t total, std::ptrdiff_t matrix_size)
        : model(given),
          record(given),
          H(given.hidden),
          B(given.features),
          row(given.row()),
          wide(padded<T>(given.width)),
          matrix(matrix_size),
          carries(given.before != nullptr),
          decays(given.decay.size() > 0) {
        // Where the window before drives the first stage its matrices are formed with the block's; several windows at once
        // keep that rare.
        const std::ptrdiff_t fit = block_bytes / static_cast<std::ptrdiff_t>(matrix * sizeof(T));
        const std::ptrdiff_t most = std::clamp<std::ptrdiff_t>(carries ? fit / 4 : fit, tile_rows, most_rows);
        const std::ptrdiff_t blocks = (total + most - 1) / most;
        rows_at_once = (total + blocks - 1) / blocks;
        windows_at_once = std::clamp<std::ptrdiff_t>(fit / rows_at_once - carries, carries ? 3 : 1,
                                                     std::max<std::ptrdiff_t>(model.windows, 1));
        offset.resize(windows_at_once + 2);
    }

    void take(Arena<T>& arena) {
        const std::ptrdiff_t most = rows_at_once * (windows_at_once + carries);
        matrices = arena.take(most * matrix);
        logsigs = arena.take(most * B);
        factors = arena.take(decays ? model.tableau.nodes * rows_at_once * row : 0);
        mask = arena.take(model.mask ? rows_at_once * wide : 0);
    }

    void begin(const std::ptrdiff_t* own, std::ptrdiff_t size) {
        rows = own;
        count = size;
        if (model.mask)
            for (std::ptrdiff_t s = 0; s < count; ++s)
                copy_row(model.mask + rows[s] * model.width, model.width, mask + s * wide);
    }

    // Rows that still have a window k.
    std::ptrdiff_t active(std::ptrdiff_t k) const {
        std::ptrdiff_t n = count;
        while (n && model.lengths[rows[n - 1]] <= k) --n;
        return n;
    }

    const T* logsig(std::ptrdiff_t r, std::ptrdiff_t k) const {
        return k < 0 ? model.before + r * B : model.logsigs + (r * model.windows + k) * B;
    }

    // The windows' matrices: `outer` products of the last layer's parts, each (features, inner), with their log-signatures.
    void contract(std::ptrdiff_t begin, std::ptrdiff_t end, const T* weight, std::ptrdiff_t outer, int inner) {
        std::ptrdiff_t c = 0;
        for (std::ptrdiff_t k = begin - carries; k < end; ++k) {
            offset[k - begin + carries] = c;
            const std::ptrdiff_t n = active(std::max(k, begin));
            for (std::ptrdiff_t s = 0; s < n; ++s) copy_row(logsig(rows[s], k), B, logsigs + B * c++);
        }
        for (std::ptrdiff_t i = 0; i < outer; ++i)
            product<T>(weight + i * B * inner, inner, B, inner, logsigs, B, nullptr, matrices + i * inner, matrix, c);
    }

    // Row s's matrix in window k, the contracted windows beginning with `begin`; `first`: that of its first stage.
    const T* matrix_of(std::ptrdiff_t k, std::ptrdiff_t begin, std::ptrdiff_t s, bool first) const {
        return matrices + (offset[k - begin + carries - (first && carries)] + s) * matrix;
    }

    double elapsed(std::ptrdiff_t r, std::ptrdiff_t k, int nodes) const {
        return model.seconds[r * model.windows + k] * (1.0 / model.substeps) * nodes / model.tableau.nodes;
    }

    // factors[m] = exp(-decay seconds h m / nodes), m = 1 ... nodes.
    void decay(std::ptrdiff_t k, std::ptrdiff_t n) {
        if (!decays) return;
        for (int m = 1; m <= model.tableau.nodes; ++m)
            for (std::ptrdiff_t s = 0; s < n; ++s) {
                const T time = static_cast<T>(-elapsed(rows[s], k, m));
                for (int i = 0; i < row; i += lanes)
                    store(factors + ((m - 1) * rows_at_once + s) * row + i,
                          exponential<T>(load(model.decay.data() + i) * time));
            }
    }

    V faded(int nodes, std::ptrdiff_t s, int i, V value) const {
        return decays && nodes ? value * load(factors + ((nodes - 1) * rows_at_once + s) * row + i) : value;
    }

    // out = E(node) z + h sum_j a_j E(node - node_j) k_j for n rows; slopes with a stride per row.
    void combine(T* out, const T* z, const T* slopes, std::ptrdiff_t stride, int node, const double* a, int terms,
                 std::ptrdiff_t n) const {
        const double h = 1.0 / model.substeps;
        for (std::ptrdiff_t s = 0; s < n; ++s)
            for (int i = 0; i < row; i += lanes) {
                V sum = faded(node, s, i, load(z + s * row + i));
                for (int j = 0; j < terms; ++j)
                    if (a[j] != 0)
                        sum = fma(faded(node - model.tableau.node[j], s, i,
                                        load(slopes + s * stride + j * record.evaluation + i)),
                                  all<T>(static_cast<T>(a[j] * h)), sum);
                store(out + s * row + i, sum);
            }
    }
};

template <typename T>
void activate(Activation activation, T* values, T* slopes, std::ptrdiff_t stride, int size, std::ptrdiff_t count) {
    switch (activation) {
        case Activation::identity:
            return;
        case Activation::relu:
            return activate_rows<T, Relu>(values, slopes, stride, size, count);
        case Activation::tanh:
            return activate_rows<T, Tanh>(values, slopes, stride, size, count);
        case Activation::silu:
            return activate_rows<T, Silu>(values, slopes, stride, size, count);
        case Activation::softplus:
            return activate_rows<T, Softplus>(values, slopes, stride, size, count);
        case Activation::gelu:
            return activate_rows<T, Gelu>(values, slopes, stride, size, count);
    }
}

template <typename T>
void slope_of(Activation activation, T* gradient, std::ptrdiff_t stride, const T* outputs,
              std::ptrdiff_t outputs_stride, int size, std::ptrdiff_t count) {
    if (activation == Activation::relu) slope_rows<T, Relu>(gradient, stride, outputs, outputs_stride, size, count);
    else if (activation == Activation::tanh)
        slope_rows<T, Tanh>(gradient, stride, outputs, outputs_stride, size, count);
}

template <typename T>
void forward(const Sequence<T>& model, const std::ptrdiff_t* rows, std::ptrdiff_t total, T* states, T* tape) {
    if (!total) return;
    Block<T> block(model, total, static_cast<std::ptrdiff_t>(model.width + 1) * padded<T>(model.hidden));
    const Record<T>& record = block.record;
    const Tableau& tableau = model.tableau;
    const int H = block.H, row = block.row, wide = block.wide;
    const std::ptrdiff_t most = block.rows_at_once, K = model.windows;
    Arena<T> arena;
    T *z, *start, *masked, *scratch;
    for (int pass = 0; pass < 2; ++pass) {
        block.take(arena);
        z = arena.take(most * row);
        start = arena.take(most * row);
        masked = arena.take(model.mask ? most * wide : 0);
        scratch = arena.take(most * record.size);
        if (!pass) arena.provide();
    }
    for (std::ptrdiff_t begin = 0; begin < total; begin += most) {
        block.begin(rows + begin, std::min(most, total - begin));
        const std::ptrdiff_t* own = block.rows;
        const auto state = [&](std::ptrdiff_t s, std::ptrdiff_t k) { return states + (own[s] * (K + 1) + k) * H; };
        for (std::ptrdiff_t s = 0; s < block.count; ++s) copy_row(state(s, 0), H, z + s * row);
        for (std::ptrdiff_t from = 0; from < K; from += block.windows_at_once) {
            const std::ptrdiff_t to = std::min(from + block.windows_at_once, K);
            block.contract(from, to, model.forward.data(), model.width + 1, row);
            for (std::ptrdiff_t k = from; k < to; ++k) {
                const std::ptrdiff_t n = block.active(k);
                block.decay(k, n);
                for (int e = 0; e < model.evaluations(); ++e) {
                    const int stage = e % tableau.stages;
                    T* step = scratch + (e - stage) * record.evaluation;
                    T* now = scratch + e * record.evaluation;
                    block.combine(start, z, step, record.size, tableau.node[stage], tableau.stage[stage], stage, n);
                    const T* x = start;
                    std::ptrdiff_t stride = row;
                    for (std::size_t i = 0; i < model.layers.size(); ++i) {
                        const HiddenLayer<T>& layer = model.layers[i];
                        const int size = padded<T>(layer.outputs);
                        T* y = now + record.outputs[i];
                        product<T>(layer.forward.data(), size, layer.inputs, size, x, stride, layer.bias.data(), y,
                                   record.size, n);
                        activate<T>(layer.activation, y, record.slopes[i] < 0 ? nullptr : now + record.slopes[i],
                                    record.size, size, n);
                        x = y;
                        stride = record.size;
                    }
                    if (model.mask) {
                        for (std::ptrdiff_t s = 0; s < n; ++s) copy_row(x + s * stride, wide, masked + s * wide);
                        multiply_rows<T>(masked, wide, block.mask, wide, wide, n);
                        x = masked;
                        stride = wide;
                    }
                    for (std::ptrdiff_t s = 0; s < n; ++s) {
                        const T* matrix = block.matrix_of(k, from, s, e == 0);
                        product_of_row<T>(matrix, row, model.width, row, x + s * stride,
                                          matrix + static_cast<std::ptrdiff_t>(model.width) * row,
                                          now + s * record.size);
                    }
                    if (stage + 1 == tableau.stages)
                        block.combine(z, z, step, record.size, tableau.nodes, tableau.weight, tableau.stages, n);
                }
                for (std::ptrdiff_t s = 0; s < block.count; ++s) copy_row(z + s * row, H, state(s, k + 1));
                if (tape)
                    for (std::ptrdiff_t s = 0; s < n; ++s)
                        std::copy_n(scratch + s * record.size, record.size, tape + (own[s] * K + k) * record.size);
            }
        }
    }
}

// What windows give to the last layer's gradient, until there are enough of them.
template <typename T>
struct Ledger {
    const Sequence<T>& model;
    const int H, B, even, row, wide, slots, pair;
    const std::ptrdiff_t most;
    std::ptrdiff_t count = 0;
    T *logsigs, *gradients, *outputs, *sums, *products;

    Ledger(const Sequence<T>& given, std::ptrdiff_t most_rows)
        : model(given),
          H(given.hidden),
          B(given.features),
          even((given.features + 1) / 2 * 2),
          row(given.row()),
          wide(padded<T>(given.width)),
          slots(given.evaluations()),
          pair(2 * lanes_of<T>),
          most(std::max(most_entries, most_rows)) {}

    void take(Arena<T>& arena) {
        logsigs = arena.take(most * even);
        gradients = arena.take(most * slots * row);          // (entry, slot, row)
        outputs = arena.take(most * slots * (wide + pair));  // (pair of vectors, entry, slot, pair)
        sums = arena.take(most * row);
        products = arena.take(2 * most * pair);  // (output, entry, pair)
    }

    // dW_j += sum of l_j g h over entries and slots, and the bias's without h.
    void flush(SharedGradients<T>& shared) {
        for (int begin = 0; begin < wide; begin += pair) {
            if (wide - begin >= pair) flush_vectors<2>(begin, shared);
            else flush_vectors<1>(begin, shared);
        }
        for (std::ptrdiff_t c = 0; c < count; ++c)
            for (int i = 0; i < row; i += lanes_of<T>) {
                Vector<T> sum{};
                for (int slot = 0; slot < slots; ++slot) sum += load(gradients + (c * slots + slot) * row + i);
                store(sums + c * row + i, sum);
            }
        accumulate<T>(logsigs, even, B, sums, row, row, count, shared.last_bias.data(), row);
        count = 0;
    }

    template <int N>
    void flush_vectors(int begin, SharedGradients<T>& shared) {
        for (int h = 0; h < H; h += 2) {
            switch (slots) {
                case 1:
                    form_products<1, N>(begin, h);
                    break;
                case 2:
                    form_products<2, N>(begin, h);
                    break;
                case 4:
                    form_products<4, N>(begin, h);
                    break;
                default:
                    form_products<0, N>(begin, h);
            }
            for (int i = 0; i < 2 && h + i < H; ++i)
                accumulate<T>(logsigs, even, B, products + i * most * pair, pair, N * lanes_of<T>, count,
                              shared.last + static_cast<std::ptrdiff_t>(h + i) * B * wide + begin, wide);
        }
    }

    // The entries' sums over slots of g h, for two outputs (the second may be padding) and a pair of vectors; S: slots, or 0.
    template <int S, int N>
    void form_products(int begin, int h) {
        constexpr int lanes = lanes_of<T>;
        const int size = S ? S : slots;
        const T *output = outputs + begin * most * slots, *gradient = gradients + h;
        T* to = products;
        for (std::ptrdiff_t c = 0; c < count; ++c, output += size * pair, gradient += size * row, to += pair) {
            Vector<T> sum[2][N] = {};
#pragma GCC unroll 4
            for (int slot = 0; slot < size; ++slot)
#pragma GCC unroll 2
                for (int n = 0; n < N; ++n) {
                    const Vector<T> value = load(output + slot * pair + n * lanes);
                    sum[0][n] = fma(value, all<T>(gradient[slot * row]), sum[0][n]);
                    sum[1][n] = fma(value, all<T>(gradient[slot * row + 1]), sum[1][n]);
                }
#pragma GCC unroll 2
            for (int n = 0; n < N; ++n) {
                store(to + n * lanes, sum[0][n]);
                store(to + most * pair + n * lanes, sum[1][n]);
            }
        }
    }

    void set_logsig(std::ptrdiff_t c, const T* logsig) { copy_row(logsig, B, logsigs + c * even); }

    // A slot's gradient of the slope and output of the last hidden layer.
    void set(std::ptrdiff_t c, int slot, const T* gradient, const T* output) {
        constexpr int lanes = lanes_of<T>;
        T* to = gradients + (c * slots + slot) * row;
        for (int i = 0; i < row; i += lanes) store(to + i, load(gradient + i));
        to = outputs + (c * slots + slot) * pair;
        for (int begin = 0; begin < wide; begin += lanes)
            store(to + begin / pair * pair * most * slots + begin % pair, load(output + begin));
    }

    // A slot that gives nothing.
    void clear(std::ptrdiff_t c, int slot) {
        constexpr int lanes = lanes_of<T>;
        for (int i = 0; i < row; i += lanes) store(gradients + (c * slots + slot) * row + i, Vector<T>{});
        for (int begin = 0; begin < wide; begin += lanes)
            store(outputs + begin / pair * pair * most * slots + (c * slots + slot) * pair + begin % pair, Vector<T>{});
    }
};

template <typename T>
void backward(const Sequence<T>& model, const std::ptrdiff_t* rows, std::ptrdiff_t total, const T* states,
              const T* tape, const T* gradient, T* first, SharedGradients<T>& shared) {
    if (!total) return;
    using V = Vector<T>;
    constexpr int lanes = lanes_of<T>;
    Block<T> block(model, total, static_cast<std::ptrdiff_t>(model.hidden) * padded<T>(model.width));
    const Record<T>& record = block.record;
    const Tableau& tableau = model.tableau;
    const int H = block.H, row = block.row, wide = block.wide, stages = tableau.stages,
              evaluations = model.evaluations();
    const double h = 1.0 / model.substeps;
    const std::ptrdiff_t most = block.rows_at_once, K = model.windows,
                         L = static_cast<std::ptrdiff_t>(model.layers.size());
    Ledger<T> ledger(model, most);
    Arena<T> arena;
    // z: at the start of every substep; inputs and units: what enters each layer and its gradient before the activation, for
    // all evaluations of a window; pending: what the first stages of the window after give to the one that drove them.
    T *kept, *adjoint, *z, *slopes, *features, *pending_slope, *pending_output;
    std::vector<T*> inputs(L), units(L);
    for (int pass = 0; pass < 2; ++pass) {
        block.take(arena);
        ledger.take(arena);
        kept = arena.take(most * record.size);
        adjoint = arena.take(most * row);
        z = arena.take(most * row * model.substeps);
        slopes = arena.take(most * row * stages);
        features = arena.take(most * std::max(wide, row));
        pending_slope = arena.take(block.carries ? most * row : 0);
        pending_output = arena.take(block.carries ? most * wide : 0);
        for (std::ptrdiff_t i = 0; i < L; ++i) {
            inputs[i] = arena.take(most * evaluations * padded<T>(model.layers[i].inputs));
            units[i] = arena.take(most * evaluations * padded<T>(model.layers[i].outputs));
        }
        if (!pass) arena.provide();
    }
    // Adjoint of out = E(node) z + h sum_j a_j E(node - node_j) k_j: of z (added to `to`), of the k_j, and of the decay.
    const auto combine_backward = [&](const T* out, T* to, const T* z_of_step, const T* kept, int node, const double* a,
                                      int terms, std::ptrdiff_t k, std::ptrdiff_t n) {
        for (std::ptrdiff_t s = 0; s < n; ++s) {
            const T time = block.decays ? static_cast<T>(block.elapsed(block.rows[s], k, 1)) : T(0);
            for (int i = 0; i < row; i += lanes) {
                const V g = load(out + s * row + i), through = block.faded(node, s, i, g);
                store(to + s * row + i, load(to + s * row + i) + through);
                V rate = block.decays ? through * load(z_of_step + s * row + i) * static_cast<T>(node) : V{};
                for (int j = 0; j < terms; ++j)
                    if (a[j] != 0) {
                        const int passed = node - tableau.node[j];
                        T* slope = slopes + (j * most + s) * row + i;
                        const V share = block.faded(passed, s, i, g) * static_cast<T>(a[j] * h);
                        store(slope, load(slope) + share);
                        if (block.decays)
                            rate += share * load(kept + s * record.size + j * record.evaluation + i) *
                                    static_cast<T>(passed);
                    }
                if (block.decays) store(shared.decay.data() + i, load(shared.decay.data() + i) - rate * time);
            }
        }
    };
    for (std::ptrdiff_t begin = 0; begin < total; begin += most) {
        block.begin(rows + begin, std::min(most, total - begin));
        const std::ptrdiff_t* own = block.rows;
        std::fill_n(adjoint, most * row, T(0));
        if (block.carries) {
            std::fill_n(pending_slope, most * row, T(0));
            std::fill_n(pending_output, most * wide, T(0));
        }
        const auto add_gradient = [&](std::ptrdiff_t k) {
            for (std::ptrdiff_t s = 0; s < block.count; ++s) {
                const T* from = gradient + (own[s] * (K + 1) + k) * H;
                for (int i = 0; i < H; ++i) adjoint[s * row + i] += from[i];
            }
        };
        const auto enter = [&](std::ptrdiff_t n) {
            if (ledger.count + n > ledger.most) ledger.flush(shared);
            ledger.count += n;
            return ledger.count - n;
        };
        for (std::ptrdiff_t to = K; to > 0;) {
            const std::ptrdiff_t from = std::max<std::ptrdiff_t>(to - block.windows_at_once, 0);
            block.contract(from, to, model.backward, H, wide);
            for (std::ptrdiff_t k = to - 1; k >= from; --k) {
                add_gradient(k + 1);
                const std::ptrdiff_t n = block.active(k);
                if (!n) continue;
                block.decay(k, n);
                const std::ptrdiff_t entry = enter(n);
                for (std::ptrdiff_t s = 0; s < n; ++s) {
                    ledger.set_logsig(entry + s, block.logsig(own[s], k));
                    if (block.carries) ledger.set(entry + s, 0, pending_slope + s * row, pending_output + s * wide);
                    std::copy_n(tape + (own[s] * K + k) * record.size, record.size, kept + s * record.size);
                    copy_row(states + (own[s] * (K + 1) + k) * H, H, z + s * row);
                }
                for (int m = 1; m < model.substeps; ++m)
                    block.combine(z + m * most * row, z + (m - 1) * most * row,
                                  kept + (m - 1) * stages * record.evaluation, record.size, tableau.nodes,
                                  tableau.weight, stages, n);
                for (int m = model.substeps - 1; m >= 0; --m) {
                    const T* step = kept + m * stages * record.evaluation;
                    const T* z_of_step = z + m * most * row;
                    std::copy_n(adjoint, n * row,
                                features);  // of the step's end; features is free until the first stage
                    std::fill_n(adjoint, n * row, T(0));
                    std::fill_n(slopes, most * row * stages, T(0));
                    combine_backward(features, adjoint, z_of_step, step, tableau.nodes, tableau.weight, stages, k, n);
                    for (int stage = stages - 1; stage >= 0; --stage) {
                        const int e = m * stages + stage;
                        const T* now = step + stage * record.evaluation;
                        const T* slope = slopes + stage * most * row;
                        const T* last = now + record.outputs[L - 1];
                        std::ptrdiff_t stride = record.size;
                        T* unit = units[L - 1] + e * n * wide;
                        for (std::ptrdiff_t s = 0; s < n; ++s)
                            product_of_row<T>(block.matrix_of(k, from, s, e == 0), wide, H, wide, slope + s * row,
                                              nullptr, unit + s * wide);
                        if (model.mask) {
                            multiply_rows<T>(unit, wide, block.mask, wide, wide, n);
                            for (std::ptrdiff_t s = 0; s < n; ++s)
                                copy_row(last + s * stride, wide, features + s * wide);
                            multiply_rows<T>(features, wide, block.mask, wide, wide, n);
                            last = features;
                            stride = wide;
                        }
                        for (std::ptrdiff_t s = 0; s < n; ++s) {
                            if (!block.carries || e) {
                                ledger.set(entry + s, e, slope + s * row, last + s * stride);
                                continue;
                            }
                            copy_row(slope + s * row, row, pending_slope + s * row);
                            copy_row(last + s * stride, wide, pending_output + s * wide);
                        }
                        for (std::ptrdiff_t i = L - 1; i >= 0; --i) {
                            const HiddenLayer<T>& layer = model.layers[i];
                            const int in = padded<T>(layer.inputs), out = padded<T>(layer.outputs);
                            T *x = inputs[i] + e * n * in, *u = units[i] + e * n * out;
                            if (record.slopes[i] < 0)
                                slope_of<T>(layer.activation, u, out, now + record.outputs[i], record.size, out, n);
                            else multiply_rows<T>(u, out, now + record.slopes[i], record.size, out, n);
                            if (i)
                                for (std::ptrdiff_t s = 0; s < n; ++s)
                                    copy_row(now + s * record.size + record.outputs[i - 1], in, x + s * in);
                            else
                                block.combine(x, z_of_step, step, record.size, tableau.node[stage],
                                              tableau.stage[stage], stage, n);
                            T* gradient_in = i ? units[i - 1] + e * n * in : features;
                            product<T>(layer.backward.data(), in, layer.outputs, in, u, out, nullptr, gradient_in, in,
                                       n);
                        }
                        combine_backward(features, adjoint, z_of_step, step, tableau.node[stage], tableau.stage[stage],
                                         stage, k, n);
                    }
                }
                for (std::ptrdiff_t i = 0; i < L; ++i) {
                    const HiddenLayer<T>& layer = model.layers[i];
                    const int in = padded<T>(layer.inputs), out = padded<T>(layer.outputs);
                    accumulate<T>(units[i], out, layer.outputs, inputs[i], in, in, n * evaluations,
                                  shared.layers[i].data(), in);
                    T* bias = shared.biases[i].data();
                    for (std::ptrdiff_t s = 0; s < n * evaluations; ++s)
                        for (int c = 0; c < out; c += lanes)
                            store(bias + c, load(bias + c) + load(units[i] + s * out + c));
                }
            }
            to = from;
        }
        add_gradient(0);
        for (std::ptrdiff_t s = 0; s < block.count; ++s) copy_row(adjoint + s * row, H, first + own[s] * H);
        if (block.carries) {
            const std::ptrdiff_t n = block.active(0), entry = enter(n);
            for (std::ptrdiff_t s = 0; s < n; ++s) {
                ledger.set_logsig(entry + s, block.logsig(own[s], -1));
                ledger.set(entry + s, 0, pending_slope + s * row, pending_output + s * wide);
                for (int e = 1; e < evaluations; ++e) ledger.clear(entry + s, e);
            }
        }
    }
    ledger.flush(shared);
}

}  // namespace

SequenceKernels STREAMRDE_SEQUENCES() {
    return {{forward<float>, backward<float>}, {forward<double>, backward<double>}};
}

}  // namespace streamrde
