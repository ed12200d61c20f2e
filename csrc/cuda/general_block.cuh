// The inverted residual of any shape, in float32 arithmetic whatever the tensors' type: float32's kernel, and that of every
// block that no kernel for tensor cores serves.
//
// A thread block makes a tile of output pixels, of one image or of several small ones, and a slice of the output channels.
// For each chunk of 32 expanded channels it expands the tile's input pixels into shared memory, where pixels outside the
// image are zero, takes the depthwise convolution from there to a second tile, and projects that into registers. Both matrix
// products are tiled in registers: a thread has `pixels` pixels, eight apart, and 8 channels in two quads.
//
// A sum never has more than 191 depths in a row: the projection adds a chunk's 32 to its totals; an expand of 192 input
// channels or more adds up slabs of 32, which it streams through shared memory, while fewer stay there. Every output is so
// added up in one order, whatever the tile.
//
// Packed weights, all float: the projection's scales and biases, then the chunks. Rows of a chunk have 32 channels: scale
// and bias of the expand and its weights, by depth; nine taps, scale and bias of the depthwise convolution; then 32 rows of
// the projection, by depth. Channels and depths are rounded up to four with zeros.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/block.h"
#include "cuda/ptx.cuh"

namespace mnv2::cuda {

constexpr int chunk_channels = 32;                 // a warp's lanes
constexpr int slab_depth = 32;                     // input channels that are streamed together
constexpr int tile_stride = chunk_channels + 4;    // odd in 16 bytes: eight pixels' quads lie in different banks
constexpr int pixel_lanes = 8, channel_lanes = 4;  // of a warp in both products
constexpr int quad = 4;                            // channels that are loaded together
constexpr int thread_quads = 2;                    // of a thread in 32 channels
constexpr int constant_rows = 2;                   // scale and bias
constexpr int depthwise_rows = kernel_taps + constant_rows;

// A warp projects 8 * pixels output pixels; columns: of a slice.
template <int warp_count, int thread_pixels, int column_count, int blocks>
struct GeneralBlock {
    static constexpr int warps = warp_count, threads = 32 * warps, blocks_per_sm = blocks;
    static constexpr int pixels = thread_pixels, warp_pixels = pixel_lanes * pixels, tile_pixels = warps * warp_pixels;
    static constexpr int columns = column_count, parts = columns / chunk_channels;
};

// Where things lie in shared memory, in floats; the tile first.
struct GeneralBlockLayout {
    int sources, places, expand_constants, expand_weights, expand_slab, depthwise, project, input, input_slab, input_stride;
    int hidden, filtered, floats;
};

struct GeneralBlockArguments {
    ScalarType type;  // of the tensors; a template's parameter would compile everything three times for few loads and stores
    const void* input;
    void* output;
    const float* packed;
    int64_t batch, blocks;  // blocks: tiles times slices
    int in_channels, expanded_channels, out_channels;
    int height, width, out_height, out_width, padding_top, padding_left, stride;
    int images, tile_height, tile_width, halo_height, halo_width;
    int tile_rows, tile_columns;  // of an image
    int slices, slice_channels;
    int slabs, depth;  // depth: of a slab, the last one may be shorter
    GeneralBlockLayout layout;
    Clamp clamp, project_clamp;
    bool has_expand, residual;
};

__host__ __device__ constexpr int round_up_to_quad(int n)
{
    return (n + quad - 1) / quad * quad;
}

__host__ __device__ constexpr int64_t expand_floats(int in_channels, bool has_expand)
{
    return has_expand ? (constant_rows + round_up_to_quad(in_channels)) * int64_t{chunk_channels} : 0;
}

__host__ __device__ constexpr int64_t chunk_floats(int in_channels, int out_channels, bool has_expand)
{
    return expand_floats(in_channels, has_expand) + depthwise_rows * chunk_channels +
           int64_t{chunk_channels} * round_up_to_quad(out_channels);
}

// What a thread block works on; in shared memory, as registers are short.
struct GeneralTile {
    int64_t first_image;
    int images, out_y, out_x;
    int top, left, bottom, right;  // the part of the input inside the image
    int pixels;                    // in that part, of all images
    int first_channel, channels;   // of the output
};

__device__ inline GeneralTile tile_of(const GeneralBlockArguments& p, int64_t block)
{
    GeneralTile tile;
    tile.first_channel = static_cast<int>(block % p.slices) * p.slice_channels;
    tile.channels = min(p.slice_channels, p.out_channels - tile.first_channel);
    block /= p.slices;
    tile.out_x = static_cast<int>(block % p.tile_columns) * p.tile_width;
    block /= p.tile_columns;
    tile.out_y = static_cast<int>(block % p.tile_rows) * p.tile_height;
    tile.first_image = block / p.tile_rows * p.images;
    const int64_t images_left = p.batch - tile.first_image;
    tile.images = images_left < p.images ? static_cast<int>(images_left) : p.images;

    const int in_y = tile.out_y * p.stride - p.padding_top, in_x = tile.out_x * p.stride - p.padding_left;
    tile.top = max(in_y, 0);
    tile.left = max(in_x, 0);
    tile.bottom = min(in_y + p.halo_height, p.height);
    tile.right = min(in_x + p.halo_width, p.width);
    tile.pixels = tile.images * (tile.bottom - tile.top) * (tile.right - tile.left);
    return tile;
}

__device__ __forceinline__ float activate(const Clamp& clamp, float value)
{
    return ptx::clamp(value, clamp.low, clamp.high);
}

template <class T>
__device__ __forceinline__ float load_number(const T* from)
{
    if constexpr (std::is_same_v<T, float>)
        return *from;
    else
        return ptx::unpack2<T>(*reinterpret_cast<const uint16_t*>(from)).x;
}

template <class T>
__device__ __forceinline__ void store_number(T* to, float value)
{
    if constexpr (std::is_same_v<T, float>)
        *to = value;
    else
        *reinterpret_cast<uint16_t*>(to) = static_cast<uint16_t>(ptx::pack2<T>(value, 0.0f));
}

template <class T>
__device__ __forceinline__ float4 load_quad(const T* from)
{
    if constexpr (std::is_same_v<T, float>) {
        return *reinterpret_cast<const float4*>(from);
    } else {
        const uint2 words = *reinterpret_cast<const uint2*>(from);
        const float2 low = ptx::unpack2<T>(words.x), high = ptx::unpack2<T>(words.y);
        return {low.x, low.y, high.x, high.y};
    }
}

template <class T>
__device__ __forceinline__ void store_quad(T* to, const float4& values)
{
    if constexpr (std::is_same_v<T, float>)
        *reinterpret_cast<float4*>(to) = values;
    else
        *reinterpret_cast<uint2*>(to) = {ptx::pack2<T>(values.x, values.y), ptx::pack2<T>(values.z, values.w)};
}

// Four channels of a pixel, from a multiple of four on; zero beyond the last. Pixels have a quad's alignment where their
// channels are whole quads.
template <class T>
__device__ __forceinline__ float4 load_channels(const T* pixel, int channel, int channels)
{
    float4 values{};
    if (channels % quad == 0) {
        if (channel < channels) values = load_quad(pixel + channel);
        return values;
    }
    if (channel < channels) values.x = load_number(pixel + channel);
    if (channel + 1 < channels) values.y = load_number(pixel + channel + 1);
    if (channel + 2 < channels) values.z = load_number(pixel + channel + 2);
    if (channel + 3 < channels) values.w = load_number(pixel + channel + 3);
    return values;
}

template <class T>
__device__ __forceinline__ void store_channels(T* pixel, int channel, int channels, const float4& values)
{
    if (channels % quad == 0) return store_quad(pixel + channel, values);
    store_number(pixel + channel, values.x);
    if (channel + 1 < channels) store_number(pixel + channel + 1, values.y);
    if (channel + 2 < channels) store_number(pixel + channel + 2, values.z);
    if (channel + 3 < channels) store_number(pixel + channel + 3, values.w);
}

// Calls visit with a null pointer to the type.
template <class Visit>
__device__ __forceinline__ void visit_type(ScalarType type, const Visit& visit)
{
    switch (type) {
        case ScalarType::float32: return visit(static_cast<float*>(nullptr));
        case ScalarType::float16: return visit(static_cast<__half*>(nullptr));
        case ScalarType::bfloat16: return visit(static_cast<__nv_bfloat16*>(nullptr));
    }
}

// sum += rows times weights. Rows are contiguous by depth; of the weights, one depth is weight_stride behind the other and a
// thread's quads 16 channels apart.
template <int pixels>
__device__ __forceinline__ void multiply(float (&sum)[pixels][thread_quads * quad], const float* const (&rows)[pixels],
                                         const float* weights, int weight_stride, int depth)
{
#pragma unroll 2
    for (int k = 0; k < depth; k += quad) {
        float values[pixels][quad];
#pragma unroll
        for (int i = 0; i < pixels; ++i) {
            const float4 loaded = *reinterpret_cast<const float4*>(rows[i] + k);
            values[i][0] = loaded.x;
            values[i][1] = loaded.y;
            values[i][2] = loaded.z;
            values[i][3] = loaded.w;
        }
#pragma unroll
        for (int j = 0; j < quad; ++j, weights += weight_stride) {
#pragma unroll
            for (int q = 0; q < thread_quads; ++q) {
                const float4 w = *reinterpret_cast<const float4*>(weights + q * channel_lanes * quad);
#pragma unroll
                for (int i = 0; i < pixels; ++i) {
                    float* const to = sum[i] + q * quad;
                    to[0] = fmaf(values[i][j], w.x, to[0]);
                    to[1] = fmaf(values[i][j], w.y, to[1]);
                    to[2] = fmaf(values[i][j], w.z, to[2]);
                    to[3] = fmaf(values[i][j], w.w, to[3]);
                }
            }
        }
    }
}

// A thread block's share of the work, phase by phase; barriers are the kernel's.
template <class Block>
struct GeneralWorker {
    const GeneralBlockArguments& p;
    float* const shared;
    const GeneralTile& tile;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    // Neighbours that differ in bit 0 load the same pixel, and in bit 1 the same weights: pairs of lanes that share 16
    // bytes let shared memory serve half a warp at a time.
    const int pixel_lane = lane / 2 % pixel_lanes, channel_lane = lane % 2 + lane / 16 * 2;

