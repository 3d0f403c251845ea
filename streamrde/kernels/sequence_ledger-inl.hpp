// The gradient of the last layer, which is summed over many windows at a time.
#pragma once

#include <algorithm>

#include "sequence_block-inl.hpp"

namespace streamrde {
namespace {

// Windows whose gradients go into the last layer's together; what they need of a pair of vectors stays in a first-level cache.
constexpr std::ptrdiff_t most_entries = 64;

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

}  // namespace
}  // namespace streamrde
