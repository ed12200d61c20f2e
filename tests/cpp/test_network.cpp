// A packed network: the bits of its layers one after the other, and what is said of layers and bytes that are none.
#include <atomic>
#include <cstdint>
#include <cstring>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "block_cases.h"
#include "check.h"
#include "core/network.h"
#include "core/packed_header.h"
#include "core/recent.h"
#include "cpu/run/network.h"
#include "isas.h"
#include "operators.h"
#include "threads.h"

namespace mnv2::test {
namespace {

struct Description {
    std::string name;
    std::vector<LayerParams> layers;
    bool same_padding = false;
};

InvertedResidualParams some_block(int64_t in, int64_t expanded, int64_t out)
{
    return block({0, 0}, in, expanded, out);
}

StemParams larger_stem(int64_t in, int64_t out)
{
    StemParams params = stem_of(in, out);
    params.kernel = 5;
    params.padding = {2, 2, 2, 2};
    return params;
}

// Each way in which layers may follow one another.
std::vector<Description> networks()
{
    const auto direct = [](int64_t in, int64_t out) { return without_expand(some_block(in, 0, out)); };
    std::vector<Description> all = {
        {"as published",
         {stem_of(3, 32), direct(32, 16), strided(some_block(16, 96, 24)), with_residual(some_block(24, 144, 0)),
          strided(some_block(24, 144, 40)), head_of(40, 72), LinearParams{0, 72, 33}}},
        {"odd channels, no linear layer",
         {stem_of(3, 11), direct(11, 7), strided(some_block(7, 17, 13)), with_residual(some_block(13, 51, 0)),
          head_of(13, 19)}},
        {"a stem before an expand", {stem_of(3, 8, 1), some_block(8, 48, 8), head_of(8, 16), LinearParams{0, 16, 3}}},
        {"a stem before a shortcut", {stem_of(3, 16), with_residual(direct(16, 0)), head_of(16, 24), LinearParams{0, 24, 5}}},
        {"a strided block behind the stem", {stem_of(3, 16), strided(direct(16, 24)), head_of(24, 40)}},
        {"no stem", {some_block(3, 18, 24), direct(24, 8), with_residual(direct(8, 0)), head_of(8, 9), LinearParams{0, 9, 17}}},
        {"a head alone", {head_of(3, 40)}},
        {"a stem and a head", {stem_of(3, 24), head_of(24, 8), LinearParams{0, 8, 1}}},
        {"linear layers behind each other",
         {stem_of(3, 24), head_of(24, 35), LinearParams{0, 35, 70, Activation::hardswish},
          LinearParams{0, 70, 9, Activation::silu}, LinearParams{0, 9, 33}}},
        {"a larger kernel",
         {larger_stem(3, 16), with_kernel(direct(16, 24), 5), strided(with_kernel(some_block(24, 72, 40), 7)),
          head_of(40, 17)}},
    };
    for (size_t i = 0, count = all.size(); i < count; ++i) {
        all.push_back(all[i]);
        all.back().same_padding = true;
    }
    return all;
}

using Bytes = std::vector<uint8_t>;

Bytes pack_random(Random& random, const LayerParams& layer, const PackLayout& layout)
{
    if (const auto* linear = std::get_if<LinearParams>(&layer)) {
        const Convolution weights = random_convolution(random, linear->out_features, linear->in_features);
        return packed_by(*linear, layout, [&](void* to) { pack_linear(*linear, weights.view(), layout, to); });
    }
    if (const auto* block = std::get_if<InvertedResidualParams>(&layer))
        return pack(*block, random_weights(random, *block), layout);
    if (const auto* stem = std::get_if<StemParams>(&layer)) return pack(*stem, random_weights(random, *stem), layout);
    const auto& head = std::get<HeadPoolParams>(layer);
    return pack(head, random_weights(random, head), layout);
}

// A network's packed layers, and all of them in one buffer.
struct PackedNetwork {
    std::vector<Bytes> layers;
    Bytes whole;