    __device__ int64_t* sources() const { return reinterpret_cast<int64_t*>(shared + p.layout.sources); }
    __device__ int* places() const { return reinterpret_cast<int*>(shared + p.layout.places); }
    __device__ float* hidden() const { return shared + p.layout.hidden; }
    __device__ float* filtered() const { return shared + p.layout.filtered; }
    __device__ int channels_of(int chunk) const { return min(chunk_channels, p.expanded_channels - chunk * chunk_channels); }

    __device__ const float* chunk_weights(int chunk) const
    {
        return p.packed + 2 * round_up_to_quad(p.out_channels) +
               chunk * chunk_floats(p.in_channels, p.out_channels, p.has_expand);
    }

    // Which pixels of the tensor the tile takes, and where they lie in its halo; what is outside the image becomes zero.
    __device__ void lay_out() const
    {
        const int width = tile.right - tile.left, per_image = (tile.bottom - tile.top) * width;
        const int in_y = tile.out_y * p.stride - p.padding_top, in_x = tile.out_x * p.stride - p.padding_left;
        for (int i = threadIdx.x; i < tile.pixels; i += Block::threads) {
            const int image = i / per_image, y = tile.top + i % per_image / width, x = tile.left + i % per_image % width;
            sources()[i] = ((tile.first_image + image) * p.height + y) * p.width + x;
            places()[i] = (image * p.halo_height + y - in_y) * p.halo_width + x - in_x;
        }
        const int halo = tile.images * p.halo_height * p.halo_width;
        if (tile.pixels == halo) return;
        float4* const zeros = reinterpret_cast<float4*>(hidden());
        for (int i = threadIdx.x; i < halo * (chunk_channels / quad); i += Block::threads) zeros[i] = float4{};
    }

