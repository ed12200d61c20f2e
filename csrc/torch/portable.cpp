#include "torch/portable.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "core/recent.h"
#include "torch/allocate.h"
#include "torch/checks.h"

namespace mnv2::ops {
namespace {

// Bytes that no other tensor starts with by accident; the last one is the format's version.
constexpr std::array<char, 8> portable_magic = {'m', 'n', 'v', '2', 'a', 'n', 'y', '\2'};

// Tells weights apart, and finds damage; no protection from whoever makes a collision.
using Digest = std::array<uint64_t, 2>;

// Both in the byte order of x86 and ARM. A weight's position counts from the buffer's begin.
struct PortableHeader {
    std::array<char, 8> magic;
    uint64_t bytes;  // of the whole buffer
    Digest digest;   // of what follows the header
    uint64_t weights;
};

enum class PortableType : int32_t { none, float32, float16, bfloat16, int8, uint8 };

constexpr size_t most_dims = 4;

struct PortableWeight {
    PortableType type;  // none: there is no tensor in this place
    int32_t dims;
    std::array<int64_t, most_dims> sizes;
    int64_t position;
};

// Where a tensor of torch's begins in memory, too.
constexpr int64_t portable_alignment = 64;

struct TypeRow {
    PortableType type;
    int32_t dtype;
    torch::headeronly::ScalarType torch_type;
    int64_t bytes;
};

const std::array<TypeRow, 5>& type_rows()
{
    using torch::headeronly::ScalarType;
    static const std::array<TypeRow, 5> rows{{
        {PortableType::float32, aoti_torch_dtype_float32(), ScalarType::Float, 4},
        {PortableType::float16, aoti_torch_dtype_float16(), ScalarType::Half, 2},
        {PortableType::bfloat16, aoti_torch_dtype_bfloat16(), ScalarType::BFloat16, 2},
        {PortableType::int8, aoti_torch_dtype_int8(), ScalarType::Char, 1},
        {PortableType::uint8, aoti_torch_dtype_uint8(), ScalarType::Byte, 1},
    }};
    return rows;
}

int64_t round_up_to_alignment(int64_t bytes)
{
    return (bytes + portable_alignment - 1) / portable_alignment * portable_alignment;
}

// Eight bytes at a time. A product carries a word's low bits upwards, and the rotation brings its high bits, floats' signs,
// down to where the next product spreads them: without it a few flipped signs cancel.
Digest digest_of(const char* bytes, uint64_t count)
{
    constexpr uint64_t golden_ratio = 0x9e3779b97f4a7c15, pi = 0x243f6a8885a308d3;  // odd, and without pattern
    Digest digest = {count, ~count};
    while (count > 0) {
        uint64_t word = 0;
        const uint64_t taken = std::min<uint64_t>(count, sizeof word);
        std::memcpy(&word, bytes, taken);
        digest = {std::rotl((digest[0] ^ word) * golden_ratio, 29), std::rotl((digest[1] ^ word) * pi, 37)};
        bytes += taken;
        count -= taken;
    }
    return digest;
}

PortableWeight describe(const Tensor& tensor)
{
    const auto row = std::find_if(type_rows().begin(), type_rows().end(),
                                  [dtype = dtype_of(tensor)](const TypeRow& each) { return each.dtype == dtype; });
    const auto sizes = tensor.sizes();
    PortableWeight weight{row->type, static_cast<int32_t>(sizes.size()), {}, 0};
    std::copy(sizes.begin(), sizes.end(), weight.sizes.begin());
    return weight;
}

class Reader {
public:
    Reader(const char* op, const Tensor& portable)
        : argument_{op, "packed"}, data_(static_cast<const char*>(portable.const_data_ptr())), bytes_(portable.numel())
    {
        std::memcpy(&header_, data_, sizeof header_);
    }

    // Views of the buffer, which do not keep it.
    OptionalTensors weights() const
    {
        const uint64_t most = (bytes_ - sizeof header_) / sizeof(PortableWeight);
        if (header_.bytes != static_cast<uint64_t>(bytes_) || header_.weights > most ||
            digest_of(data_ + sizeof header_, bytes_ - sizeof header_) != header_.digest)
            refuse_bytes();
        OptionalTensors weights;
        for (uint64_t index = 0; index < header_.weights; ++index) {
            PortableWeight weight;
            std::memcpy(&weight, data_ + sizeof header_ + index * sizeof weight, sizeof weight);
            weights.push_back(view_of(weight));
        }
        return weights;
    }

private:
    [[noreturn]] void refuse_bytes() const { refuse(argument_, "the bytes of portable weights as pack wrote them", "others"); }

