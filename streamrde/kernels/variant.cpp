// Compiled once per instruction set, with STREAMRDE_SELECT naming the function it gives.
#include "variant.hpp"

#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "algebra-inl.hpp"
#ifdef __AVX512F__
#include "registers-inl.hpp"
#endif

namespace streamrde {
// Unnamed in every file and header that is compiled per variant, or the linker would keep one instruction set's copy of the
// templates for all.
namespace {

// Rows whose levels below the top have at most so many coefficients have kernels of their own; in larger ones the loops
// are long enough as they are.
constexpr std::ptrdiff_t largest_factor = 350;
constexpr int most_channels = 16, most_depth = 6;

// Aligned for vectors; each thread has one, which grows.
template <typename T>
T* buffer(std::size_t size) {
    struct alignas(64) Line {
        char bytes[64];
    };
    thread_local std::vector<Line> memory;
    const std::size_t needed = (size * sizeof(T) + sizeof(Line) - 1) / sizeof(Line);
    if (memory.size() < needed) memory.resize(needed);
    return reinterpret_cast<T*>(memory.data());
}

// Where the increments of a run of pieces come from.
struct FromIncrements {
    const double* at;
    void take(double* dx, int channels) {
        std::memcpy(dx, at, channels * sizeof(double));
        at += channels;
    }
#ifdef __AVX512F__
    template <int C>
    void take(Register* dx) {
        load<C>(dx, at);
        at += C;
    }
#endif
};
struct FromPoints {
    const double *before, *at;
    void take(double* dx, int channels) {
        for (int i = 0; i < channels; ++i) dx[i] = at[i] - before[i];
        before = at;
        at += channels;
    }
#ifdef __AVX512F__
    template <int C>
    void take(Register* dx) {
        Register from[registers_for(C)];
        load<C>(dx, at);
        load<C>(from, before);
        for (int v = 0; v < registers_for(C); ++v) dx[v] = _mm512_sub_pd(dx[v], from[v]);
        before = at;
        at += C;
    }
#endif
};

template <int CT, int NT>
struct Of {
    static constexpr bool fixed = CT != 0;
    static constexpr std::ptrdiff_t top = fixed ? power(CT, NT - 1) : 0;  // C^(N - 1)
    // Pieces per run: of large factors as many as stay in the second-level cache, where the top level is then read and
    // written seldom; of small ones as many as stay in the first.
    static constexpr int run_of(std::ptrdiff_t factor) {
        return factor <= 64 ? 32 : factor <= 350 ? 8 : factor <= 1024 ? 32 : factor <= 16384 ? 8 : 2;
    }

    template <typename Source>
    static void append(int channels, int depth, double* S, Source source, std::ptrdiff_t pieces) {
#ifdef __AVX512F__
        if constexpr (fixed) return append_registers(S, source, pieces);
#endif
        const Sizes<CT, NT> sizes(channels, depth);
        const int C = sizes.channels, N = sizes.depth;
        const std::ptrdiff_t factor = sizes.power[N - 1], stride = factor_stride(factor);
        const int run = run_of(factor);
        double* factors = buffer<double>(run * (stride + C) + lower_scratch(C, N));
        double* dx = factors + run * stride;
        double* scratch = dx + run * C;
        while (pieces > 0) {
            const int count = static_cast<int>(pieces < run ? pieces : run);
            for (int t = 0; t < count; ++t) {
                source.take(dx + t * C, C);
                if (N > 1) lower_levels<CT, NT>(sizes, S, dx + t * C, factors + t * stride, scratch);
                else
                    for (int i = 0; i < C; ++i) S[i] += dx[t * C + i];
            }
            if (N > 1) top_level<CT, top>(S + sizes.offset[N], factors, factor, dx, C, C, count);
            pieces -= count;
        }
    }

#ifdef __AVX512F__
    template <typename Source>
    static void append_registers(double* S, Source source, std::ptrdiff_t pieces) {
        using State = Row<CT ? CT : 1, NT ? NT : 1>;
        constexpr int run = run_of(top), stride = width * registers_for(CT ? CT : 1);
        alignas(64) double dx[run * stride];
        alignas(64) double factors[State::whole ? 1 : run * State::stride];
        State row;
        row.read(S);
        while (pieces > 0) {
            const int count = static_cast<int>(pieces < run ? pieces : run);
            for (int t = 0; t < count; ++t) {
                Register piece[registers_for(CT)];
                source.template take<CT>(piece);
                row.append(piece, dx + t * stride, factors + (State::whole ? 0 : t * State::stride));
            }
            if constexpr (!State::whole)
                top_level<CT, top>(S + row_size(CT, NT - 1), factors, top, dx, CT, stride, count);
            pieces -= count;
        }
        row.write(S);
    }
#endif

    static void fold(int channels, int depth, double* S, const double* increments, std::ptrdiff_t pieces) {
        append(channels, depth, S, FromIncrements{increments}, pieces);
    }

    static void follow(int channels, int depth, double* S, const double* before, const double* points,
                       std::ptrdiff_t count) {
        append(channels, depth, S, FromPoints{before, points}, count);
    }

