// The pair product, Winograd's inner product of 1968: two depths at a time,
//
//     a1 w1 + a2 w2 = (a1 + w2)(a2 + w1) - a1 a2 - w1 w2,
//
// one multiply-add and two additions in the place of two multiply-adds, for cores whose additions have ports of their own.
// Sums of a1 a2 belong to a pixel, sums of w1 w2 to an output channel: each is computed once and added to many results.
//
// What keeps it accurate: each pixel and each channel is scaled by a power of two, so that a and w are near 1, since digits are
// lost where one of them is much larger than the other; every other pair has opposite signs, (a1 - w2)(w1 - a2), so that what
// the a1 a2 have in common cancels; and the sums of pairs are of runs as short as those of the products.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace mnv2 {

// Which layers may take it: expands and heads that pass a test when they are packed; or those and projects, untested. Never a
// stem or a linear layer.
enum class PairProduct : int8_t { off, safe, all };

constexpr const char* pair_product_name(PairProduct pairs)
{
    switch (pairs) {
        case PairProduct::safe: return "safe";
        case PairProduct::all: return "all";
        case PairProduct::off: break;
    }
    return "off";
}

constexpr std::optional<PairProduct> pair_product_named(std::string_view name)
{
    for (const PairProduct pairs : {PairProduct::off, PairProduct::safe, PairProduct::all})
        if (name == pair_product_name(pairs)) return pairs;
    return std::nullopt;
}

constexpr const char* expected_pair_products = "\"off\", \"safe\" or \"all\"";

// Depths go in groups of eight: three pairs and two single ones, then two pairs and four. Of sixteen depths that makes 11
// multiply-adds and 10 additions, which fill both kinds of ports. What does not fill a group is single.
constexpr int64_t pair_group = 8;
constexpr int64_t pairs_of_group(int64_t group)
{
    return group % 2 == 0 ? 3 : 2;
}

// Whether depth k is the first one of a pair.
constexpr bool starts_pair(int64_t k, int64_t depth)
{
    const int64_t group = k / pair_group, position = k % pair_group;
    return position % 2 == 0 && position < 2 * pairs_of_group(group) && (group + 1) * pair_group <= depth;
}

// Whether the pair that starts at depth k has opposite signs.
constexpr bool is_opposite_pair(int64_t k)
{
    return (k / pair_group + k % pair_group / 2) % 2 == 1;
}

// Mean squares outside of these are left to the plain product: their scales could overflow on the way.
constexpr float least_mean_square = 0x1p-80f, largest_mean_square = 0x1p80f;

}  // namespace mnv2
