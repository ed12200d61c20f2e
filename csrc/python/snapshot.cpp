#include "python/snapshot.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace py = pybind11;
using namespace py::literals;

namespace {

// Bytes of a tensor that take part in the digest: a word at every step.
struct Region {
    uint64_t address, bytes, step;
};

using Word = uint64_t;

// Independent chains, so that one multiplication a cycle can start.
constexpr int chains = 4;
constexpr Word odd_constant = 0x9E3779B97F4A7C15;

// Both halves of the product of two words that are next to never zero.
Word mixed(Word digest, Word first, Word second)
{
    const auto product = static_cast<unsigned __int128>(digest ^ first) * (odd_constant ^ second);
    return static_cast<Word>(product) ^ static_cast<Word>(product >> 64);
}

// Digest of every step-th word, two at a time, and of the bytes behind the last whole word.
Word digest_of(const char* begin, uint64_t bytes, uint64_t step)
{
    const uint64_t whole = bytes / sizeof(Word) * sizeof(Word);
    const auto word_at = [&](uint64_t offset) {
        Word word;
        std::memcpy(&word, begin + offset, sizeof(Word));
        return word;
    };
    std::array<Word, chains> digests;
    for (int chain = 0; chain < chains; ++chain) digests[chain] = odd_constant * (2 * chain + 3);
    uint64_t offset = 0;
    const uint64_t pair = 2 * step;
    for (; offset + chains * pair <= whole; offset += chains * pair) {
        for (int chain = 0; chain < chains; ++chain) {
            const uint64_t first = offset + chain * pair;
            digests[chain] = mixed(digests[chain], word_at(first), word_at(first + step));
        }
    }
    for (; offset < whole; offset += step) digests[0] = mixed(digests[0], word_at(offset), 0);
    Word rest = 0;
    std::memcpy(&rest, begin + whole, bytes - whole);
    Word digest = mixed(odd_constant, bytes, rest);
    for (const Word each : digests) digest = mixed(digest, each, 0);
    return digest;
}

// So far ahead, and so many lines of each region: what follows them the processor fetches by itself.
constexpr size_t regions_ahead = 4;
constexpr uint64_t lines_ahead = 16;
constexpr uint64_t line_bytes = 64;

void prefetch(const Region& region)
{
    const uint64_t step = std::max(region.step, line_bytes);
    for (uint64_t line = 0; line < lines_ahead && line * step < region.bytes; ++line)
        __builtin_prefetch(reinterpret_cast<const char*>(region.address) + line * step);
}

Word memory_digest(const py::bytes& packed_regions)
{
    const auto bytes = static_cast<std::string_view>(packed_regions);
    const auto region_at = [&](size_t index) {
        Region region;
        std::memcpy(&region, bytes.data() + index * sizeof(Region), sizeof(Region));
        return region;
    };
    const size_t regions = bytes.size() / sizeof(Region);
    Word digest = 0;
    for (size_t index = 0; index < regions; ++index) {
        if (index + regions_ahead < regions) prefetch(region_at(index + regions_ahead));
        const Region region = region_at(index);
        digest = mixed(digest, digest_of(reinterpret_cast<const char*>(region.address), region.bytes, region.step), 0);
    }
    return digest;
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
void prefetch_keys(PyObject* dicts)
{
    for (Py_ssize_t index = 0; index < PyTuple_GET_SIZE(dicts); ++index) {
        const auto* keys = reinterpret_cast<const char*>(reinterpret_cast<PyDictObject*>(item(dicts, index))->ma_keys);
        __builtin_prefetch(keys);
        __builtin_prefetch(keys + line_bytes);
    }
}

void prefetch(PyObject* addresses)
{
    const Py_ssize_t lines = PyBytes_GET_SIZE(addresses) / static_cast<Py_ssize_t>(sizeof(Word));
    for (Py_ssize_t index = 0; index < lines; ++index)
        __builtin_prefetch(reinterpret_cast<const void*>(word_at(addresses, index)));
}

// The fields of snapshot.State, in its order. Memory is read last: only then is it known to be the tensors' own.
bool unchanged(const py::tuple& state)
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
        versions,
        regions,
        digest,
        lines
    };
    static PyObject* const version = PyUnicode_InternFromString("_version");
    const auto field = [&](int index) { return item(state.ptr(), index); };
    prefetch_keys(field(dicts));
    prefetch_keys(field(modules));
    prefetch(field(lines));
    return hold(field(dicts), field(contents)) && have_sizes(field(modules), field(module_sizes)) && have(field(attributes)) &&
           are_empty(field(empty_dicts)) && return_numbers(field(data_ptr), field(tensors), field(addresses)) &&
           return_numbers(field(numel), field(weights), field(sizes)) &&
           have_numbers(field(weights), version, field(versions)) &&
           memory_digest(py::reinterpret_borrow<py::bytes>(field(regions))) == word_at(field(digest), 0);
}

}  // namespace

void bind_snapshot(py::module_& module)
{
    module.def(
        "memory_digest", &memory_digest, "regions"_a,
        "Digest of memory: regions holds (address, bytes, step in bytes) as native uint64; a step is a multiple of 8. The "
        "addresses must be readable.");
    module.def("unchanged", &unchanged, "state"_a, "Whether everything that a snapshot.State recorded is still so.");
}
