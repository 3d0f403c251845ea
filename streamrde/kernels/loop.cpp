// Calls on a table of streams: the twin of windowing/loop.py.
#include "loop.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

namespace streamrde {

Loop::Loop(Layout layout, Partition partition, std::unique_ptr<Policy> policy, Order order, Kernel kernel,
           WordTable words, Tokens tokens, std::vector<double> fills)
    : Ordering(layout, partition, std::move(policy), order, kernel, std::move(words), std::move(tokens),
               std::move(fills)),
      simple_(!order_.holds() && !layout.flags() && policy_->features == 0) {}

Refusal Loop::push(double* rows, const std::int64_t* slots, const double* t, const double* x,
                   const std::ptrdiff_t* indices, std::ptrdiff_t count, bool drop, std::int64_t windows,
                   Outcome& outcome) {
    Scratch scratch = this->scratch();
    const std::int64_t own = windows == unbounded ? unbounded : windows_of_a_row;
    std::ptrdiff_t stop = 0;  // where the stream's rows end
    for (std::ptrdiff_t k = 0; k < count; ++k) {
        std::ptrdiff_t i = indices ? indices[k] : k;
        Stream stream{rows + slots[i] * layout_.width,
                      slots[i],
                      i,
                      outcome,
                      scratch.work.data(),
                      scratch.edges,
                      scratch.run,
                      scratch.factors,
                      {own, &windows}};
        if (indices) {
            if (k >= stop)
                for (stop = k + 1; stop < count && slots[indices[stop]] == stream.slot;) ++stop;
            k += push_plain(stream, t, x, indices + k, stop - k);
            if (k == stop) {
                --k;
                continue;
            }
            i = stream.cause = indices[k];
        }
        Refusal refusal = add(stream, t[i], x + i * layout_.channels);
        if (refusal.fault == Fault::none) {
            stream.row[refused] = 0;
            continue;
        }
        if (!drop && !(refusal.fault == Fault::duplicate && order_.duplicates != Duplicates::error)) {
            refusal.row = i;
            fold_run(scratch.run);
            return refusal;
        }
        const Column counter = refusal.fault == Fault::rejected ? rejected
                               : refusal.fault == Fault::late   ? late
                                                                : duplicate;
        stream.row[refused] += 1;
        if (order_.restart_after > 0 && refusal.fault == Fault::late &&
            stream.row[refused] >= static_cast<double>(order_.restart_after)) {
            restart(stream);
            add(stream, t[i], x + i * layout_.channels);
            stream.row[refused] = 0;
            refusal.fault = Fault::restarted;
        } else {
            stream.row[counter] += 1;
        }
        outcome.unused.push_back({i, static_cast<std::int64_t>(refusal.fault)});
    }
    fold_run(scratch.run);
    return {};
}

template <typename Work>
void Loop::share_out(double* rows, const std::int64_t* slots, std::ptrdiff_t count, std::int64_t windows,
                     std::int64_t share, Outcome& outcome, Work work) {
    Scratch scratch = this->scratch();
    std::int64_t none = 0;
    for (std::ptrdiff_t i = 0; i < count; ++i) {
        const std::int64_t own = windows < share ? windows : share;
        Stream stream{rows + slots[i] * layout_.width,
                      slots[i],
                      i,
                      outcome,
                      scratch.work.data(),
                      scratch.edges,
                      scratch.run,
                      scratch.factors,
                      {own, &none}};
        if (own == 0 || !work(stream)) outcome.owing.push_back(slots[i]);
        if (windows != unbounded) windows -= own - stream.budget.own;
    }
    fold_run(scratch.run);
}

void Loop::advance(double* rows, const std::int64_t* slots, const double* t, std::ptrdiff_t count, std::int64_t windows,
                   std::int64_t share, Outcome& outcome) {
    share_out(rows, slots, count, windows, share, outcome, [&](Stream& stream) {
        const double* row = stream.row;
        const double time = t[stream.cause];
        if (row[top] == -std::numeric_limits<double>::infinity() || row[paused] != 0) return true;
        if (Held* own = held_[stream.slot].get()) {
            release(stream, *own, time);
            complete(stream, *own, false);
            if (partition_.hold && own->pending.size() > 0) return false;
        }
        return order_.lateness_samples > 0 ||
               Walk::pass_time(stream, (row[top] > time ? row[top] : time) - order_.lateness);
    });
}

void Loop::flush(double* rows, const std::int64_t* slots, std::ptrdiff_t count, std::int64_t windows,
                 std::int64_t share, Outcome& outcome) {
    share_out(rows, slots, count, windows, share, outcome, [&](Stream& stream) {
        double* row = stream.row;
        if (Held* own = held_[stream.slot].get()) {
            end_intake(stream, *own);
            if (own->pending.size() > 0) return false;
        }
        if (row[started] != 0 && row[paused] == 0) {
            end_segment(stream);
            row[paused] = 1;
        }
        return true;
    });
}

void Loop::go_on(double* rows, const std::int64_t* slots, std::ptrdiff_t count, std::int64_t windows,
                 std::int64_t share, Outcome& outcome) {
    share_out(rows, slots, count, windows, share, outcome, [&](Stream& stream) {
        if (Held* own = held_[stream.slot].get()) complete(stream, *own, false);  // which says that it owes
        return true;
    });
}

void Loop::pass_time(double* rows, const std::int64_t* slots, const double* t, std::ptrdiff_t count, Outcome& outcome) {
    share_out(rows, slots, count, unbounded, unbounded, outcome,
              [&](Stream& stream) { return Walk::pass_time(stream, t[stream.cause]); });
}

void Loop::close(double* rows, const std::int64_t* slots, std::ptrdiff_t count, Outcome& outcome) {
    share_out(rows, slots, count, unbounded, unbounded, outcome, [&](Stream& stream) {
        end_segment(stream);
        return true;
    });
}
void Loop::end_intake(Stream& stream, Held& held) {
    while (held.waiting.size() > 0) pop(stream, held);
    complete(stream, held, true);
}

void Loop::restart(Stream& stream) {
    double* row = stream.row;
    if (held_[stream.slot]) {
        const std::int64_t own = stream.budget.own;
        stream.budget.own = unbounded;  // what it owes belongs to the segment that ends
        end_intake(stream, *held_[stream.slot]);
        stream.budget.own = own;
    }
    if (row[started] != 0 && row[paused] == 0) end_segment(stream);
    row[paused] = 1;
    row[ordered] = row[top] = -std::numeric_limits<double>::infinity();
}

std::vector<Loop::Saved> Loop::save(const double* rows, const std::int64_t* slots, std::ptrdiff_t count) const {
    std::vector<std::int64_t> touched(slots, slots + count);
    std::sort(touched.begin(), touched.end());
    touched.erase(std::unique(touched.begin(), touched.end()), touched.end());
    std::vector<Saved> saved;
    saved.reserve(touched.size());
    for (std::int64_t slot : touched) {
        const double* row = rows + slot * layout_.width;
        const Held* held = held_of(slot);
        saved.push_back({slot, {row, row + layout_.width}, held ? std::make_unique<Held>(*held) : nullptr});
    }
    return saved;
}

void Loop::put_back(double* rows, std::vector<Saved>& saved) {
    for (Saved& each : saved) {
        std::copy(each.row.begin(), each.row.end(), rows + each.slot * layout_.width);
        held_[each.slot] = std::move(each.held);
    }
}

}  // namespace streamrde
