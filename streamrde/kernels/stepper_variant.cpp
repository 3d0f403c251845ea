// Compiled once per instruction set, with STREAMRDE_STEPS naming the function it gives.
#include "stepper.hpp"

#include <cmath>
#include <vector>

#ifdef STREAMRDE_X86
#include <immintrin.h>
#endif

namespace streamrde {
namespace {

// Inside the unnamed namespace, or the linker would keep one instruction set's copy of the templates for all.
#include "vectors.hpp"

// Registers allow so many streams at a time in a hidden layer, and in a tile of the contraction.
#if defined(__AVX512F__)
constexpr int group = 4, tile_streams = 12;
#else
constexpr int group = 2, tile_streams = 6;
#endif
// Contracted matrices of a block of streams; with the weights streaming by they should stay in a second-level cache.
constexpr std::ptrdiff_t block_bytes = 448 << 10;
constexpr std::ptrdiff_t largest_block = 96;

template <typename T>
T* buffer(std::size_t size) {
    thread_local Numbers<T> memory;
    if (memory.size() < size) memory = Numbers<T>(size);
    return memory.data();
}

// out[s] = W x[s] + b for S streams; W as (inputs, stride), x and out with a stride per stream. Each sum runs over four
// interleaved partial sums, so that its multiply-adds need not wait for each other.
template <typename T, int S, int N>
inline void multiply_tile(const T* __restrict weight, const T* __restrict bias, int inputs, std::ptrdiff_t stride,
                          const T* __restrict x, std::ptrdiff_t x_stride, T* __restrict out,
                          std::ptrdiff_t out_stride) {
    using V = Vector<T>;
    constexpr int lanes = lanes_of<T>;
    V sum[S][N][4];
    for (int s = 0; s < S; ++s)
        for (int n = 0; n < N; ++n) {
            sum[s][n][0] = load(bias + n * lanes);
            sum[s][n][1] = sum[s][n][2] = sum[s][n][3] = V{};
        }
    int k = 0;
    for (; k + 4 <= inputs; k += 4) {
#pragma GCC unroll 4
        for (int p = 0; p < 4; ++p) {
            V row[N];
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n) row[n] = load(weight + (k + p) * stride + n * lanes);
#pragma GCC unroll 4
            for (int s = 0; s < S; ++s) {
                const V factor = all<T>(x[s * x_stride + k + p]);
#pragma GCC unroll 4
                for (int n = 0; n < N; ++n) sum[s][n][p] = fma(row[n], factor, sum[s][n][p]);
            }
        }
    }
    for (int p = 0; k + p < inputs; ++p)
        for (int s = 0; s < S; ++s)
            for (int n = 0; n < N; ++n) {
                const V value = load(weight + (k + p) * stride + n * lanes);
                sum[s][n][p] = fma(value, all<T>(x[s * x_stride + k + p]), sum[s][n][p]);
            }
    for (int s = 0; s < S; ++s)
        for (int n = 0; n < N; ++n)
            store(out + s * out_stride + n * lanes, (sum[s][n][0] + sum[s][n][1]) + (sum[s][n][2] + sum[s][n][3]));
}

template <typename T, int S>
void multiply(const T* weight, const T* bias, int inputs, int outputs, std::ptrdiff_t stride, const T* x,
              std::ptrdiff_t x_stride, T* out, std::ptrdiff_t out_stride) {
    constexpr int wide = S == 1 ? 2 : 1, lanes = lanes_of<T>;
    int r = 0;
    for (; r + wide * lanes <= stride && r < outputs; r += wide * lanes)
        multiply_tile<T, S, wide>(weight + r, bias + r, inputs, stride, x, x_stride, out + r, out_stride);
    for (; r < outputs; r += lanes)
        multiply_tile<T, S, 1>(weight + r, bias + r, inputs, stride, x, x_stride, out + r, out_stride);
}

template <typename T, typename A>
void activate_with(T* values, std::ptrdiff_t count) {
    for (std::ptrdiff_t i = 0; i < count; i += lanes_of<T>) store(values + i, A::template of<T>(load(values + i)));
}

template <typename T>
void activate(Activation activation, T* values, std::ptrdiff_t count) {
    switch (activation) {
        case Activation::identity:
            return;
        case Activation::relu:
            return activate_with<T, Relu>(values, count);
        case Activation::tanh:
            return activate_with<T, Tanh>(values, count);
        case Activation::silu:
            return activate_with<T, Silu>(values, count);
        case Activation::softplus:
            return activate_with<T, Softplus>(values, count);
        case Activation::gelu:
            return activate_with<T, Gelu>(values, count);
    }
}

// out[s][i] = sum_j logsig[j][s] weight[j][i] for one panel and S streams, feature after feature.
template <typename T, int S>
inline void contract_panel(const T* __restrict weight, int features, const T* __restrict logsig, std::ptrdiff_t stride,
                           T* __restrict out, std::ptrdiff_t out_stride) {
    using V = Vector<T>;
    constexpr int lanes = lanes_of<T>, vectors = panel<T> / lanes, N = S == 1 ? vectors : 2;
    for (int begin = 0; begin < vectors; begin += N) {
        V sum[S][N] = {};
        for (int j = 0; j < features; ++j) {
            V value[N];
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n) value[n] = load(weight + j * panel<T> + (begin + n) * lanes);
#pragma GCC unroll 16
            for (int s = 0; s < S; ++s) {
                const V factor = all<T>(logsig[j * stride + s]);
#pragma GCC unroll 8
                for (int n = 0; n < N; ++n) sum[s][n] = fma(value[n], factor, sum[s][n]);
            }
        }
        for (int s = 0; s < S; ++s)
            for (int n = 0; n < N; ++n) store(out + s * out_stride + (begin + n) * lanes, sum[s][n]);
    }
}