    OptionalTensor view_of(const PortableWeight& weight) const
    {
        if (weight.type == PortableType::none) return std::nullopt;
        const auto row =
            std::find_if(type_rows().begin(), type_rows().end(), [&](const TypeRow& each) { return each.type == weight.type; });
        if (row == type_rows().end() || weight.dims < 0 || weight.dims > static_cast<int32_t>(most_dims)) refuse_bytes();
        const Integers sizes(weight.sizes.begin(), weight.sizes.begin() + weight.dims);
        Integers strides(sizes.size());
        int64_t end = row->bytes;  // of what a stride passes over, then of the weight in the buffer
        for (size_t dim = sizes.size(); dim-- > 0;) {
            strides[dim] = end / row->bytes;
            if (sizes[dim] < 1 || __builtin_mul_overflow(end, sizes[dim], &end)) refuse_bytes();
        }
        if (weight.position < 0 || __builtin_add_overflow(end, weight.position, &end) || end > bytes_) refuse_bytes();
        return torch::stable::from_blob(const_cast<char*>(data_) + weight.position, sizes, strides,
                                        torch::stable::Device(torch::headeronly::DeviceType::CPU), row->torch_type);
    }

    Argument argument_;
    const char* data_;
    int64_t bytes_;
    PortableHeader header_;
};

// Packed for this machine, and what is found again.
struct PackedHere {
    PortableHeader header;
    std::string layers;
    Tensor packed;

    bool serves(const Tensor& portable, const std::string& of) const
    {
        return portable.numel() == static_cast<int64_t>(header.bytes) &&
               std::memcmp(portable.const_data_ptr(), &header, sizeof header) == 0 && of == layers;
    }
};

}  // namespace

Tensor to_portable(const char* op, const OptionalTensors& weights)
{
    std::vector<PortableWeight> described(weights.size());
    OptionalTensors contiguous(weights.size());
    const auto table_bytes = static_cast<int64_t>(described.size() * sizeof(PortableWeight));
    int64_t bytes = round_up_to_alignment(static_cast<int64_t>(sizeof(PortableHeader)) + table_bytes);
    for (size_t index = 0; index < weights.size(); ++index) {
        if (!weights[index]) continue;
        contiguous[index] = torch::stable::contiguous(*weights[index]);
        described[index] = describe(*contiguous[index]);
        described[index].position = bytes;
        bytes = round_up_to_alignment(bytes + contiguous[index]->numel() * contiguous[index]->element_size());
    }
    Tensor portable = allocate_bytes(op, bytes, first_weight(op, weights));
    auto* const to = static_cast<char*>(portable.mutable_data_ptr());
    std::fill_n(to, bytes, '\0');
    char* const table = to + sizeof(PortableHeader);
    std::memcpy(table, described.data(), static_cast<size_t>(table_bytes));
    for (size_t index = 0; index < weights.size(); ++index) {
        if (!contiguous[index]) continue;
        std::memcpy(to + described[index].position, contiguous[index]->const_data_ptr(),
                    contiguous[index]->numel() * contiguous[index]->element_size());
    }
    const PortableHeader header{portable_magic, static_cast<uint64_t>(bytes), digest_of(table, bytes - sizeof(PortableHeader)),
                                weights.size()};
    std::memcpy(to, &header, sizeof header);
    return portable;
}

bool is_portable(const Tensor& packed)
{
    if (!packed.defined() || device_of(packed) != cpu_device() || dtype_of(packed) != aoti_torch_dtype_uint8()) return false;
    if (packed.dim() != 1 || packed.numel() < static_cast<int64_t>(sizeof(PortableHeader)) || !packed.is_contiguous())
        return false;
    return std::memcmp(packed.const_data_ptr(), portable_magic.data(), portable_magic.size()) == 0;
}

Tensor packed_here(const char* op, const Tensor& portable, const std::string& layers, const PackWeights& pack)
{
    constexpr size_t most_kept = 32;  // a process that serves more networks than these packs weights in its calls
    static Recent<PackedHere> recent(most_kept);
    const auto serves = [&](const PackedHere& kept) { return kept.serves(portable, layers); };
    const auto make = [&] {
        PackedHere made{{}, layers, pack(Reader(op, portable).weights())};
        std::memcpy(&made.header, portable.const_data_ptr(), sizeof made.header);
        return made;
    };
    return recent.find(serves, make)->packed;
}

}  // namespace mnv2::ops
