// The way of rows through a table of streams: order, missing values, window edges, the windows that close.
//
// The compiled twin of windowing/loop.py, ordering.py, settling.py and walk.py, file by file, with the same names, decisions and
// arithmetic: these files are compiled without contraction of a * b + c, so both give the same bits. The names are explained
// there. A call touches only the rows and held samples of its slots: calls on disjoint slots may run at
// the same time, once `reserve` has made room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "layout.hpp"
#include "policies/policy.hpp"
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

// Rows in order of stream lie apart in memory: they are fetched so many rows before their turn.
constexpr std::ptrdiff_t ahead = 8;

// Where the rest stands.
struct Layout {
    std::ptrdiff_t width, x, seen, signature;
    int channels;  // of a sample
    bool time;     // whether time is channel 0 of the path
    bool counts, elapsed;
    int depth;

    int values() const { return channels * (1 + counts + elapsed); }        // of the path without time
    int path() const { return values() + time; }                            // of the path
    int entry() const { return 1 + channels * (1 + (counts || elapsed)); }  // numbers of a held sample
};

struct Partition {
    bool hold;  // interpolation, else linear
    double longest_gap, holds;
    bool carry, resumes;
    std::int64_t wait_samples;
    double wait_seconds;
};

STREAMRDE_ENUM(enum class Duplicates : int, duplicates, error, first, last);

struct Order {
    double lateness;
    std::int64_t lateness_samples, max_held;
    Duplicates duplicates;
    bool merge;
    std::int64_t restart_after;  // late rows in a row with which a stream's time begins again; 0: never

    bool strict() const { return merge || duplicates == Duplicates::last; }
    bool holds() const { return lateness > 0 || lateness_samples > 0 || strict(); }
};

STREAMRDE_ENUM(enum class Fault : int, fault, none, rejected, late, duplicate, restarted);

struct Refusal {
    Fault fault = Fault::none;
    std::ptrdiff_t row = 0;
    int column = 0;      // rejected: 0 is the time, then the channels
    double bound = 0.0;  // late, duplicate: the time that the row had to be after
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
// Of a bounded call, what each row of samples may close without drawing on the others' store.
constexpr std::int64_t windows_of_a_row = 2;

// Samples in order of time, `width` numbers each.
class Queue {
public:
    explicit Queue(std::ptrdiff_t width) : width_(width) {}
    std::ptrdiff_t size() const { return (static_cast<std::ptrdiff_t>(data_.size()) - front_) / width_; }
    double* at(std::ptrdiff_t i) { return data_.data() + front_ + i * width_; }
    const double* at(std::ptrdiff_t i) const { return data_.data() + front_ + i * width_; }
    // Room for a sample before place i, filled with zeros.
    double* insert(std::ptrdiff_t i);
    void pop();

private:
    std::ptrdiff_t width_, front_ = 0;
    std::vector<double> data_;
};

struct Held {
    Queue pending;  // in turn, waiting for a channel's next observation
    Queue waiting;  // not yet in turn
};

class Loop {
public:
    Loop(Layout layout, Partition partition, std::unique_ptr<Policy> policy, Order order, Kernel kernel,
         WordTable words, std::vector<double> fills);

    const Layout& layout() const { return layout_; }
    std::ptrdiff_t words() const { return static_cast<std::ptrdiff_t>(words_.size()); }

    // Room for the held samples of so many slots; before anything else is called on them.
    void reserve(std::size_t slots);

    // Takes rows in order of arrival, or those at `indices` of them. One that cannot be used is counted in its stream's
    // row and skipped; without `drop` the first such is returned at once, and what came before it is done.
    // Of the windows that time closes, each row closes some and all of them together `windows` more. A stream that has none
    // left holds its samples, is one of `owing`, and goes on with `go_on`, or with whatever is next called on it.
    Refusal push(double* rows, const std::int64_t* slots, const double* t, const double* x,
                 const std::ptrdiff_t* indices, std::ptrdiff_t count, bool drop, std::int64_t windows,
                 Outcome& outcome);
    // The same refusal without taking anything; only where no sample is held, which `holds` tells. Indices are in order of
    // stream.
    Refusal check(const double* rows, const std::int64_t* slots, const double* t, const double* x,
                  const std::ptrdiff_t* indices, std::ptrdiff_t count) const;
    bool holds(const double* rows, const std::int64_t* slots, std::ptrdiff_t count) const;