// A stream's number in a block is the fastest index of its scaled log-signatures here, (features, count).
template <typename T>
void contract(const Model<T>& model, const double* logsig, std::ptrdiff_t count, T* turned, T* out) {
    const int features = model.features;
    for (std::ptrdiff_t s = 0; s < count; ++s)
        for (int j = 0; j < features; ++j)
            turned[j * count + s] = static_cast<T>(logsig[s * features + j] * model.scale.data()[j]);
    const std::ptrdiff_t stride = model.contracted;
    for (std::ptrdiff_t i = 0; i < stride; i += panel<T>) {
        const T* weight = model.last.data() + i * features;
        T* to = out + i;
        std::ptrdiff_t s = 0;
        for (; s + tile_streams <= count; s += tile_streams)
            contract_panel<T, tile_streams>(weight, features, turned + s, count, to + s * stride, stride);
        for (; s + 4 <= count; s += 4)
            contract_panel<T, 4>(weight, features, turned + s, count, to + s * stride, stride);
        for (; s < count; ++s) contract_panel<T, 1>(weight, features, turned + s, count, to + s * stride, stride);
    }
}

// Streams whose steps are solved together, and the memory for it.
template <typename T>
struct Solver {
    const Model<T>& model;
    const int row;   // padded hidden
    const int wide;  // widest padded layer
    Numbers<T> memory;
    T *stage, *slopes, *hidden, *other, *factors;
    const T* matrices = nullptr;
    const T* first = nullptr;        // of the window before; null: there is none
    const double* logsig = nullptr;  // the first number of each is the window's duration
    int count = 0;

    explicit Solver(const Model<T>& given) : model(given), row(padded<T>(given.hidden)), wide(widest(given)) {
        const std::size_t rows = static_cast<std::size_t>(group) * row,
                          hidden_rows = static_cast<std::size_t>(group) * wide;
        memory = Numbers<T>(9 * rows + 2 * hidden_rows);
        stage = memory.data();
        slopes = stage + rows;
        factors = slopes + 4 * rows;
        hidden = factors + 4 * rows;
        other = hidden + hidden_rows;
    }

    static int widest(const Model<T>& model) {
        int wide = 0;
        for (const Layer<T>& layer : model.layers)
            wide = padded<T>(layer.outputs) > wide ? padded<T>(layer.outputs) : wide;
        return wide;
    }

    // slope[s] = F(z[s]) l for the group's streams.
    void field(const T* z, T* slope, const T* contracted) {
        const T* x = z;
        std::ptrdiff_t stride = row;
        T *to = hidden, *next = other;
        for (const Layer<T>& layer : model.layers) {
            const int out_stride = padded<T>(layer.outputs);
            if (count == group) {
                multiply<T, group>(layer.weight.data(), layer.bias.data(), layer.inputs, layer.outputs, out_stride, x,
                                   stride, to, wide);
            } else {
                for (int s = 0; s < count; ++s)
                    multiply<T, 1>(layer.weight.data(), layer.bias.data(), layer.inputs, layer.outputs, out_stride,
                                   x + s * stride, stride, to + s * wide, wide);
            }
            for (int s = 0; s < count; ++s) activate(layer.activation, to + s * wide, out_stride);
            x = to;
            stride = wide;
            T* swap = to;
            to = next;
            next = swap;
        }
        const int width = model.layers.back().outputs;
        for (int s = 0; s < count; ++s) {
            const T* matrix = contracted + s * model.contracted;
            multiply<T, 1>(matrix, matrix + static_cast<std::ptrdiff_t>(width) * row, width, model.hidden, row,
                           x + s * wide, wide, slope + s * row, row);
        }
    }