    __device__ static void copy(float* to, const float* from, int floats)
    {
        for (int i = threadIdx.x * quad; i < floats; i += Block::threads * quad) ptx::cp_async16(to + i, from + i);
    }

    // Input channels from first on, of all the tile's pixels, each to its row or to the one at its place.
    __device__ void fetch_input(float* to, int pixel_stride, int first, int depth, const int* place) const
    {
        const int quads = depth / quad;
        const auto for_every_quad = [&](const auto& fetch) {
            for (int i = threadIdx.x; i < tile.pixels * quads; i += Block::threads) {
                const int pixel = i / quads, channel = i % quads * quad;
                fetch(to + (place ? place[pixel] : pixel) * pixel_stride + channel, sources()[pixel], first + channel);
            }
        };
        visit_type(p.type, [&](auto* null) {
            using T = std::remove_pointer_t<decltype(null)>;
            const T* const input = static_cast<const T*>(p.input);
            for_every_quad([&](float* at, int64_t pixel, int channel) {
                const T* const from = input + pixel * p.in_channels;
                if constexpr (std::is_same_v<T, float>) {
                    if (p.in_channels % quad == 0 && channel < p.in_channels) return ptx::cp_async16(at, from + channel);
                }
                store_quad(at, load_channels(from, channel, p.in_channels));
            });
        });
    }