    // These close at most `windows`, and `share` of one stream; of the streams in `owing` they are to be called again.
    void advance(double* rows, const std::int64_t* slots, const double* t, std::ptrdiff_t count, std::int64_t windows,
                 std::int64_t share, Outcome& outcome);
    void flush(double* rows, const std::int64_t* slots, std::ptrdiff_t count, std::int64_t windows, std::int64_t share,
               Outcome& outcome);
    void go_on(double* rows, const std::int64_t* slots, std::ptrdiff_t count, std::int64_t windows, std::int64_t share,
               Outcome& outcome);
    void pass_time(double* rows, const std::int64_t* slots, const double* t, std::ptrdiff_t count, Outcome& outcome);
    void close(double* rows, const std::int64_t* slots, std::ptrdiff_t count, Outcome& outcome);

    // What streams hold, for snapshots, and to undo a push.
    const Held* held_of(std::size_t slot) const;
    void hold(std::size_t slot, const double* entries, std::ptrdiff_t count, std::ptrdiff_t ripe);
    struct Saved {
        std::int64_t slot;
        std::vector<double> row;
        std::unique_ptr<Held> held;
    };
    std::vector<Saved> save(const double* rows, const std::int64_t* slots, std::ptrdiff_t count) const;
    void put_back(double* rows, std::vector<Saved>& saved);

private:
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
        Budget budget;
    };
    // Memory that one call uses over and over.
    struct Scratch {
        std::vector<double> work, edges;
        Run run;
    };
    Scratch scratch() const;

    // plain.cpp
    bool plain(const double* row) const;
    // Takes rows of one stream as long as they are of the usual kind; how many.
    std::ptrdiff_t push_plain(Stream& stream, const double* t, const double* x, const std::ptrdiff_t* indices,
                              std::ptrdiff_t count) const;

    // ordering.cpp
    // The time, less what rounding may take, up to which a stream's path is built.
    double reached_time(const double* row) const;
    Refusal judge(double newest, double edge, double t, const double* x) const;
    Refusal add(Stream& stream, double t, const double* x);
    Refusal insert(Stream& stream, double t, const double* x);
    Refusal repeat(double* row, double* entry, const double* x) const;
    void release(Stream& stream, Held& held, double now);

    // settling.cpp
    bool starts_segment(const double* row, double previous, double t) const;
    bool keeps_episode(const double* row) const;
    void settle(Stream& stream, double t, const double* x);
    void fill_back(const double* row, Queue& pending, int channel) const;
    void complete(Stream& stream, Held& held, bool all_of_them);
    void resolve(const double* row, Queue& pending, bool all_of_them) const;
    void append(Stream& stream, double t, const double* data);

    // walk.cpp
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
    // `values`: of the data channels where the window ends.
    void close_window(Stream& stream, double end, const double* values, bool sampled) const;

    // loop.cpp
    // Calls `work` on each stream with its share of the windows. Those for which it returns false owe some.
    template <typename Work>
    void share_out(double* rows, const std::int64_t* slots, std::ptrdiff_t count, std::int64_t windows,
                   std::int64_t share, Outcome& outcome, Work work);
    void end_intake(Stream& stream, Held& held);
    // Ends the stream's segment and forgets the times it has reached.
    void restart(Stream& stream);
    void pop(Stream& stream, Held& held);
    static void count(double* row, const Held& held);
    Held& held_at(std::int64_t slot);

    Layout layout_;
    Partition partition_;
    std::unique_ptr<Policy> policy_;
    Order order_;
    Kernel kernel_;
    WordTable words_;
    std::vector<double> fills_;
    std::ptrdiff_t signature_size_;
    Column counter_;  // of the open window's samples
    bool simple_;     // whether rows of the usual kind can be told: see plain.cpp
    std::vector<std::unique_ptr<Held>> held_;
};

}  // namespace streamrde