    // factors[m] = exp(-decay seconds h m / nodes), m = 1 ... nodes.
    void decay(double h) {
        const Tableau& tableau = model.tableau;
        for (int m = 1; m <= tableau.nodes; ++m)
            for (int s = 0; s < count; ++s) {
                const T time = static_cast<T>(-logsig[s * model.features] * h * m / tableau.nodes);
                T* to = factors + ((m - 1) * group + s) * row;
                for (int i = 0; i < row; i += lanes_of<T>)
                    store(to + i, exponential<T>(load(model.decay.data() + i) * time));
            }
    }

    // out = E(node) z + h sum_j a_j E(node - node_j) k_j, E the decay since then.
    void combine(T* out, const T* z, int node, const double* a, int terms, double h) {
        const Tableau& tableau = model.tableau;
        const bool decays = model.decay.size() > 0;
        for (int i = 0; i < count * row; i += lanes_of<T>) {
            const auto faded = [&](int nodes, Vector<T> value) {
                return decays && nodes ? value * load(factors + (nodes - 1) * group * row + i) : value;
            };
            Vector<T> sum = faded(node, load(z + i));
            for (int j = 0; j < terms; ++j)
                if (a[j] != 0)
                    sum = fma(faded(node - tableau.node[j], load(slopes + j * group * row + i)),
                              all<T>(static_cast<T>(a[j] * h)), sum);
            store(out + i, sum);
        }
    }

    // z over the window in `substeps` steps, whose very first stage is by the matrices `begin`; null: by the window's own.
    void solve(T* z, int substeps, const T* begin) {
        const Tableau& tableau = model.tableau;
        const double h = 1.0 / substeps;
        if (model.decay.size()) decay(h);
        for (int n = 0; n < substeps; ++n) {
            for (int i = 0; i < tableau.stages; ++i) {
                combine(stage, z, tableau.node[i], tableau.stage[i], i, h);
                field(stage, slopes + i * group * row, n == 0 && i == 0 && begin ? begin : matrices);
            }
            combine(z, z, tableau.nodes, tableau.weight, tableau.stages, h);
        }
    }

    // Root mean square over the state of (a - b) / (1 + |a|).
    double distance(const T* a, const T* b) const {
        double sum = 0;
        for (int i = 0; i < model.hidden; ++i) {
            const double d = (static_cast<double>(a[i]) - b[i]) / (1 + std::fabs(static_cast<double>(a[i])));
            sum += d * d;
        }
        return std::sqrt(sum / model.hidden);
    }
};

template <typename T>
void load_rows(const Solver<T>& solver, const T* states, T* rows) {
    const int hidden = solver.model.hidden;
    for (int s = 0; s < solver.count; ++s)
        for (int i = 0; i < solver.row; ++i) rows[s * solver.row + i] = i < hidden ? states[s * hidden + i] : 0;
}

template <typename T>
void store_rows(const Solver<T>& solver, const T* rows, T* states) {
    const int hidden = solver.model.hidden;
    for (int s = 0; s < solver.count; ++s)
        for (int i = 0; i < hidden; ++i) states[s * hidden + i] = rows[s * solver.row + i];
}

template <typename T>
void copy(const Solver<T>& solver, T* to, const T* from) {
    for (int i = 0; i < solver.count * solver.row; ++i) to[i] = from[i];
}

