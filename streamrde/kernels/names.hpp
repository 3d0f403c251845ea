// Names of live streams and the slots they have: a hash table over an arena of bytes, some 50 bytes a stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace streamrde {

class Names {
public:
    Names();

    std::ptrdiff_t size() const { return live_; }
    // Slots that there are, live and free.
    std::ptrdiff_t slots() const { return static_cast<std::ptrdiff_t>(streams_.size()); }

    // Slots of names, -1 where there is none. Name i is the bytes offsets[i] to offsets[i + 1] of `data`.
    void find(const std::int32_t* offsets, const char* data, std::ptrdiff_t count, std::int64_t* found) const;
    // The same with slots for the names that had none, which are appended to `added` in order of their first row.
    void add(const std::int32_t* offsets, const char* data, std::ptrdiff_t count, std::int64_t* found,
             std::vector<std::int64_t>& added);
    void release(std::int64_t slot);

    bool is_live(std::int64_t slot) const { return slot >= 0 && slot < slots() && streams_[slot].length >= 0; }
    std::string_view name(std::int64_t slot) const {
        return {arena_.data() + streams_[slot].at, static_cast<std::size_t>(streams_[slot].length)};
    }
    // Live slots in the order in which they began.
    std::vector<std::int64_t> in_order() const;

private:
    struct Stream {
        std::int64_t at;      // of its name in the arena
        std::int64_t turn;    // the how-manieth to begin
        std::int32_t length;  // of its name; -1: the slot is free
    };
    struct Cell {
        std::uint32_t tag;  // of the hash
        std::int32_t slot;  // -1: empty
    };

    std::uint64_t hash(std::string_view name) const;
    std::size_t cell_of(std::string_view name, std::uint64_t hashed) const;
    std::int64_t insert(std::string_view name, std::uint64_t hashed);
    void grow();
    void compact();

    std::uint64_t seed_[2];
    std::vector<Cell> cells_;  // a power of two, at most half of them used
    std::vector<Stream> streams_;
    std::vector<std::int32_t> free_;
    std::vector<char> arena_;
    std::ptrdiff_t live_ = 0;
    std::int64_t turns_ = 0;
    std::size_t used_bytes_ = 0;  // of the arena, by live streams
};

}  // namespace streamrde
