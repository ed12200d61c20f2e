// What is said of packed weights that do not fit. Where the format puts each value, the kernels' results show.
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

TEST(packing_writes_within_its_bytes)
{
    const InvertedResidualParams params = block({1, 1}, 3, 17, 5);
    Random random(1);
    const BlockWeights weights = random_weights(random, params);
    for (const PackLayout& layout : pack_layouts)
        for (const Placement placement : placements) {
            const std::vector<uint8_t> expected = pack(params, weights, layout);
            const GuardedBuffer packed(expected.size(), placement);
            pack_block(params, weights.expand.view(), weights.depthwise.view(), weights.project.view(), layout, packed.data());
            CHECK(std::memcmp(packed.data(), expected.data(), expected.size()) == 0);
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
    CHECK_EQUAL(mismatch_of(packed_for(stem_of(3, 5)), head_of(3, 5)),
                "expected weights of a head with channels 3 -> 5, got a stem with channels 3 -> 5");
    CHECK_EQUAL(mismatch_of(packed_for(block({1, 1}, 17, 17, 5)), without_expand(block({1, 1}, 17, 0, 5))),
                "expected weights of a block with channels 17 -> (no expand) 17 -> 5, got a block with channels 17 -> 17 -> 5");
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
