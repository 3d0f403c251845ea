// Random features of tokens, pooled over streams' lives: the compiled twin of features/pooling.py, which says what each number
// means. The order of all sums is fixed, and no multiply-add is fused: every instruction set has the reference's bits.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "layout.hpp"
#include "stepper.hpp"

namespace streamrde {

STREAMRDE_ENUM(enum class PoolKind : int, pool_kind, share, mean, max, last, best);
constexpr int pool_kinds = static_cast<int>(PoolKind::best) + 1;
constexpr int rivals = 8;  // neighbouring directions of a block of which one is the best

constexpr int together = 16;  // directions of a group

// Directions that are computed together, of which none has more than `length` weights besides zeros.
struct DirectionGroup {
    std::int32_t length;
    std::int32_t places[together];  // of their features in the block
};

// Directions of one block over some entries of a token. Where few weights differ from 0 there are groups, and those weights
// alone stand in `weight`, each direction's in the order of entries: what is left out would add zeros.
struct DirectionBlock {
    int directions, width;
    std::ptrdiff_t first;                // of its features among all of a window, padded
    std::ptrdiff_t place;                // the same without padding, as in a state
    std::vector<std::int32_t> entries;   // of the token, (width,); with groups (terms, together), as the weights
    std::vector<DirectionGroup> groups;  // the directions with the fewest weights first; none: a dense block
    Numbers<float> weight;               // (width, padded directions); with groups (terms, together)
    Numbers<float> bias;                 // minus the bias, never -0, (padded directions,), in the order of the groups
    bool compared = false;               // whether a pool asks for the best of its directions
};

struct Pool {
    PoolKind kind;
    bool random;                 // of random features of whole blocks; else of a token's entries
    bool stretched;              // whether a share p becomes sqrt(p) - sqrt(1 - p)
    std::ptrdiff_t begin, stop;  // of its source
    std::ptrdiff_t state;        // first column in a state
    int life;                    // place of its weight in a state, or one of those below
    double rate;                 // by which what was before falls with each window
};

constexpr int alone = -1;   // a value that is not divided
constexpr int rising = -2;  // window k counts k times

// The number that a pool's sums are divided by; that of a stream without windows does not matter.
static inline double pool_weight(const Pool& pool, const double* state) {
    if (pool.life == alone || state[0] == 0) return 1.0;
    return pool.life == rising ? state[0] * (state[0] + 1.0) * 0.5 : state[pool.life];
}

// Shares in [0, 1], stretched where they are near 0 and 1; zeros without windows.
static inline void stretch(const double* sums, double part, std::ptrdiff_t size, double* out) {
    for (std::ptrdiff_t i = 0; i < size; ++i) {
        const float share = static_cast<float>(sums[i] * part);
        out[i] = static_cast<double>(std::sqrt(share) - std::sqrt(1.0f - share)) + (part == 0.0 ? 1.0 : 0.0);
    }
}

struct PoolingModel {
    int entries;                     // T
    std::ptrdiff_t summaries;        // place from which NaN means that a channel was not observed
    std::ptrdiff_t roots;            // place up to which signed square roots are taken
    std::ptrdiff_t features, state;  // numbers of features of a stream, and of a state
    std::ptrdiff_t padded_random;    // random features of a window, with padding
    double clip;
    Numbers<double> shift, scale;  // (T,)
    std::vector<double> rates;     // (lives,)
    std::vector<DirectionBlock> blocks;
    bool grouped = false;  // whether a block has groups
    std::vector<Pool> pools;
};

// A linear readout; null weight: none.
struct PoolReadout {
    const double* weight;  // (outputs, features)
    const double* bias;    // (outputs,)
    std::ptrdiff_t outputs;
};

// Windows to be taken in order.
struct PoolWindows {
    double* rows;                // states begin at rows + slot * stride
    std::ptrdiff_t stride;       // doubles from a row to the next
    const std::intptr_t* slots;  // (count,); null: all are of row 0
    const double* tokens;        // (count, T)
    std::ptrdiff_t count;
    std::uint8_t* unusual;  // (count,): whether an entry before the summaries is not finite; null: not asked for
    PoolReadout readout;
    double* outputs;  // (count, outputs)
};

struct PoolingKernel {
    void (*advance)(const PoolingModel& model, const PoolWindows& windows);
    // out = readout of one state, (outputs,).
    void (*read)(const PoolingModel& model, const double* state, const PoolReadout& readout, double* out);
};

PoolingKernel pooling_baseline();
#ifdef STREAMRDE_X86
PoolingKernel pooling_avx2();
PoolingKernel pooling_avx512();
#endif

}  // namespace streamrde