    __device__ int depth_of(int slab) const { return min(p.depth, round_up_to_quad(p.in_channels) - slab * p.depth); }

    __device__ float* input_slab(int slab) const { return shared + p.layout.input + slab % 2 * p.layout.input_slab; }

    // Where all input channels are one slab, they stay in shared memory.
    __device__ void fetch_resident_input() const
    {
        if (p.has_expand && p.slabs == 1) fetch_input(input_slab(0), p.layout.input_stride, 0, p.depth, nullptr);
    }

    __device__ void fetch_slab(int chunk, int slab) const
    {
        if (p.slabs > 1) fetch_input(input_slab(slab), p.layout.input_stride, slab * p.depth, depth_of(slab), nullptr);
        copy(shared + p.layout.expand_weights + slab % 2 * p.layout.expand_slab,
             chunk_weights(chunk) + (constant_rows + slab * p.depth) * chunk_channels, depth_of(slab) * chunk_channels);
    }

    // What a chunk starts from: without an expand the input itself.
    __device__ void fetch_first(int chunk) const
    {
        if (p.has_expand) {
            copy(shared + p.layout.expand_constants, chunk_weights(chunk), constant_rows * chunk_channels);
            fetch_slab(chunk, 0);
        } else {
            fetch_input(hidden(), chunk_channels, chunk * chunk_channels, chunk_channels, places());
        }
        ptx::cp_async_commit();
    }

    __device__ void fetch_rest(int chunk) const
    {
        const float* const from = chunk_weights(chunk) + expand_floats(p.in_channels, p.has_expand);
        copy(shared + p.layout.depthwise, from, depthwise_rows * chunk_channels);
        const int row = round_up_to_quad(p.out_channels), quads = round_up_to_quad(tile.channels) / quad;
        const float* const project = from + depthwise_rows * chunk_channels + tile.first_channel;
        for (int i = threadIdx.x; i < round_up_to_quad(channels_of(chunk)) * quads; i += Block::threads) {
            const int k = i / quads, channel = i % quads * quad;
            ptx::cp_async16(shared + p.layout.project + k * Block::columns + channel, project + int64_t{k} * row + channel);
        }
        ptx::cp_async_commit();
    }