template <typename T>
void step(const Model<T>& model, const Steps<T>& steps) {
    const std::ptrdiff_t bytes = model.contracted * sizeof(T) * (steps.previous ? 2 : 1);
    std::ptrdiff_t block = block_bytes / bytes / tile_streams * tile_streams;
    block = block < tile_streams ? tile_streams : block > largest_block ? largest_block : block;
    block = block < steps.count ? block : steps.count;
    const int features = model.features, hidden = model.hidden;
    const std::size_t rows = static_cast<std::size_t>(group) * padded<T>(hidden);
    Solver<T> solver(model);
    const std::size_t matrices_size = block * model.contracted;
    T* matrices = buffer<T>(matrices_size * (steps.previous ? 2 : 1) + block * features + 4 * rows);
    T* first = steps.previous ? matrices + matrices_size : nullptr;
    T* turned = matrices + matrices_size * (steps.previous ? 2 : 1);
    T* z = turned + (block * features + padding<T> - 1) / padding<T> * padding<T>;
    T *coarse = z + rows, *fine = coarse + rows, *moved = fine + rows;
    // A first stage that sees the window before lowers the order of the step. The finer step of a comparison therefore sees
    // its own window only: it converges at the solver's order, to what the step is to come near.
    const double power = std::pow(2.0, model.tableau.order);
    for (std::ptrdiff_t begin = 0; begin < steps.count; begin += block) {
        const std::ptrdiff_t count = steps.count - begin < block ? steps.count - begin : block;
        contract(model, steps.logsig + begin * features, count, turned, matrices);
        if (first) contract(model, steps.previous + begin * features, count, turned, first);
        for (std::ptrdiff_t s = 0; s < count; s += group) {
            solver.count = static_cast<int>(count - s < group ? count - s : group);
            solver.matrices = matrices + s * model.contracted;
            solver.first = first ? first + s * model.contracted : nullptr;
            solver.logsig = steps.logsig + (begin + s) * features;
            T* states = steps.z + (begin + s) * hidden;
            double* error = steps.error ? steps.error + begin + s : nullptr;
            load_rows(solver, states, z);
            if (model.substeps) {
                copy(solver, coarse, z);
                solver.solve(coarse, model.substeps, solver.first);
                if (error) {
                    copy(solver, fine, z);
                    solver.solve(fine, 2 * model.substeps, nullptr);
                    for (int i = 0; i < solver.count; ++i)
                        error[i] =
                            solver.distance(fine + i * solver.row, coarse + i * solver.row) * power / (power - 1);
                }
                store_rows(solver, coarse, states);
                continue;
            }
            bool accepted[group] = {};
            int open = solver.count;
            copy(solver, coarse, z);
            solver.solve(coarse, 1, nullptr);
            for (int n = 2; open; n *= 2) {
                copy(solver, fine, z);
                solver.solve(fine, n, nullptr);
                if (solver.first) {
                    copy(solver, moved, z);
                    solver.solve(moved, n, solver.first);
                }
                const T* result = solver.first ? moved : fine;
                for (int i = 0; i < solver.count; ++i) {
                    if (accepted[i]) continue;
                    double estimate = solver.distance(fine + i * solver.row, coarse + i * solver.row) / (power - 1);
                    if (solver.first) estimate += solver.distance(fine + i * solver.row, moved + i * solver.row);
                    // NaN is accepted: more steps would not mend it.
                    accepted[i] = !(estimate > model.tolerance) || 2 * n > model.most_substeps;
                    if (!accepted[i]) continue;
                    --open;
                    for (int c = 0; c < hidden; ++c) states[i * hidden + c] = result[i * solver.row + c];
                    if (error) error[i] = estimate;
                }
                T* swap = coarse;
                coarse = fine;
                fine = swap;
            }
        }
    }
}

template <typename T>
void apply(const Layer<T>& layer, const T* x, T* out, std::ptrdiff_t count) {
    const int row = padded<T>(layer.outputs);
    T* values = buffer<T>(row);
    for (std::ptrdiff_t s = 0; s < count; ++s) {
        multiply<T, 1>(layer.weight.data(), layer.bias.data(), layer.inputs, layer.outputs, row, x + s * layer.inputs,
                       0, values, 0);
        activate(layer.activation, values, row);
        for (int i = 0; i < layer.outputs; ++i) out[s * layer.outputs + i] = values[i];
    }
}

template <typename T>
void softmax(T* rows, std::ptrdiff_t width, std::ptrdiff_t count) {
    const std::ptrdiff_t row = padded<T>(static_cast<int>(width));
    T* values = buffer<T>(row);
    for (std::ptrdiff_t s = 0; s < count; ++s, rows += width) {
        T largest = rows[0], sum = 0;
        for (std::ptrdiff_t i = 1; i < width; ++i) largest = rows[i] > largest ? rows[i] : largest;
        for (std::ptrdiff_t i = 0; i < row; ++i) values[i] = i < width ? rows[i] - largest : 0;
        for (std::ptrdiff_t i = 0; i < row; i += lanes_of<T>) store(values + i, exponential<T>(load(values + i)));
        for (std::ptrdiff_t i = 0; i < width; ++i) sum += values[i];
        for (std::ptrdiff_t i = 0; i < width; ++i) rows[i] = values[i] / sum;
    }
}

}  // namespace

StepKernels STREAMRDE_STEPS() {
    return {{step<float>, apply<float>, softmax<float>}, {step<double>, apply<double>, softmax<double>}};
}

}  // namespace streamrde
