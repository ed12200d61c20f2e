// Packed weights of 16 bits, which instruction sets take that few machines have: each value is looked up by where the format
// says it stands. For others the kernels' results show it. And what is said of packed weights that do not fit.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <set>
#include <string>
#include <type_traits>
#include <vector>

#include "block_cases.h"
#include "check.h"
#include "core/packed_header.h"
#include "cpu/isa/dispatch.h"
#include "operators.h"

namespace mnv2::test {
namespace {

constexpr PackLayout pack_layouts[] = {
    {Isa::scalar, 4, 2}, {Isa::avx2, 8, 2}, {Isa::avx512, 16, 2}, {Isa::neon, 4, 3}, {Isa::avx2, 8, 1},
};

// Where core/packing.h says that a weight is, counted from a panel's first one.
int64_t place_of_half(const PackLayout& layout, int64_t width, int64_t lane, int64_t k)
{
    if (layout.isa == Isa::neon_fp16) return k * width + lane;
    if (layout.isa == Isa::neon_bf16) return (k / 4 * width + lane) * 4 + k % 4;
    if (layout.isa == Isa::avx512_bf16) return (k / 2 * width + lane) * 2 + k % 2;
    const int64_t tile = k / 32 * 2 + lane / 16, row = k % 32 / 2;
    return tile * 512 + row * 32 + lane % 16 * 2 + k % 2;
}

// A head in the layouts of 16-bit arithmetic: float32 scales and biases, then the weights where core/packing.h says.
void check_halves(const PackLayout& layout, int64_t depth, int64_t channels)
{
    const HeadPoolParams params = head_of(depth, channels);
    const Scope scope(describe(params), ", ", name_of(layout.stored));
    Random random(1);
    const Convolution weights = rounded(random_weights(random, params), layout.stored);
    const std::vector<uint8_t> packed = pack(params, weights, layout);
    const int64_t vector = layout.vector_width, padded_depth = (depth + vector - 1) / vector * vector;
    const uint8_t* panel = packed.data() + header_bytes;
    for (int64_t first = 0; first < channels;) {
        int64_t width = vector;
        while (width < layout.panel_vectors * vector && width < channels - first) width += vector;
        const uint8_t* halves = panel + 2 * width * static_cast<int64_t>(sizeof(float));
        for (int64_t lane = 0; lane < width; ++lane) {
            const int64_t channel = first + lane;
            const bool real = channel < channels;
            const double scale = !real ? 0.0 : weights.scale.empty() ? 1.0 : weights.scale[static_cast<size_t>(channel)];
            CHECK_EQUAL(load_number(ScalarType::float32, panel, lane), scale);
            for (int64_t k = 0; k < padded_depth; ++k) {
                const int64_t at = place_of_half(layout, width, lane, k);
                const double expected = real && k < depth ? weights.weight[static_cast<size_t>(channel * depth + k)] : 0.0;
                CHECK_EQUAL(load_number(layout.stored, halves, at), expected);
            }
        }
        panel = halves + width * padded_depth * 2;
        first += width;
    }
    CHECK(panel == packed.data() + packed.size());
    CHECK_EQUAL(packed_mismatch(packed.data(), static_cast<int64_t>(packed.size()), params), "");
    CHECK(packed_layout(packed.data()).stored == layout.stored);
}

TEST(sixteen_bit_arithmetic_has_sixteen_bit_weights)
{
    for (const int64_t depth : {1, 3, 8, 17, 24, 70})
        for (const int64_t channels : {1, 8, 17, 24, 51}) {
            check_halves({Isa::neon_fp16, 8, 2, ScalarType::float16}, depth, channels);
            check_halves({Isa::neon_bf16, 4, 2, ScalarType::bfloat16}, depth, channels);
            check_halves({Isa::avx512_bf16, 16, 2, ScalarType::bfloat16}, depth, channels);
            check_halves({Isa::amx_bf16, 32, 1, ScalarType::bfloat16}, depth, channels);
        }
}

InvertedResidualParams with_gate(InvertedResidualParams params, int64_t squeezed_channels)
{
    params.kernel = 5;
    params.squeezed_channels = squeezed_channels;
    return params;
}

TEST(packing_writes_within_its_bytes)
{
    const InvertedResidualParams plain = block({1, 1}, 3, 17, 5);
    for (const InvertedResidualParams& params : {plain, with_gate(plain, 3)}) {
        Random random(1);
        const BlockWeights weights = random_weights(random, params);
        for (const PackLayout& layout : pack_layouts)
            for (const Placement placement : placements) {
                const std::vector<uint8_t> expected = pack(params, weights, layout);
                const GuardedBuffer packed(expected.size(), placement);
                pack_block(params, weights.views(), layout, packed.data());
                CHECK(std::memcmp(packed.data(), expected.data(), expected.size()) == 0);
            }
    }
}

// A pointwise layer, whose packed values end where they should.
void check_pointwise(const std::vector<uint8_t>& block_bytes, int64_t offset, int64_t end, const Convolution& layer,
                     int64_t depth, int64_t channels, const PackLayout& layout)
{
    const HeadPoolParams alone = head_of(depth, channels);
    const std::vector<uint8_t> expected = pack(alone, layer, layout);
    const auto floats = static_cast<size_t>(end - offset) * sizeof(float);
    CHECK_EQUAL(floats, expected.size() - static_cast<size_t>(header_bytes));
    CHECK(std::memcmp(packed_values(block_bytes.data()) + offset, packed_values(expected.data()), floats) == 0);
}

TEST(a_gate_is_two_pointwise_layers_behind_the_project)
{
    const InvertedResidualParams params = with_gate(block({1, 1}, 3, 51, 5), 13);
    Random random(1);
    const BlockWeights weights = random_weights(random, params);
    for (const PackLayout& layout : pack_layouts) {
        const std::vector<uint8_t> packed = pack(params, weights, layout);
        const BlockOffsets at = block_offsets(params, layout);
        check_pointwise(packed, at.project, at.squeeze, weights.project, 51, 5, layout);
        check_pointwise(packed, at.squeeze, at.excite, weights.squeeze, 51, 13, layout);
        check_pointwise(packed, at.excite, at.end, weights.excite, 13, 51, layout);
    }
}

constexpr PackLayout avx2_layout = {Isa::avx2, 8, 2};

template <class Params>
std::vector<uint8_t> packed_for(const Params& params)
{
    Random random(1);
    return pack(params, random_weights(random, params), avx2_layout);
}

template <class Params>
std::string mismatch_of(const std::vector<uint8_t>& packed, const Params& params)
{
    return packed_mismatch(packed.data(), static_cast<int64_t>(packed.size()), params);
}

TEST(a_mismatch_names_what_was_expected_and_what_came)
{
    const InvertedResidualParams params = block({1, 1}, 3, 17, 5);
    const std::vector<uint8_t> packed = packed_for(params);
    CHECK_EQUAL(mismatch_of(packed, block({1, 1}, 4, 17, 5)),
                "expected weights of a block with channels 4 -> 17 -> 5, got a block with channels 3 -> 17 -> 5");
    CHECK_EQUAL(mismatch_of(packed, stem_of(3, 5)),
                "expected weights of a stem with channels 3 -> 5, got a block with channels 3 -> 17 -> 5");
    StemParams of_bytes = stem_of(3, 5);
    of_bytes.bytes_as = ScalarType::float32;
    CHECK_EQUAL(mismatch_of(packed_for(stem_of(3, 5)), of_bytes),
                "expected weights of a stem with channels 3 -> 5, image of bytes, got a stem with channels 3 -> 5");
    CHECK_EQUAL(mismatch_of(packed_for(stem_of(3, 5)), head_of(3, 5)),
                "expected weights of a head with channels 3 -> 5, got a stem with channels 3 -> 5");
    CHECK_EQUAL(mismatch_of(packed_for(block({1, 1}, 17, 17, 5)), without_expand(block({1, 1}, 17, 0, 5))),
                "expected weights of a block with channels 17 -> (no expand) 17 -> 5, got a block with channels 17 -> 17 -> 5");
    CHECK_EQUAL(
        mismatch_of(packed, with_gate(params, 4)),
        "expected weights of a block with channels 3 -> 17 -> 5, kernel 5, gate of 4, got a block with channels 3 -> 17 "
        "-> 5");
}

// Options that do not change the weights do not change which blocks they serve.
TEST(a_mismatch_is_blind_to_image_and_options)
{
    InvertedResidualParams params = block({1, 1}, 17, 24, 17);
    const std::vector<uint8_t> packed = packed_for(params);
    params.batch = 3;
    params.height = 14;
    params.stride = 2;
    params.padding = {0, 0, 1, 1};
    params.activation = Activation::none;
    CHECK_EQUAL(mismatch_of(packed, params), "");
    params.stride = 1;
    params.has_residual = true;
    CHECK_EQUAL(mismatch_of(packed, params), "");
}

TEST(a_mismatch_of_size)
{
    const InvertedResidualParams params = block({1, 1}, 3, 17, 5);
    std::vector<uint8_t> packed = packed_for(params);
    const size_t right = packed.size();
    packed.push_back(0);
    CHECK_EQUAL(mismatch_of(packed, params), join("expected ", right, " bytes, got ", packed.size()));
    packed.resize(packed.size() - 5);
    CHECK_EQUAL(mismatch_of(packed, params), join("expected ", right, " bytes, got ", packed.size()));
    for (const size_t bytes : {size_t{0}, size_t{1}, size_t{63}}) {
        packed.resize(bytes);
        const GuardedBuffer guarded(packed, Placement::ends_at_guard);
        CHECK_EQUAL(packed_mismatch(guarded.data(), static_cast<int64_t>(bytes), params),
                    join("expected packed weights, got ", bytes, " bytes"));
    }
}

// Magic, kind, instruction set, vector width, expand and channels; not the other options. Odd channels, so that another width
// is another size.
TEST(a_damaged_header)
{
    constexpr size_t options = offsetof(PackedHeader, options), channels = offsetof(PackedHeader, in_channels);
    const InvertedResidualParams params = block({1, 1}, 3, 17, 5);
    const std::vector<uint8_t> packed = packed_for(params);
    for (size_t byte = 0; byte < sizeof(PackedHeader); ++byte)
        for (int bit = 0; bit < 8; ++bit) {
            if (byte >= options && byte < channels && byte != options + offsetof(PackedOptions, has_expand)) continue;
            const Scope scope("byte ", byte, ", bit ", bit);
            std::vector<uint8_t> damaged = packed;
            damaged[byte] = static_cast<uint8_t>(damaged[byte] ^ 1 << bit);
            CHECK(!mismatch_of(damaged, params).empty());
        }
}

TEST(bytes_of_another_format)
{
    const InvertedResidualParams params = block({1, 1}, 3, 17, 5);
    for (const uint8_t byte : {0x00, 0x3f, 0xff}) {
        const std::vector<uint8_t> foreign(packed_for(params).size(), byte);
        CHECK_EQUAL(mismatch_of(foreign, params), "expected packed weights, got bytes of another format");
    }
}

}  // namespace
}  // namespace mnv2::test