    __device__ void expand(int chunk) const
    {
        for (int slab = 0; slab < p.slabs; ++slab) {
            if (slab > 0) {
                ptx::cp_async_wait<0>();
                __syncthreads();
            }
            if (slab + 1 < p.slabs) {
                fetch_slab(chunk, slab + 1);
                ptx::cp_async_commit();
            }
            for (int first = warp * Block::warp_pixels; first < tile.pixels; first += Block::warps * Block::warp_pixels)
                expand_slab(first, slab);
        }
    }

    // Adds a slab to what the hidden tile holds of the earlier ones; the last one completes it.
    __device__ void expand_slab(int first_pixel, int slab) const
    {
        const float* rows[Block::pixels];
#pragma unroll
        for (int i = 0; i < Block::pixels; ++i) {
            const int pixel = min(first_pixel + i * pixel_lanes + pixel_lane, tile.pixels - 1);
            rows[i] = input_slab(slab) + pixel * p.layout.input_stride;
        }
        float sum[Block::pixels][thread_quads * quad] = {};
        multiply(sum, rows, shared + p.layout.expand_weights + slab % 2 * p.layout.expand_slab + channel_lane * quad,
                 chunk_channels, depth_of(slab));
#pragma unroll
        for (int q = 0; q < thread_quads; ++q) {
            const int channel = (q * channel_lanes + channel_lane) * quad;
            const float* const constants = shared + p.layout.expand_constants + channel;
            const float4 scale = load_quad(constants), bias = load_quad(constants + chunk_channels);
#pragma unroll
            for (int i = 0; i < Block::pixels; ++i) {
                const int pixel = first_pixel + i * pixel_lanes + pixel_lane;
                if (pixel >= tile.pixels) continue;
                float* const to = hidden() + places()[pixel] * chunk_channels + channel;
                float* const value = sum[i] + q * quad;
                if (slab > 0) {
                    const float4 earlier = load_quad(to);
                    value[0] += earlier.x;
                    value[1] += earlier.y;
                    value[2] += earlier.z;
                    value[3] += earlier.w;
                }
                if (slab + 1 == p.slabs) {
                    value[0] = activate(p.clamp, fmaf(value[0], scale.x, bias.x));
                    value[1] = activate(p.clamp, fmaf(value[1], scale.y, bias.y));
                    value[2] = activate(p.clamp, fmaf(value[2], scale.z, bias.z));
                    value[3] = activate(p.clamp, fmaf(value[3], scale.w, bias.w));
                }
                store_quad(to, {value[0], value[1], value[2], value[3]});
            }
        }
    }

    // A warp slides down a column of output pixels with a channel in each lane: every row of the hidden tile is loaded once
    // and goes into all the sums that it belongs to. Channels beyond the last are 0 even where the input is infinite.
    __device__ void depthwise(int chunk) const
    {
        const float* const constants = shared + p.layout.depthwise + lane;
        float taps[kernel_taps];
#pragma unroll
        for (int i = 0; i < kernel_taps; ++i) taps[i] = constants[i * chunk_channels];
        const float scale = constants[kernel_taps * chunk_channels], bias = constants[(kernel_taps + 1) * chunk_channels];
        const bool exists = lane < channels_of(chunk);
        for (int strip = warp; strip < tile.images * p.tile_width; strip += Block::warps) {
            const int image = strip / p.tile_width, x = strip % p.tile_width;
            const float* const from = hidden() + (image * p.halo_height * p.halo_width + x * p.stride) * chunk_channels + lane;
            float* const to = filtered() + (image * p.tile_height * p.tile_width + x) * tile_stride + lane;
            const auto store = [&](int y, float sum) {
                to[y * p.tile_width * tile_stride] = exists ? activate(p.clamp, fmaf(sum, scale, bias)) : 0.0f;
            };
            if (p.stride == 1)
                slide_by_one(from, taps, store);
            else
                slide_by_two(from, taps, store);
        }
    }

    // Rows beyond the halo are its last one, of which nothing is stored.
    template <int count>
    __device__ void load_rows(float (&rows)[count][kernel_size], const float* from, int first) const
    {
#pragma unroll
        for (int i = 0; i < count; ++i) {
            const float* const row = from + min(first + i, p.halo_height - 1) * p.halo_width * chunk_channels;
#pragma unroll
            for (int x = 0; x < kernel_size; ++x) rows[i][x] = row[x * chunk_channels];
        }
    }

