#include "python/snapshot.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace py = pybind11;
using namespace py::literals;

namespace {

// Memory that takes part in a digest: `count` pieces of `bytes` each. Piece i begins i * step after the first, and
// i * columns / count (rounded down) pieces to the right of that: with steps of a row and more than one column, on a matrix's
// diagonal.
struct Region {
    uint64_t address, bytes, step, count, columns;
};

using Word = uint64_t;

constexpr Word odd_constant = 0x9E3779B97F4A7C15;

// Both halves of the product of two words that are next to never zero.
Word mixed(Word digest, Word first, Word second)
{
    const auto product = static_cast<unsigned __int128>(digest ^ first) * (odd_constant ^ second);
    return static_cast<Word>(product) ^ static_cast<Word>(product >> 64);
}

constexpr uint64_t pair_bytes = 2 * sizeof(Word);
constexpr uint64_t line_bytes = 64;

// Digest of pairs of words in their order. The chains are independent, so that a multiplication need not wait for the last.
class Digest {
public:
    static constexpr uint64_t chains = line_bytes / pair_bytes;

    Digest()
    {
        for (uint64_t chain = 0; chain < chains; ++chain) chains_[chain] = odd_constant * (2 * chain + 3);
    }

    void add_pair(uint64_t chain, const char* pair)
    {
        std::array<Word, 2> words;
        std::memcpy(words.data(), pair, pair_bytes);
        chains_[chain] = mixed(chains_[chain], words[0], words[1]);
    }

    void add_line(const char* line)
    {
        for (uint64_t chain = 0; chain < chains; ++chain) add_pair(chain, line + chain * pair_bytes);
    }

    // Less than a line; zeros fill up its last pair.
    void add_rest(const char* rest, uint64_t bytes)
    {
        std::array<char, line_bytes> line{};
        std::memcpy(line.data(), rest, bytes);
        for (uint64_t offset = 0; offset < bytes; offset += pair_bytes) add_pair(0, line.data() + offset);
    }

    Word value() const
    {
        Word digest = 0;
        for (const Word chain : chains_) digest = mixed(digest, chain, 0);
        return digest;
    }

private:
    std::array<Word, chains> chains_;
};

// Fetches into the second-level cache, which takes less time than into the first. One line at a time between work on others
// takes two thirds of the time of many at once (NOTES.md).
void fetch(const void* line)
{
    __builtin_prefetch(line, 0, 2);
}

const char* begin_of(const Region& region)
{
    return reinterpret_cast<const char*>(region.address);
}

// The start of a later region: the processor fetches the rest by itself.
constexpr uint64_t fetched_bytes = 1024;

// A region of one piece; meanwhile fetches the beginning of a later one.
void add_whole(Digest& digest, const Region& region, const Region& later)
{
    const char* const begin = begin_of(region);
    uint64_t offset = 0;
    for (; offset + line_bytes <= region.bytes; offset += line_bytes) {
        if (offset < later.bytes) fetch(begin_of(later) + offset);
        digest.add_line(begin + offset);
    }
    if (offset < region.bytes) digest.add_rest(begin + offset, region.bytes - offset);
    for (; offset < std::min(fetched_bytes, later.bytes); offset += line_bytes) fetch(begin_of(later) + offset);
}

// Goes from piece to piece without a division; columns <= count.
class Piece {
public:
    explicit Piece(const Region& region) : region_(region), begin_(begin_of(region)) {}

    const char* begin() const { return begin_; }