    PackedNetwork(const Description& from, const PackLayout& layout)
    {
        Random random(5);
        for (const LayerParams& layer : from.layers) layers.push_back(pack_random(random, layer, layout));
        const std::vector<PackedLayer> parts = parts_of(from.same_padding);
        whole.resize(static_cast<size_t>(packed_network_bytes(parts)), dead_byte);
        pack_network(parts, whole.data());
    }

    std::vector<PackedLayer> parts_of(bool same_padding) const
    {
        std::vector<PackedLayer> parts;
        for (const Bytes& layer : layers) parts.push_back({layer.data(), static_cast<int64_t>(layer.size()), same_padding});
        return parts;
    }
};

Tensor image_of(ScalarType dtype, Layout layout, int64_t batch, Size size)
{
    Random random(9);
    return Tensor::random(random, dtype, layout, batch, size.height, size.width, 3);
}

// The results of the layers' own entry points, each through a tensor.
Bytes layer_by_layer(const PackedNetwork& packed, const std::vector<NetworkLayer>& layers, const Tensor& x)
{
    Bytes values = x.bytes();
    InputView view = x.view(values.data());
    for (size_t i = 0; i < layers.size(); ++i) {
        Bytes y;
        const auto run = [&](const auto& params, int64_t height, int64_t width, int64_t channels) {
            y.assign(static_cast<size_t>(params.batch * height * width * channels * scalar_bytes(x.dtype())), dead_byte);
            launch(params, view, packed.layers[i].data(), y.data(), {});
            values = y;
            view = {values.data(), x.dtype(), height * width * channels, 1, width * channels, channels};
        };
        const LayerParams& layer = layers[i].params;
        if (const auto* block = std::get_if<InvertedResidualParams>(&layer))
            run(*block, block->out_height(), block->out_width(), block->out_channels);
        else if (const auto* stem = std::get_if<StemParams>(&layer))
            run(*stem, stem->out_height(), stem->out_width(), stem->out_channels);
        else
            std::visit([&](const auto& params) { run(params, 1, 1, channels_of(layer).out); }, layer);
    }
    return values;
}

// Plans and runs.
void run_network(const std::vector<NetworkLayer>& layers, const InputView& x, const void* packed, void* y,
                 const Parallel& parallel, double* layer_seconds = nullptr)
{
    const cpu::NetworkPlan plan = cpu::plan_network(layers, cpu::kernels_for(packed_isa(packed)), parallel.threads);
    cpu::network(plan, x, packed, y, parallel, layer_seconds);
}

Bytes run_network(const Bytes& packed, const Tensor& x, int64_t batch, Size size, Placement placement, const Parallel& parallel)
{
    const GuardedBuffer weights(packed, placement), image(x.bytes(), placement);
    std::vector<NetworkLayer> layers;
    CHECK_EQUAL(read_network(weights.data(), static_cast<int64_t>(packed.size()), layers), "");
    CHECK(set_image(layers, batch, size.height, size.width));
    const int64_t values = batch * channels_of(layers.back().params).out;
    const GuardedBuffer y(Bytes(static_cast<size_t>(values * scalar_bytes(x.dtype())), dead_byte), placement);
    run_network(layers, x.view(image.data()), weights.data(), y.data(), parallel);
    const auto* bytes = static_cast<const uint8_t*>(y.data());
    return Bytes(bytes, bytes + values * scalar_bytes(x.dtype()));
}

std::vector<NetworkLayer> layers_of(const Bytes& packed)
{
    std::vector<NetworkLayer> layers;
    CHECK_EQUAL(read_network(packed.data(), static_cast<int64_t>(packed.size()), layers), "");
    return layers;
}

void check_packed_network(const Description& one, const PackLayout& layout, const Tensor& x, int64_t batch, Size size)
{
    const PackedNetwork packed(one, layout);
    std::vector<NetworkLayer> layers = layers_of(packed.whole);
    CHECK_EQUAL(layers.size(), one.layers.size());
    CHECK(set_image(layers, batch, size.height, size.width));
    const Bytes expected = layer_by_layer(packed, layers, x);
    for (const Placement placement : placements) CHECK(run_network(packed.whole, x, batch, size, placement, {}) == expected);
    for (const Parallel& parallel : thread_counts())
        CHECK(run_network(packed.whole, x, batch, size, Placement::ends_at_guard, parallel) == expected);
}

void check_network(const Description& one, ScalarType dtype, Layout layout, int64_t batch, Size size)
{
    if (!is_sampled()) return;
    const Scope scope(one.name, one.same_padding ? ", SAME, " : ", ", batch, " x ", size.height, " x ", size.width, ", ",
                      name_of(dtype));
    const Tensor x = image_of(dtype, layout, batch, size);
    for_each_isa(dtype, [&](const cpu::Kernels& kernels) { check_packed_network(one, kernels.layout, x, batch, size); });
}

TEST(the_bits_of_its_layers)
{
    for (const Description& one : networks())
        for (const ScalarType dtype : dtypes)
            for (const int64_t batch : {1, 5}) check_network(one, dtype, Layout::nchw, batch, {33, 30});
}

TEST(every_size_and_layout)
{
    for (const Description& one : networks()) {
        for (const Size& size : sizes) check_network(one, ScalarType::float32, Layout::nhwc, 2, size);
        for (const Layout layout : layouts) check_network(one, ScalarType::float16, layout, 2, {8, 9});
    }
}

// With many threads and wide layers some blocks are split by channels.
Description wide_network()
{
    return {"wide", {some_block(3, 192, 160), with_residual(some_block(160, 320, 0)), head_of(160, 200)}};
}

TEST(blocks_that_threads_split_by_channels)
{
    const Description one = wide_network();
    bool splits = false;
    for_each_isa([&](const cpu::Kernels& kernels) {
        InvertedResidualParams params = with_residual(block({3, 3}, 160, 320, 0));
        splits |= cpu::choose_cuts(params, kernels.layout, cpu::cache_sizes(), 2).splits_channels;
    });
    CHECK(splits);
    for (const ScalarType dtype : dtypes) check_network(one, dtype, Layout::nchw, 1, {3, 3});
}

TEST(same_padding_follows_the_size)
{
    const auto equal = [](const Padding& got, const Padding& expected) {
        return std::memcmp(&got, &expected, sizeof got) == 0;
    };
    CHECK(equal(same_padding(8, 9, 2), {0, 1, 1, 1}));
    CHECK(equal(same_padding(1, 2, 2), {1, 0, 1, 1}));
    CHECK(equal(same_padding(8, 9, 1), {1, 1, 1, 1}));

    Description one = networks().front();
    one.same_padding = true;
    for_each_isa([&](const cpu::Kernels& kernels) {
        const PackedNetwork packed(one, kernels.layout);
        std::vector<NetworkLayer> layers = layers_of(packed.whole);
        for (const int64_t height : {224, 225}) {
            CHECK(set_image(layers, 1, height, 64));
            CHECK_EQUAL(std::get<StemParams>(layers[0].params).padding.top, height % 2);
            CHECK_EQUAL(std::get<InvertedResidualParams>(layers[1].params).padding.top, 1);  // stride 1
        }
    });
}

TEST(options_survive_packing)
{
    StemParams stem = stem_of(3, 5, 1);
    stem.padding = {0, 1, 1, 0};
    stem.activation = Activation::none;
    InvertedResidualParams middle = some_block(5, 7, 9);
    middle.batch = 0;
    middle.stride = 2;
    middle.padding = {1, 0, 0, 1};
    middle.activation = Activation::relu;
    middle.project_activation = Activation::relu6;
    HeadPoolParams head = head_of(9, 4);
    head.activation = Activation::relu;
    const PackLayout layout = cpu::select_kernels().layout;
    const PackedNetwork packed({"options", {stem, middle, head}}, layout);
    std::vector<NetworkLayer> layers = layers_of(packed.whole);
    const auto& got_stem = std::get<StemParams>(layers[0].params);
    const auto& got = std::get<InvertedResidualParams>(layers[1].params);
    CHECK_EQUAL(describe(got_stem), describe(stem));
    CHECK_EQUAL(describe(got), describe(middle));
    CHECK_EQUAL(describe(std::get<HeadPoolParams>(layers[2].params)), describe(head));
}

TEST(an_image_that_fills_no_window)
{
    Description one{"valid", {stem_of(3, 8), head_of(8, 8)}};
    std::get<StemParams>(one.layers[0]).padding = {0, 0, 0, 0};
    const PackedNetwork packed(one, cpu::select_kernels().layout);
    std::vector<NetworkLayer> layers = layers_of(packed.whole);
    CHECK(!set_image(layers, 1, 2, 9));
    CHECK(!set_image(layers, 1, 9, 2));
    CHECK(set_image(layers, 1, 3, 3));
}

TEST(a_linear_layer_is_a_head_of_one_pixel)
{
    for (const ScalarType dtype : dtypes)
        for (const int64_t batch : {1, 2, 7, 200})
            for (const int64_t in : {1, 17, 200})
                for (const int64_t out : {1, 8, 33}) {
                    if (!is_sampled()) continue;
                    const Scope scope(batch, " x ", in, " -> ", out, ", ", name_of(dtype));
                    HeadPoolParams head = head_of(in, out);
                    head.batch = batch;
                    head.height = head.width = 1;
                    head.activation = Activation::none;
                    const LinearParams linear{batch, in, out};
                    Random random(3);
                    const Tensor x = Tensor::random(random, dtype, Layout::nhwc_slice, batch, 1, 1, in);
                    const Convolution weights = random_convolution(random, out, in);
                    for_each_isa(dtype, [&](const cpu::Kernels& kernels) {
                        Bytes packed(static_cast<size_t>(packed_bytes(linear, kernels.layout)));
                        pack_linear(linear, weights.view(), kernels.layout, packed.data());
                        const GuardedBuffer image(x.bytes(), Placement::ends_at_guard);
                        const size_t bytes = static_cast<size_t>(batch * out * scalar_bytes(dtype));
                        Bytes expected(bytes, dead_byte);
                        launch(head, x.view(image.data()), pack(head, weights, kernels.layout).data(), expected.data(), {});
                        for (const Parallel& parallel : thread_counts()) {
                            const GuardedBuffer y(Bytes(bytes, dead_byte), Placement::ends_at_guard);
                            launch(linear, x.view(image.data()), packed.data(), y.data(), parallel);
                            CHECK(std::memcmp(y.data(), expected.data(), bytes) == 0);
                        }
                    });
                }
}

std::string reading(const Bytes& bytes)
{
    const GuardedBuffer guarded(bytes, Placement::ends_at_guard);
    std::vector<NetworkLayer> layers;
    return read_network(guarded.data(), static_cast<int64_t>(bytes.size()), layers);
}

std::string mismatch_of(const std::vector<PackedLayer>& parts)
{
    Bytes whole(static_cast<size_t>(packed_network_bytes(parts)));
    pack_network(parts, whole.data());
    return reading(whole);
}

std::string mismatch_of(const std::vector<LayerParams>& layers)
{
    Random random(1);
    std::vector<Bytes> packed;
    for (const LayerParams& layer : layers) packed.push_back(pack_random(random, layer, cpu::select_kernels().layout));
    std::vector<PackedLayer> parts;
    for (const Bytes& layer : packed) parts.push_back({layer.data(), static_cast<int64_t>(layer.size()), false});
    return mismatch_of(parts);
}

TEST(layers_that_are_no_network)
{
    const std::string chain =
        "expected any of a stem, blocks, a head and linear layers behind it, or linear layers alone, got ";
    CHECK_EQUAL(mismatch_of(std::vector<LayerParams>{stem_of(3, 8)}), "");
    CHECK_EQUAL(mismatch_of({stem_of(3, 8), stem_of(3, 8), head_of(8, 8)}), "layer 1: " + chain + "a stem behind a stem");
    CHECK_EQUAL(mismatch_of({head_of(3, 8), some_block(8, 8, 8)}), "layer 1: " + chain + "a block behind a head");
    CHECK_EQUAL(mismatch_of({LinearParams{0, 3, 3}, head_of(3, 8)}), "layer 1: " + chain + "a head behind a linear layer");
    CHECK_EQUAL(mismatch_of({stem_of(3, 8), head_of(9, 8)}), "layer 1: expected 8 input channels, got 9");
}

// Between two heads, whose headers the buffer's own header is made of.
TEST(layers_that_are_none)
{
    const PackedNetwork packed({"head", {head_of(3, 8)}}, cpu::select_kernels().layout);
    const Bytes& head = packed.layers[0];
    const auto mismatch = [&](const Bytes& bytes, int64_t shorter = 0) {
        const PackedLayer valid{head.data(), static_cast<int64_t>(head.size()), false};
        return mismatch_of({valid, {bytes.data(), static_cast<int64_t>(bytes.size()) - shorter, false}, valid});
    };
    const Bytes foreign(256, 0x3f);
    CHECK_EQUAL(mismatch(foreign), "layer 1: expected packed weights of a layer, got bytes of another format");
    CHECK_EQUAL(mismatch(foreign, 246), "layer 1: expected packed weights, got 10 bytes");
    CHECK_EQUAL(mismatch(packed.whole), "layer 1: expected packed weights of a layer, got bytes of another format");
    Bytes longer = head;
    longer.resize(longer.size() + 4);
    CHECK_EQUAL(mismatch(longer), join("layer 1: expected ", longer.size() - 4, " bytes, got ", longer.size()));
}

// However many bytes are missing, nothing behind them is read.
TEST(a_shortened_network)
{
    const PackedNetwork packed({"short", {stem_of(3, 8), head_of(8, 8)}}, cpu::select_kernels().layout);
    for (size_t bytes = 0; bytes < packed.whole.size(); ++bytes)
        CHECK(!reading(Bytes(packed.whole.begin(), packed.whole.begin() + static_cast<int64_t>(bytes))).empty());
    CHECK_EQUAL(reading(packed.layers[0]), "expected packed layers, got a stem with channels 3 -> 8");
    CHECK_EQUAL(reading(Bytes(1000, 0x3f)), "expected packed layers, got bytes of another format");
}

// A damaged header is refused, or describes another network of as many bytes: nothing can tell whether strides, paddings and
// activations are right.
TEST(a_damaged_network)
{
    const Description one{"damaged",
                          {stem_of(3, 8), without_expand(some_block(8, 0, 5)), head_of(5, 8), LinearParams{0, 8, 3}}};
    const PackedNetwork packed(one, cpu::select_kernels().layout);
    const Tensor x = image_of(ScalarType::float32, Layout::nchw, 1, {5, 5});
    const int64_t line = 64;
    std::vector<int64_t> headers = {0};
    int64_t offset = header_bytes;
    for (const Bytes& layer : packed.layers) {
        headers.push_back(offset);         // the layer's length
        headers.push_back(offset + line);  // its header
        offset += line + (static_cast<int64_t>(layer.size()) + line - 1) / line * line;
    }
    int64_t refused = 0;
    for (const int64_t header : headers)
        for (int64_t byte = 0; byte < line; ++byte)
            for (int bit = 0; bit < 8; ++bit) {
                const Scope scope("byte ", byte, " of the header at ", header, ", bit ", bit);
                Bytes damaged = packed.whole;
                damaged[static_cast<size_t>(header + byte)] ^= static_cast<uint8_t>(1 << bit);
                const GuardedBuffer guarded(damaged, Placement::ends_at_guard);
                std::vector<NetworkLayer> layers;
                if (!read_network(guarded.data(), static_cast<int64_t>(damaged.size()), layers).empty()) {
                    ++refused;
                    continue;
                }
                if (!set_image(layers, 1, 5, 5)) continue;
                const int64_t values = channels_of(layers.back().params).out;
                const GuardedBuffer y(Bytes(static_cast<size_t>(values) * sizeof(float)), Placement::ends_at_guard);
                const Bytes image = x.bytes();
                run_network(layers, x.view(image.data()), guarded.data(), y.data(), {});
            }
    CHECK(refused > 500);
}

// More chains and sizes than are kept, so that threads meet plans that they made, that others made and that have left.
TEST(threads_share_plans_that_come_and_go)
{
    struct Kept {
        NetworkFrame frame;
        int64_t height;
        cpu::NetworkPlan plan;
    };
    struct Call {
        PackedNetwork packed;
        int64_t height;
        Bytes x, y;
    };
    const cpu::Kernels& kernels = cpu::select_kernels();
    const auto layers_of = [](const Call& call) {
        std::vector<NetworkLayer> layers;
        read_network(call.packed.whole.data(), static_cast<int64_t>(call.packed.whole.size()), layers);
        set_image(layers, 1, call.height, 10);
        return layers;
    };
    std::vector<Call> calls;
    for (const Description& one : networks())
        for (const int64_t height : {9, 12}) {
            const Tensor x = image_of(ScalarType::float32, Layout::nhwc, 1, {height, 10});
            calls.push_back({PackedNetwork(one, kernels.layout), height, x.bytes(), {}});
            calls.back().y = run_network(calls.back().packed.whole, x, 1, {height, 10}, Placement::ends_at_guard, {});
        }

    Recent<Kept> recent(calls.size() / 4);
    std::atomic<int64_t> made = 0, wrong = 0;
    const auto run = [&](const Call& call) {
        const Bytes& packed = call.packed.whole;
        const auto bytes = static_cast<int64_t>(packed.size());
        const auto kept = recent.find(
            [&](const Kept& other) { return other.height == call.height && other.frame.is_of(packed.data(), bytes); },
            [&]() -> Kept {
                ++made;
                const std::vector<NetworkLayer> layers = layers_of(call);
                return {NetworkFrame(packed.data(), bytes, layers), call.height, cpu::plan_network(layers, kernels, 1)};
            });
        Bytes y(call.y.size(), dead_byte);
        cpu::network(kept->plan, {call.x.data(), ScalarType::float32, 0, 1, 30, 3}, packed.data(), y.data(), {});
        if (y != call.y) ++wrong;
    };
    std::vector<std::thread> threads;
    for (size_t thread = 0; thread < 6; ++thread)
        threads.emplace_back([&, thread] {
            for (size_t i = 0; i < 3 * calls.size(); ++i) run(calls[i * (2 * thread + 1) % calls.size()]);
        });
    for (std::thread& thread : threads) thread.join();
    CHECK_EQUAL(wrong.load(), 0);
    CHECK(made > static_cast<int64_t>(calls.size()));
}

TEST(layers_are_timed)
{
    const Description one = networks().front();
    const PackedNetwork packed(one, cpu::select_kernels().layout);
    for (const int64_t batch : {1, 3}) {
        const Tensor x = image_of(ScalarType::float32, Layout::nchw, batch, {33, 30});
        std::vector<NetworkLayer> layers = layers_of(packed.whole);
        CHECK(set_image(layers, batch, 33, 30));
        Bytes y(static_cast<size_t>(batch * 33) * sizeof(float));
        const Bytes image = x.bytes();
        for (const Parallel& parallel : thread_counts()) {
            std::vector<double> seconds(layers.size(), 0.0);
            run_network(layers, x.view(image.data()), packed.whole.data(), y.data(), parallel, seconds.data());
            CHECK_EQUAL(seconds[0], 0.0);  // the stem's time is counted with the block behind it
            for (size_t layer = 1; layer < seconds.size(); ++layer) CHECK(seconds[layer] > 0.0);
        }
    }
}

}  // namespace
}  // namespace mnv2::test