    __device__ static float add_row(float sum, const float (&row)[kernel_size], const float* taps)
    {
        return fmaf(row[2], taps[2], fmaf(row[1], taps[1], fmaf(row[0], taps[0], sum)));
    }

    static constexpr int rows_at_once = 4;  // their loads wait for memory together

    template <class Store>
    __device__ void slide_by_one(const float* from, const float (&taps)[kernel_taps], const Store& store) const
    {
        float head[2][kernel_size], rows[rows_at_once][kernel_size];
        load_rows(head, from, 0);
        float two = add_row(add_row(0.0f, head[0], taps), head[1], taps + 3);  // sums of two rows and of one
        float one = add_row(0.0f, head[1], taps);
        for (int y = 0; y < p.tile_height; y += rows_at_once) {
            load_rows(rows, from, y + 2);
#pragma unroll
            for (int i = 0; i < rows_at_once; ++i) {
                const float sum = add_row(two, rows[i], taps + 6);
                two = add_row(one, rows[i], taps + 3);
                one = add_row(0.0f, rows[i], taps);
                if (y + i < p.tile_height) store(y + i, sum);
            }
        }
    }

    template <class Store>
    __device__ void slide_by_two(const float* from, const float (&taps)[kernel_taps], const Store& store) const
    {
        float head[1][kernel_size], rows[rows_at_once][kernel_size];
        load_rows(head, from, 0);
        float one = add_row(0.0f, head[0], taps);
        for (int y = 0; y < p.tile_height; y += rows_at_once / 2) {
            load_rows(rows, from, 2 * y + 1);
#pragma unroll
            for (int i = 0; i < rows_at_once / 2; ++i) {
                const float sum = add_row(add_row(one, rows[2 * i], taps + 3), rows[2 * i + 1], taps + 6);
                one = add_row(0.0f, rows[2 * i + 1], taps);
                if (y + i < p.tile_height) store(y + i, sum);
            }
        }
    }

    using Totals = float[Block::parts][Block::pixels][thread_quads * quad];

    __device__ void project(int chunk, Totals& totals) const
    {
        const int pixels = tile.images * p.tile_height * p.tile_width, first_pixel = warp * Block::warp_pixels;
        if (first_pixel >= pixels) return;
        const float* rows[Block::pixels];
#pragma unroll
        for (int i = 0; i < Block::pixels; ++i)
            rows[i] = filtered() + min(first_pixel + i * pixel_lanes + pixel_lane, pixels - 1) * tile_stride;
        const int depth = round_up_to_quad(channels_of(chunk));
#pragma unroll
        for (int part = 0; part < Block::parts; ++part) {
            if (part * chunk_channels >= tile.channels) break;
            float sum[Block::pixels][thread_quads * quad] = {};
            multiply(sum, rows, shared + p.layout.project + part * chunk_channels + channel_lane * quad, Block::columns, depth);
#pragma unroll
            for (int i = 0; i < Block::pixels; ++i)
#pragma unroll
                for (int j = 0; j < thread_quads * quad; ++j) totals[part][i][j] += sum[i][j];
        }
    }

    // By way of the warp's own rows of the filtered tile, so that whole rows of channels are stored together.
    __device__ void store(const Totals& totals) const
    {
        const int first_pixel = warp * Block::warp_pixels;
        const int end = min(first_pixel + Block::warp_pixels, tile.images * p.tile_height * p.tile_width);
#pragma unroll
        for (int part = 0; part < Block::parts; ++part) {
            if (part * chunk_channels >= tile.channels) break;
            __syncwarp();  // what was in the rows is read
#pragma unroll
            for (int i = 0; i < Block::pixels; ++i) {
                const int pixel = first_pixel + i * pixel_lanes + pixel_lane;
                if (pixel >= end) continue;
#pragma unroll
                for (int q = 0; q < thread_quads; ++q) {
                    const float* const sums = totals[part][i] + q * quad;
                    store_quad(filtered() + pixel * tile_stride + (q * channel_lanes + channel_lane) * quad,
                               {sums[0], sums[1], sums[2], sums[3]});
                }
            }
            __syncwarp();
            store_part(part * chunk_channels, first_pixel, end);
        }
    }