    void advance()
    {
        rest_ += region_.columns;
        const bool to_next_column = rest_ >= region_.count;
        rest_ -= to_next_column * region_.count;
        begin_ += region_.step + to_next_column * region_.bytes;
    }

private:
    const Region& region_;
    const char* begin_;
    uint64_t rest_ = 0;
};

// The processor does not foresee steps of this size.
constexpr uint64_t pieces_ahead = 64;

void add_pieces(Digest& digest, const Region& region)
{
    Piece ahead(region);
    uint64_t fetched = 0;
    const auto fetch_next = [&] {
        if (fetched == region.count) return;
        ++fetched;
        fetch(ahead.begin());
        ahead.advance();
    };
    for (uint64_t piece = 0; piece < std::min(pieces_ahead, region.count); ++piece) fetch_next();
    Piece piece(region);
    for (uint64_t index = 0; index < region.count; ++index, piece.advance()) {
        fetch_next();
        if (region.bytes == pair_bytes) {
            digest.add_pair(index % Digest::chains, piece.begin());
        } else {
            add_whole(digest, {reinterpret_cast<uint64_t>(piece.begin()), region.bytes, 0, 1, 1}, {});
        }
    }
}

constexpr size_t regions_ahead = 2;

Word memory_digest(const py::bytes& packed_regions)
{
    const auto bytes = static_cast<std::string_view>(packed_regions);
    const size_t regions = bytes.size() / sizeof(Region);
    const auto region_at = [&](size_t index) {
        Region region{};
        if (index < regions) std::memcpy(&region, bytes.data() + index * sizeof(Region), sizeof(Region));
        return region;
    };
    Digest digest;
    for (size_t index = 0; index < regions; ++index) {
        const Region region = region_at(index);
        region.count == 1 ? add_whole(digest, region, region_at(index + regions_ahead)) : add_pieces(digest, region);
    }
    return digest.value();
}

PyObject* item(PyObject* tuple, Py_ssize_t index)
{
    return PyTuple_GET_ITEM(tuple, index);
}

Word word_at(PyObject* words, Py_ssize_t index)
{
    Word word;
    std::memcpy(&word, PyBytes_AS_STRING(words) + index * sizeof(Word), sizeof(Word));
    return word;
}

// Each dict holds just these objects, in this order.
bool hold(PyObject* dicts, PyObject* contents)
{
    for (Py_ssize_t index = 0; index < PyTuple_GET_SIZE(dicts); ++index) {
        PyObject* const dict = item(dicts, index);
        PyObject* const values = item(contents, index);
        if (PyDict_GET_SIZE(dict) != PyTuple_GET_SIZE(values)) return false;
        PyObject* value;
        for (Py_ssize_t position = 0, which = 0; PyDict_Next(dict, &position, nullptr, &value); ++which) {
            if (value != item(values, which)) return false;
        }
    }
    return true;
}

// The size of each dict: an attribute that a module did not have would make it larger.
bool have_sizes(PyObject* dicts, PyObject* sizes)
{
    for (Py_ssize_t index = 0; index < PyTuple_GET_SIZE(dicts); ++index) {
        if (static_cast<Word>(PyDict_GET_SIZE(item(dicts, index))) != word_at(sizes, index)) return false;
    }
    return true;
}

// attributes: flattened (dict, name, object).
bool have(PyObject* attributes)
{
    for (Py_ssize_t index = 0; index < PyTuple_GET_SIZE(attributes); index += 3) {
        PyObject* const value = PyDict_GetItemWithError(item(attributes, index), item(attributes, index + 1));
        if (value == nullptr && PyErr_Occurred()) throw py::error_already_set();
        if (value != item(attributes, index + 2)) return false;
    }
    return true;
}

bool are_empty(PyObject* dicts)
{
    for (Py_ssize_t index = 0; index < PyTuple_GET_SIZE(dicts); ++index) {
        if (PyDict_GET_SIZE(item(dicts, index)) != 0) return false;
    }
    return true;
}

// Owns what a call into Python returned; an error there passes on.
Word number(PyObject* result)
{
    const auto owned = py::reinterpret_steal<py::object>(result);
    if (!owned) throw py::error_already_set();
    return PyLong_AsUnsignedLongLongMask(owned.ptr());
}

// method(tensor) for each tensor.
bool return_numbers(PyObject* method, PyObject* tensors, PyObject* expected)
{
    for (Py_ssize_t index = 0; index < PyTuple_GET_SIZE(tensors); ++index) {
        if (number(PyObject_CallOneArg(method, item(tensors, index))) != word_at(expected, index)) return false;
    }
    return true;
}

// tensor.name for each tensor.
bool have_numbers(PyObject* tensors, PyObject* name, PyObject* expected)
{
    for (Py_ssize_t index = 0; index < PyTuple_GET_SIZE(tensors); ++index) {
        if (number(PyObject_GetAttr(item(tensors, index), name)) != word_at(expected, index)) return false;
    }
    return true;
}

// A forward pass leaves nothing of all this in the near caches, and most of it is found by way of another line. Fetched
// together instead of one after the other, the lines of tensors alone save a fifth of the time.
void fetch_all(PyObject* addresses)
{
    const Py_ssize_t lines = PyBytes_GET_SIZE(addresses) / static_cast<Py_ssize_t>(sizeof(Word));
    for (Py_ssize_t index = 0; index < lines; ++index) fetch(reinterpret_cast<const void*>(word_at(addresses, index)));
}

bool has_digest(PyObject* regions, Word expected)
{
    return memory_digest(py::reinterpret_borrow<py::bytes>(regions)) == expected;
}

// One of the rounds, each of them in turn from look to look.
bool has_round(PyObject* rounds, PyObject* digests, uint64_t look)
{
    const Py_ssize_t count = PyTuple_GET_SIZE(rounds);
    if (count == 0) return true;
    const auto round = static_cast<Py_ssize_t>(look % static_cast<uint64_t>(count));
    return has_digest(item(rounds, round), word_at(digests, round));
}

// The fields of snapshot.State, in its order. Memory is read last: only then is it known to be the tensors' own.
bool unchanged(const py::tuple& state, uint64_t look)
{
    enum {
        dicts,
        contents,
        modules,
        module_sizes,
        attributes,
        empty_dicts,
        data_ptr,
        tensors,
        addresses,
        numel,
        weights,
        sizes,
        sampled,
        versions,
        regions,
        digest,
        rounds,
        round_digests,
        lines
    };
    static PyObject* const version = PyUnicode_InternFromString("_version");
    const auto field = [&](int index) { return item(state.ptr(), index); };
    fetch_all(field(lines));
    return hold(field(dicts), field(contents)) && have_sizes(field(modules), field(module_sizes)) && have(field(attributes)) &&
           are_empty(field(empty_dicts)) && return_numbers(field(data_ptr), field(tensors), field(addresses)) &&
           return_numbers(field(numel), field(weights), field(sizes)) &&
           have_numbers(field(sampled), version, field(versions)) && has_digest(field(regions), word_at(field(digest), 0)) &&
           has_round(field(rounds), field(round_digests), look);
}

}  // namespace

void bind_snapshot(py::module_& module)
{
    module.def(
        "memory_digest", &memory_digest, "regions"_a,
        "Digest of memory: regions holds (address, bytes, step in bytes, count, columns) as native uint64: count pieces of "
        "bytes each, piece i at address + i * step + (i * columns // count) * bytes. All of it must be readable.");
    module.def("unchanged", &unchanged, "state"_a, "look"_a,
               "Whether everything that a snapshot.State recorded is still so. Looks count up from 0: each takes one round.");
}
