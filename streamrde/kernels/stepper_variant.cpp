// Compiled once per instruction set, with STREAMRDE_STEPS naming the function it gives.
#include "stepper.hpp"

#include <cmath>
#include <vector>

#include "layers-inl.hpp"

namespace streamrde {
namespace {

// Registers allow so many streams at a time in a hidden layer, see layers-inl.hpp; blocks are whole tiles of the contraction.
#if defined(__AVX512F__)
constexpr int block_unit = 12;
#else
constexpr int block_unit = 6;
#endif
// Contracted matrices of a block of streams; with the weights streaming by they should stay in a second-level cache.
constexpr std::ptrdiff_t block_bytes = 448 << 10;
constexpr std::ptrdiff_t largest_block = 96;

// The streams' contracted matrices, panel after panel of the last layer, so that it passes once. A stream's number in a block
// is the fastest index of its scaled log-signatures in `turned`, (features, count).
template <typename T>
void contract(const Model<T>& model, const double* logsig, std::ptrdiff_t count, T* turned, T* out) {
    const int features = model.features;
    for (std::ptrdiff_t s = 0; s < count; ++s)
        for (int j = 0; j < features; ++j)
            turned[j * count + s] = model.shift.size()
                                        ? scaled<T>(model, logsig[s * features + j], j)
                                        : static_cast<T>(logsig[s * features + j] * model.scale.data()[j]);
    const std::ptrdiff_t size = model.contracted;
    const std::ptrdiff_t whole = count % block_unit == 1 ? count - 1 : count;  // a lone stream wants all sums at once
    for (std::ptrdiff_t i = 0; i < size; i += panel<T>) {
        const T* weight = model.last.data() + i * features;
        for (std::ptrdiff_t s = 0; s < whole; s += block_unit)
            product<T, Partials::one>(weight, panel<T>, features, panel<T>, turned + s, count, nullptr,
                                      out + s * size + i, size, s + block_unit < whole ? block_unit : whole - s);
        if (whole < count)
            product_of_row<T, Partials::one>(weight, panel<T>, features, panel<T>, turned + whole, nullptr,
                                             out + whole * size + i, count);
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
                product_of_rows<T, group>(layer.weight.data(), out_stride, layer.inputs, layer.outputs, x, stride,
                                          layer.bias.data(), to, wide);
            } else {
                for (int s = 0; s < count; ++s)
                    product_of_rows<T, 1>(layer.weight.data(), out_stride, layer.inputs, layer.outputs, x + s * stride,
                                          stride, layer.bias.data(), to + s * wide, wide);
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
            product_of_rows<T, 1>(matrix, row, width, model.hidden, x + s * wide, wide,
                                  matrix + static_cast<std::ptrdiff_t>(width) * row, slope + s * row, row);
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
    std::ptrdiff_t block = block_bytes / bytes / block_unit * block_unit;
    block = block < block_unit ? block_unit : block > largest_block ? largest_block : block;
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
        product_of_rows<T, 1>(layer.weight.data(), row, layer.inputs, layer.outputs, x + s * layer.inputs, 0,
                              layer.bias.data(), values, 0);
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
