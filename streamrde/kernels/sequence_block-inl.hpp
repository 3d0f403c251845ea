// Rows that go through their windows together: their memory, their contracted matrices and the combinations of a step.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "products-inl.hpp"
#include "sequence.hpp"

namespace streamrde {
namespace {

// Contracted matrices of a block: with the weights streaming by they should stay in a second-level cache.
constexpr std::ptrdiff_t block_bytes = 512 << 10;
constexpr std::ptrdiff_t most_rows = 48;
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

}  // namespace
}  // namespace streamrde