    static void join(int channels, int depth, double* S, const double* R) {
        streamrde::join(Sizes<CT, NT>(channels, depth), S, R);
    }

    static void log(int channels, int depth, const double* S, const Words& words, double* out) {
#ifdef __AVX512F__
        if constexpr (fixed) {
            double series[row_size(CT, NT - 1) + 1];
            LogSeries<CT, NT>::compute(S, series);
            return log_words(S, series, words, out);
        }
#endif
        const Sizes<CT, NT> sizes(channels, depth);
        const double* series = log_series(sizes, S, buffer<double>(log_scratch(sizes.channels, sizes.depth)));
        log_words(S, series, words, out);
    }

    static void fold_lanes(int channels, int depth, double* const* S, const double* const* data,
                           const std::ptrdiff_t* pieces, int count, bool points) {
        const Sizes<CT, NT> sizes(channels, depth);
        constexpr int run = 8;
        const int C = sizes.channels, N = sizes.depth;
        const std::ptrdiff_t row = sizes.offset[N + 1], factor = sizes.power[N - 1];
        Lanes* work = buffer<Lanes>(row + run * (factor + C) + C + lower_scratch(C, N));
        Lanes* factors = work + row;
        Lanes* dx = factors + run * factor;
        Lanes* last = dx + run * C;
        Lanes* scratch = last + C;
        // Lanes without a path of their own repeat the first and are not stored.
        const double* rows[lanes];
        for (int r = 0; r < lanes; ++r) rows[r] = S[r < count ? r : 0];
        transpose(work, rows, 0, row);
        const double* at[lanes];
        std::ptrdiff_t own[lanes], shortest = pieces[0], longest = pieces[0];
        for (int r = 0; r < lanes; ++r) {
            at[r] = data[r < count ? r : 0];
            own[r] = pieces[r < count ? r : 0];
            shortest = own[r] < shortest ? own[r] : shortest;
            longest = own[r] > longest ? own[r] : longest;
        }
        if (points)
            for (int i = 0; i < C; ++i)
                for (int r = 0; r < lanes; ++r) last[i][r] = *at[r]++;
        for (std::ptrdiff_t p = 0; p < longest; p += run) {
            const int now = static_cast<int>(longest - p < run ? longest - p : run);
            if (p + now <= shortest) transpose(dx, at, p * C, now * C);
            else
                for (int e = 0; e < now * C; ++e)
                    for (int r = 0; r < lanes; ++r) {
                        // A path that has ended stays where it is: pieces of length 0 change nothing.
                        const std::ptrdiff_t place = p * C + e, end = own[r] * C;
                        dx[e][r] = place < end ? at[r][place]
                                   : !points   ? 0.0
                                   : end       ? at[r][end - C + e % C]
                                               : last[e % C][r];
                    }
            if (points)
                for (int e = 0, i = 0; e < now * C; ++e, i = i + 1 < C ? i + 1 : 0) {
                    const Lanes x = dx[e];
                    dx[e] = x - last[i];
                    last[i] = x;
                }
            for (int t = 0; t < now; ++t) {
                if (N > 1) lower_levels<CT, NT>(sizes, work, dx + t * C, factors + t * factor, scratch);
                else
                    for (int i = 0; i < C; ++i) work[i] += dx[t * C + i];
            }
            if (N > 1) top_level_lanes<CT>(work + sizes.offset[N], factors, factor, dx, C, now);
        }
        for (int r = 0; r < count; ++r)
            for (std::ptrdiff_t w = 0; w < row; ++w) S[r][w] = work[w][r];
    }

    // to[e][r] = from[r][place + e]
    static void transpose(Lanes* to, const double* const* from, std::ptrdiff_t place, std::ptrdiff_t count) {
        for (std::ptrdiff_t e = 0; e < count; ++e)
            for (int r = 0; r < lanes; ++r) to[e][r] = from[r][place + e];
    }

    static constexpr Kernel kernel() {
#ifndef __AVX512F__  // with it a path in registers is as fast as eight in lanes
        if constexpr (fixed) return {fold, follow, join, log, fold_lanes, lanes};
#endif
        return {fold, follow, join, log, nullptr, 1};
    }
};

template <int I>
constexpr Kernel entry() {
    constexpr int channels = I / most_depth + 1, depth = I % most_depth + 1;
    if constexpr (power(channels, depth - 1) <= largest_factor) return Of<channels, depth>::kernel();
    return Of<0, 0>::kernel();
}

template <int... I>
constexpr std::array<Kernel, sizeof...(I)> entries(std::integer_sequence<int, I...>) {
    return {entry<I>()...};
}

constexpr auto table = entries(std::make_integer_sequence<int, most_channels * most_depth>{});

}  // namespace

Kernel STREAMRDE_SELECT(int channels, int depth) {
    if (channels > most_channels || depth > most_depth) return Of<0, 0>::kernel();
    return table[(channels - 1) * most_depth + depth - 1];
}

}  // namespace streamrde
