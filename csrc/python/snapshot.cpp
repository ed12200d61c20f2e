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
constexpr int chains = 8;
constexpr Word odd_constant = 0x9E3779B97F4A7C15;

Word mixed(Word digest, Word word)
{
    digest = (digest ^ word) * odd_constant;
    return digest ^ (digest >> 32);
}

Word digest_of(const char* begin, uint64_t bytes, uint64_t step)
{
    std::array<Word, chains> digests{};
    const uint64_t words = bytes / sizeof(Word);
    const uint64_t stride = step / sizeof(Word);
    const auto word_of = [&](uint64_t index) {
        Word word;
        std::memcpy(&word, begin + index * sizeof(Word), sizeof(Word));
        return word;
    };
    uint64_t index = 0;
    for (; index + (chains - 1) * stride < words; index += chains * stride) {
        for (int chain = 0; chain < chains; ++chain) digests[chain] = mixed(digests[chain], word_of(index + chain * stride));
    }
    Word digest = bytes;
    for (const Word each : digests) digest = mixed(digest, each);
    for (; index < words; index += stride) digest = mixed(digest, word_of(index));
    if (const uint64_t rest = bytes % sizeof(Word)) {
        Word word = 0;
        std::memcpy(&word, begin + words * sizeof(Word), rest);
        digest = mixed(digest, word);
    }
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
        digest = mixed(digest, digest_of(reinterpret_cast<const char*>(region.address), region.bytes, region.step));
    }
    return digest;
}

PyObject* item(PyObject* tuple, Py_ssize_t index)
{
    return PyTuple_GET_ITEM(tuple, index);
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

// attributes: flattened (dict, name, object); None stands for no such name.
bool have(PyObject* attributes)
{
    for (Py_ssize_t index = 0; index < PyTuple_GET_SIZE(attributes); index += 3) {
        PyObject* const value = PyDict_GetItemWithError(item(attributes, index), item(attributes, index + 1));
        if (value == nullptr && PyErr_Occurred()) throw py::error_already_set();
        if ((value == nullptr ? Py_None : value) != item(attributes, index + 2)) return false;
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

Word word_at(PyObject* words, Py_ssize_t index)
{
    Word word;
    std::memcpy(&word, PyBytes_AS_STRING(words) + index * sizeof(Word), sizeof(Word));
    return word;
}

// tensor.name() for each tensor.
bool return_numbers(PyObject* tensors, PyObject* name, PyObject* expected)
{
    for (Py_ssize_t index = 0; index < PyTuple_GET_SIZE(tensors); ++index) {
        if (number(PyObject_CallMethodNoArgs(item(tensors, index), name)) != word_at(expected, index)) return false;
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

// A forward pass leaves nothing of all this in the near caches: fetched one by one, the lines cost most of the time.
void prefetch(PyObject* addresses, PyObject* dicts)
{
    const Py_ssize_t lines = PyBytes_GET_SIZE(addresses) / static_cast<Py_ssize_t>(sizeof(Word));
    for (Py_ssize_t index = 0; index < lines; ++index)
        __builtin_prefetch(reinterpret_cast<const void*>(word_at(addresses, index)));
    for (Py_ssize_t index = 0; index < PyTuple_GET_SIZE(dicts); ++index)
        __builtin_prefetch(reinterpret_cast<PyDictObject*>(item(dicts, index))->ma_keys);
}

// The fields of snapshot.State, in its order. Memory is read last: only then is it known to be the tensors' own.
bool unchanged(const py::tuple& state)
{
    static PyObject* const data_ptr = PyUnicode_InternFromString("data_ptr");
    static PyObject* const numel = PyUnicode_InternFromString("numel");
    static PyObject* const version = PyUnicode_InternFromString("_version");
    PyObject* const fields = state.ptr();
    prefetch(item(fields, 11), item(fields, 0));
    return hold(item(fields, 0), item(fields, 1)) && have(item(fields, 2)) && are_empty(item(fields, 3)) &&
           return_numbers(item(fields, 4), data_ptr, item(fields, 5)) &&
           have_numbers(item(fields, 6), version, item(fields, 7)) && return_numbers(item(fields, 6), numel, item(fields, 8)) &&
           memory_digest(py::reinterpret_borrow<py::bytes>(item(fields, 9))) == word_at(item(fields, 10), 0);
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
