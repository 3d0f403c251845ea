// From complete samples in order to windows that close: the twin of windowing/walk.py.
//
// Walk, settling, ordering and loop have the names of their twins, file by file, and the same decisions and arithmetic: they are
// compiled without contraction of a * b + c, so both give the same bits. Each class derives from the one that it passes
// samples to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "layout.hpp"
#include "policies/policy.hpp"
#include "tokens.hpp"
#include "variant.hpp"
#include "word_table.hpp"

namespace streamrde {

// First columns of a stream's row; see windowing/rows.py.
STREAMRDE_ENUM(enum Column, column, started, t0, last, cursor, window, filled, start, segment_window, episode_window,
               episode, window_samples, ordered, top, paused, held, pending, samples, late, duplicate, rejected, merged,
               refused, cuts, walked);
constexpr int columns = walked + 1;

// Pieces that wait to be folded, at most; the kernels cut longer runs too.
constexpr int longest_run = 32;

// Where the rest stands.
struct Layout {
    std::ptrdiff_t width, x, seen, signature;
    int channels;                    // of a sample
    bool time;                       // whether time is channel 0 of the path
    bool counts, elapsed, observes;  // the last: the token has parts that need to know what a sample observed
    int depth;

    int values() const { return channels * (1 + counts + elapsed); }  // of the path without time
    int path() const { return values() + time; }                      // of the path
    bool flags() const { return counts || elapsed || observes; }      // of observed channels, beside a sample
    int entry() const { return 1 + channels * (1 + flags()); }        // numbers of a held sample
};

struct Partition {
    bool hold;  // interpolation, else linear
    double longest_gap, holds;
    bool carry, resumes;
    std::int64_t wait_samples;
    double wait_seconds;
};

// Rows of the structured arrays in kernels/outcome.py.
STREAMRDE_STRUCT(Window, window, std::int64_t slot, window, episode, step; double t_start, t_end;
                 std::int64_t row, sampled;);
STREAMRDE_STRUCT(Episode, episode, std::int64_t slot, episode, row;);
STREAMRDE_STRUCT(Unused, unused, std::int64_t row, fault;);
STREAMRDE_STRUCT(Cut, cut, std::int64_t slot; double silence;);

// What came of a call; see kernels/outcome.py.
struct Outcome {
    std::vector<Window> windows;
    std::vector<double> logsigs, values;
    std::vector<Episode> episodes;
    std::vector<double> origins;
    std::vector<Unused> unused;
    std::vector<std::int64_t> owing;
    std::vector<Cut> cuts;

    bool empty() const { return windows.empty() && episodes.empty() && unused.empty() && cuts.empty(); }
};

// Windows that a call may still close because time passes: its own, then those of a store that others share.
struct Budget {
    std::int64_t own;
    std::int64_t* shared;

    bool spend() {
        std::int64_t& from = own > 0 ? own : *shared;
        if (from <= 0) return false;
        --from;
        return true;
    }
};
constexpr std::int64_t unbounded = std::numeric_limits<std::int64_t>::max();

// Pieces of one stream that wait to be folded as a run, which costs a fraction of folding them one by one.
struct Run {
    std::vector<double> pieces;
    int count = 0;
    double* signature = nullptr;
};
// One stream during one call: its row, and where results go.
struct Stream {
    double* row;
    std::int64_t slot, cause;
    Outcome& outcome;
    double* work;
    std::vector<double>& edges;
    Run& run;
    Factors& factors;
    Budget budget;
};
// Memory that one call uses over and over.
struct Scratch {
    std::vector<double> work, edges;
    Run run;
    Factors factors;
};
class Walk {
public:
    Walk(Layout layout, Partition partition, std::unique_ptr<Policy> policy, Kernel kernel, WordTable words,
         Tokens tokens);

    const Layout& layout() const { return layout_; }
    std::ptrdiff_t token_size() const { return token_size_; }

protected:
    std::ptrdiff_t scratch_size() const;
    Scratch scratch() const;
    // Whether a sample at time t begins a segment, the one before it having come at time `previous`.
    bool starts_segment(const double* row, double previous, double t) const;
    // Whether the segment that a sample begins keeps the state and the last values.
    bool keeps_episode(const double* row) const;
    // False where the budget ends before the sample is reached.
    bool add_sample(Stream& stream, double t, const double* data, const double* observed) const;
    bool pass_time(Stream& stream, double t) const;
    void end_segment(Stream& stream) const;
    void begin_segment(Stream& stream, double t, const double* data, const double* observed, bool new_episode) const;
    bool extend(Stream& stream, double t, const double* data, const double* observed) const;
    OpenWindow open_window(const double* row) const;
    bool closes(Stream& stream, double* log) const;
    void move_time(Stream& stream, double to, double* dx) const;
    void fold(Stream& stream, const double* dx) const;
    void fold_run(Run& run) const;
    // Whether a sample that is on the path lies in the open window.
    bool has_sample(const double* row) const;
    // `values`: of the path where the window ends, without time, or what the row keeps of them.
    void close_window(Stream& stream, double end, const double* values, bool sampled) const;

    Layout layout_;
    Partition partition_;
    std::unique_ptr<Policy> policy_;
    Column counter_;  // of the open window's samples

private:
    Kernel kernel_;
    WordTable words_;  // of the open window, for its policy
    Tokens tokens_;
    std::ptrdiff_t token_size_, signature_size_;
};

}  // namespace streamrde
