#include "names.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <new>
#include <random>

namespace streamrde {
namespace {

// Names looked up at a time: the cells of all are fetched from memory before the first is read.
constexpr int batch = 16;

std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
    const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

std::uint64_t word(const char* at, std::size_t bytes) {
    std::uint64_t value = 0;
    if (bytes) std::memcpy(&value, at, bytes);  // the place of an empty name may be null
    return value;
}

}  // namespace

// Seeded: names come from outside, and nobody is to choose them so that they collide.
Names::Names() : cells_(16, Cell{0, -1}) {
    std::random_device random;
    for (std::uint64_t& part : seed_) part = (static_cast<std::uint64_t>(random()) << 32 | random()) | 1;
}

std::uint64_t Names::hash(std::string_view name) const {
    std::uint64_t state = seed_[0] ^ name.size();
    const char* at = name.data();
    std::size_t left = name.size();
    for (; left > 8; at += 8, left -= 8) state = mix(state ^ word(at, 8), seed_[1]);
    return mix(mix(state ^ word(at, left), seed_[1]), 0x9e3779b97f4a7c15u ^ seed_[0]);
}

// The cell of a name, or the empty one where it belongs.
std::size_t Names::cell_of(std::string_view name, std::uint64_t hashed) const {
    const std::size_t mask = cells_.size() - 1;
    const auto tag = static_cast<std::uint32_t>(hashed >> 32);
    std::size_t place = hashed & mask;
    while (cells_[place].slot >= 0 && (cells_[place].tag != tag || this->name(cells_[place].slot) != name))
        place = (place + 1) & mask;
    return place;
}

void Names::find(const std::int32_t* offsets, const char* data, std::ptrdiff_t count, std::int64_t* found) const {
    std::uint64_t hashes[batch];
    for (std::ptrdiff_t begin = 0; begin < count; begin += batch) {
        const std::ptrdiff_t size = std::min<std::ptrdiff_t>(batch, count - begin);
        const auto name = [&](std::ptrdiff_t i) -> std::string_view {
            const std::int32_t from = offsets[begin + i], to = offsets[begin + i + 1];
            return {data + from, static_cast<std::size_t>(to - from)};
        };
        const std::size_t mask = cells_.size() - 1;
        for (std::ptrdiff_t i = 0; i < size; ++i) {
            hashes[i] = hash(name(i));
            __builtin_prefetch(&cells_[hashes[i] & mask]);
        }
        for (std::ptrdiff_t i = 0; i < size; ++i) {
            const std::int32_t slot = cells_[hashes[i] & mask].slot;
            if (slot >= 0) __builtin_prefetch(&streams_[slot]);
        }
        for (std::ptrdiff_t i = 0; i < size; ++i) {
            const std::int32_t slot = cells_[hashes[i] & mask].slot;
            if (slot >= 0) __builtin_prefetch(arena_.data() + streams_[slot].at);
        }
        for (std::ptrdiff_t i = 0; i < size; ++i) found[begin + i] = cells_[cell_of(name(i), hashes[i])].slot;
    }
}

void Names::add(const std::int32_t* offsets, const char* data, std::ptrdiff_t count, std::int64_t* found,
                std::vector<std::int64_t>& added) {
    find(offsets, data, count, found);
    for (std::ptrdiff_t i = 0; i < count; ++i) {
        if (found[i] >= 0) continue;
        const std::string_view name(data + offsets[i], static_cast<std::size_t>(offsets[i + 1] - offsets[i]));
        const std::uint64_t hashed = hash(name);
        found[i] = cells_[cell_of(name, hashed)].slot;  // an earlier row may have added it
        if (found[i] >= 0) continue;
        found[i] = insert(name, hashed);
        added.push_back(found[i]);
    }
}

std::int64_t Names::insert(std::string_view name, std::uint64_t hashed) {
    if (2 * (static_cast<std::size_t>(live_) + 1) > cells_.size()) grow();
    std::int64_t slot = slots();
    if (!free_.empty()) {
        slot = free_.back();
        free_.pop_back();
    } else if (slot < std::numeric_limits<std::int32_t>::max()) {
        streams_.push_back({});
    } else {
        throw std::bad_alloc();
    }
    streams_[slot] = {static_cast<std::int64_t>(arena_.size()), turns_++, static_cast<std::int32_t>(name.size())};
    arena_.insert(arena_.end(), name.begin(), name.end());
    used_bytes_ += name.size();
    cells_[cell_of(name, hashed)] = {static_cast<std::uint32_t>(hashed >> 32), static_cast<std::int32_t>(slot)};
    ++live_;
    return slot;
}

void Names::release(std::int64_t slot) {
    const std::size_t mask = cells_.size() - 1;
    std::size_t gap = cell_of(name(slot), hash(name(slot)));
    // What comes behind moves up where that leaves it findable, so that no search ends too early.
    for (std::size_t next = (gap + 1) & mask; cells_[next].slot >= 0; next = (next + 1) & mask) {
        const std::size_t home = hash(name(cells_[next].slot)) & mask;
        if (((next - home) & mask) >= ((next - gap) & mask)) {
            cells_[gap] = cells_[next];
            gap = next;
        }
    }
    cells_[gap] = {0, -1};
    used_bytes_ -= streams_[slot].length;
    streams_[slot].length = -1;
    free_.push_back(static_cast<std::int32_t>(slot));
    --live_;
    if (arena_.size() > 4096 && used_bytes_ < arena_.size() / 2) compact();
}

void Names::grow() {
    std::vector<Cell> old(2 * cells_.size(), Cell{0, -1});
    old.swap(cells_);
    for (const Cell& cell : old) {
        if (cell.slot < 0) continue;
        const std::uint64_t hashed = hash(name(cell.slot));
        cells_[cell_of(name(cell.slot), hashed)] = cell;
    }
}

void Names::compact() {
    std::vector<char> arena;
    arena.reserve(used_bytes_);
    for (Stream& stream : streams_) {
        if (stream.length < 0) continue;
        const char* from = arena_.data() + stream.at;
        stream.at = static_cast<std::int64_t>(arena.size());
        arena.insert(arena.end(), from, from + stream.length);
    }
    arena_.swap(arena);
}

std::vector<std::int64_t> Names::in_order() const {
    std::vector<std::int64_t> live;
    live.reserve(live_);
    for (std::int64_t slot = 0; slot < slots(); ++slot)
        if (streams_[slot].length >= 0) live.push_back(slot);
    std::sort(live.begin(), live.end(),
              [this](std::int64_t a, std::int64_t b) { return streams_[a].turn < streams_[b].turn; });
    return live;
}

}  // namespace streamrde