    __device__ void store_part(int first_channel, int first_pixel, int end) const
    {
        constexpr int row_quads = chunk_channels / quad;
        const int channel = first_channel + lane % row_quads * quad;
        if (channel >= tile.channels) return;
        for (int pixel = first_pixel + lane / row_quads; pixel < end; pixel += 32 / row_quads) {
            const int x = tile.out_x + pixel % p.tile_width, row = pixel / p.tile_width;
            const int y = tile.out_y + row % p.tile_height, image = row / p.tile_height;
            if (y >= p.out_height || x >= p.out_width) continue;
            store_pixel(((tile.first_image + image) * p.out_height + y) * p.out_width + x, tile.first_channel + channel,
                        load_quad(filtered() + pixel * tile_stride + lane % row_quads * quad));
        }
    }

    // Four channels of an output pixel; with a shortcut, input and output have the same shape.
    __device__ void store_pixel(int64_t pixel, int channel, const float4& sums) const
    {
        const float* const constants = p.packed + channel;
        const float4 scale = load_quad(constants), bias = load_quad(constants + round_up_to_quad(p.out_channels));
        float4 values = {
            activate(p.project_clamp, fmaf(sums.x, scale.x, bias.x)), activate(p.project_clamp, fmaf(sums.y, scale.y, bias.y)),
            activate(p.project_clamp, fmaf(sums.z, scale.z, bias.z)), activate(p.project_clamp, fmaf(sums.w, scale.w, bias.w))};
        visit_type(p.type, [&](auto* null) {
            using T = std::remove_pointer_t<decltype(null)>;
            const int64_t first = pixel * p.out_channels;
            if (p.residual) {
                const float4 x = load_channels(static_cast<const T*>(p.input) + first, channel, p.out_channels);
                values = {values.x + x.x, values.y + x.y, values.z + x.z, values.w + x.w};
            }
            store_channels(static_cast<T*>(p.output) + first, channel, p.out_channels, values);
        });
    }
};

template <class Block>
__global__ void __launch_bounds__(Block::threads, Block::blocks_per_sm) general_block_kernel(GeneralBlockArguments p)
{
    MNV2_DYNAMIC_SHARED(shared);
    auto& tile = *reinterpret_cast<GeneralTile*>(shared);
    const GeneralWorker<Block> worker{p, reinterpret_cast<float*>(shared), tile};
    const int chunks = (p.expanded_channels + chunk_channels - 1) / chunk_channels;
    for (int64_t block = blockIdx.x; block < p.blocks; block += gridDim.x) {
        __syncthreads();  // the last tile is done with
        if (threadIdx.x == 0) tile = tile_of(p, block);
        __syncthreads();
        worker.lay_out();
        __syncthreads();
        worker.fetch_resident_input();
        worker.fetch_first(0);
        typename GeneralWorker<Block>::Totals totals = {};
        for (int chunk = 0; chunk < chunks; ++chunk) {
            ptx::cp_async_wait<0>();
            __syncthreads();  // the chunk's input is here, and the weights of the last projection are free
            worker.fetch_rest(chunk);
            if (p.has_expand) worker.expand(chunk);
            ptx::cp_async_wait<0>();
            __syncthreads();  // the hidden tile is complete, and the rest of the weights here
            worker.depthwise(chunk);
            __syncthreads();  // the filtered tile is complete; the hidden one and the expand's weights are free
            if (chunk + 1 < chunks) worker.fetch_first(chunk + 1);
            worker.project(chunk, totals);
        }
        worker.store(totals);
    }
}

}  // namespace mnv2::cuda
