// The inverted residual of any shape, in float32 arithmetic whatever the tensors' type. It serves float32, and every block that
// no kernel on tensor cores serves.
//
// A thread block makes a tile of output pixels, of one image or of several small ones, and a slice of the output channels.
// For each chunk of 32 expanded channels it expands the tile's input pixels into shared memory, where pixels outside the
// image are zero, takes the depthwise convolution from there to a second tile, and projects that into registers. Both matrix
// products are tiled in registers: a thread has `pixels` pixels, eight apart, and 8 channels in two quads.
//
// A sum never has more than 191 depths in a row: the projection adds a chunk's 32 to its totals; an expand of 192 input
// channels or more adds up slabs of 32, which it streams through shared memory, while fewer stay there. So every output is
// added up in the same order, whatever the tile.
//
// Packed weights, all float: the projection's scales and biases, then the chunks. Rows of a chunk have 32 channels: scale
// and bias of the expand and its weights, by depth; nine taps, scale and bias of the depthwise convolution; then 32 rows of
// the projection, by depth. Channels and depths are rounded up to four with zeros.
#pragma once
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/common/ptx.cuh"
#include "cuda/common/quads.cuh"
#include "cuda/general_block/tile.cuh"

namespace mnv2::cuda {

// The work of a thread block, phase by phase. The kernel places the barriers.
template <class Block>
struct GeneralWorker {
    const GeneralBlockArguments& p;
    float* const shared;
    const GeneralTile& tile;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    // Neighbours that differ in bit 0 load the same pixel, and in bit 1 the same weights: pairs of lanes that share 16
    // bytes let shared memory serve half a warp at a time. Eight neighbours store to all banks: four pixels, each
    // at two places 16 channels apart.
    const int pixel_lane = lane / 2 % pixel_lanes, channel_lane = lane % 2 * 2 + lane / 16;

    const int chunks = divide_up(p.expanded_channels, chunk_channels);

    __device__ int planes_of(int chunk) const { return Block::spread ? min(p.planes, chunks - chunk) : 1; }
    __device__ int64_t* sources() const { return reinterpret_cast<int64_t*>(shared + p.layout.sources); }
    __device__ int* places() const { return reinterpret_cast<int*>(shared + p.layout.places); }
    __device__ float* expanded(int plane) const { return shared + p.layout.expanded + plane * p.layout.expanded_plane; }
    __device__ float* depthwise_out(int plane) const
    {
        return shared + p.layout.depthwise_out + plane * p.layout.depthwise_out_plane;
    }
    __device__ int output_pixels() const { return tile.images * p.tile_height * p.tile_width; }
    __device__ int channels_of(int chunk) const { return min(chunk_channels, p.expanded_channels - chunk * chunk_channels); }

    __device__ const float* chunk_weights(int chunk) const
    {
        return p.packed + 2 * round_up(p.out_channels, quad_channels) +
               chunk * chunk_floats(p.in_channels, p.out_channels, p.has_expand);
    }

    // Notes which pixels of the tensor the tile takes and where they lie in its halo. Zeroes the halo outside the image.
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
        float4* const zeros = reinterpret_cast<float4*>(expanded(0));
        for (int i = threadIdx.x; i < p.planes * p.layout.expanded_plane / quad_channels; i += Block::threads)
            ptx::store_shared(zeros + i, float4{});
    }

    __device__ static void copy(float* to, const float* from, int floats)
    {
        for (int i = threadIdx.x * quad_channels; i < floats; i += Block::threads * quad_channels)
            ptx::cp_async16(to + i, from + i);
    }

    // Fetches `depth` input channels from `first` on, for all pixels of the tile: pixel i goes to row i, or to row place[i].
    __device__ void fetch_input(float* to, int pixel_stride, int first, int depth, const int* place) const
    {
        const int quads = depth / quad_channels;
        const auto for_every_quad = [&](const auto& fetch) {
            for (int i = threadIdx.x; i < tile.pixels * quads; i += Block::threads) {
                const int pixel = i / quads, channel = i % quads * quad_channels;
                fetch(to + (place ? place[pixel] : pixel) * pixel_stride + channel, sources()[pixel], first + channel);
            }
        };
        visit_type(p.type, [&](auto* null) {
            using T = std::remove_pointer_t<decltype(null)>;
            const T* const input = static_cast<const T*>(p.input);
            for_every_quad([&](float* at, int64_t pixel, int channel) {
                const T* const from = input + pixel * p.in_channels;
                if constexpr (std::is_same_v<T, float>) {
                    if (p.in_channels % quad_channels == 0 && channel < p.in_channels)
                        return ptx::cp_async16(at, from + channel);
                }
                ptx::store_shared(at, load_channels(from, channel, p.in_channels));
            });
        });
    }

    __device__ int depth_of(int slab) const { return min(p.depth, round_up(p.in_channels, quad_channels) - slab * p.depth); }

    __device__ float* input_slab(int slab) const { return shared + p.layout.input + slab % 2 * p.layout.input_slab; }

    // Where all input channels are one slab, they stay in shared memory.
    __device__ void fetch_resident_input() const
    {
        if (p.has_expand && p.slabs == 1) fetch_input(input_slab(0), p.layout.input_stride, 0, p.depth, nullptr);
    }

    __device__ float* expand_weights(int plane, int slab) const
    {
        return shared + p.layout.expand_weights + slab % 2 * p.layout.expand_slab + plane * p.depth * chunk_channels;
    }

    __device__ void fetch_slab(int chunk, int planes, int slab) const
    {
        if (p.slabs > 1) fetch_input(input_slab(slab), p.layout.input_stride, slab * p.depth, depth_of(slab), nullptr);
        for (int plane = 0; plane < planes; ++plane)
            copy(expand_weights(plane, slab), chunk_weights(chunk + plane) + (constant_rows + slab * p.depth) * chunk_channels,
                 depth_of(slab) * chunk_channels);
    }

    __device__ float* expand_constants(int plane) const
    {
        return shared + p.layout.expand_constants + plane * constant_rows * chunk_channels;
    }

    // Fetches what the first step of a chunk needs: weights of the expand layer or, without one, the input itself.
    __device__ void fetch_first(int chunk, int planes) const
    {
        for (int plane = 0; plane < planes; ++plane) {
            if (p.has_expand)
                copy(expand_constants(plane), chunk_weights(chunk + plane), constant_rows * chunk_channels);
            else
                fetch_input(expanded(plane), tile_stride, (chunk + plane) * chunk_channels, chunk_channels, places());
        }
        if (p.has_expand) fetch_slab(chunk, planes, 0);
        ptx::cp_async_commit();
    }

    __device__ float* depthwise_weights(int plane) const
    {
        return shared + p.layout.depthwise + plane * depthwise_rows * chunk_channels;
    }

    // Distance from one depth of the projection's weights to the next.
    __device__ int columns() const { return Block::spread ? p.slice_channels : Block::columns; }

    __device__ float* project_weights(int plane) const
    {
        return shared + p.layout.project + plane * chunk_channels * columns();
    }

    __device__ void fetch_rest(int chunk, int planes) const
    {
        const int row = round_up(p.out_channels, quad_channels), quads = round_up(tile.channels, quad_channels) / quad_channels;
        for (int plane = 0; plane < planes; ++plane) {
            const float* const from = chunk_weights(chunk + plane) + expand_floats(p.in_channels, p.has_expand);
            copy(depthwise_weights(plane), from, depthwise_rows * chunk_channels);
            const float* const project = from + depthwise_rows * chunk_channels + tile.first_channel;
            for (int i = threadIdx.x; i < round_up(channels_of(chunk + plane), quad_channels) * quads; i += Block::threads) {
                const int k = i / quads, channel = i % quads * quad_channels;
                ptx::cp_async16(project_weights(plane) + k * columns() + channel, project + int64_t{k} * row + channel);
            }
        }
        ptx::cp_async_commit();
    }

    __device__ void expand(int chunk, int planes) const
    {
        const int tasks = (tile.pixels + Block::warp_pixels - 1) / Block::warp_pixels * planes;
        for (int slab = 0; slab < p.slabs; ++slab) {
            if (slab > 0) {
                ptx::cp_async_wait<0>();
                __syncthreads();
            }
            if (slab + 1 < p.slabs) {
                fetch_slab(chunk, planes, slab + 1);
                ptx::cp_async_commit();
            }
            for (int task = warp; task < tasks; task += Block::warps)
                expand_slab(task / planes * Block::warp_pixels, task % planes, slab);
        }
    }

    // Adds a slab's products to the expanded tile, which holds the sum of the earlier slabs; the last slab completes it.
    __device__ void expand_slab(int first_pixel, int plane, int slab) const
    {
        const float* rows[Block::pixels];
#pragma unroll
        for (int i = 0; i < Block::pixels; ++i) {
            const int pixel = min(first_pixel + i * pixel_lanes + pixel_lane, tile.pixels - 1);
            rows[i] = input_slab(slab) + pixel * p.layout.input_stride;
        }
        float sum[Block::pixels][thread_quads * quad_channels] = {};
        multiply(sum, rows, expand_weights(plane, slab) + channel_lane * thread_quads * quad_channels, chunk_channels,
                 depth_of(slab));
#pragma unroll
        for (int q = 0; q < thread_quads; ++q) {
            const int channel = (channel_lane * thread_quads + q) * quad_channels;
            const float* const constants = expand_constants(plane) + channel;
            const float4 scale = ptx::load_shared<float4>(constants);
            const float4 bias = ptx::load_shared<float4>(constants + chunk_channels);
#pragma unroll
            for (int i = 0; i < Block::pixels; ++i) {
                const int pixel = first_pixel + i * pixel_lanes + pixel_lane;
                if (pixel >= tile.pixels) continue;
                float* const to = expanded(plane) + places()[pixel] * tile_stride + channel;
                float* const value = sum[i] + q * quad_channels;
                if (slab > 0) {
                    const float4 earlier = ptx::load_shared<float4>(to);
                    value[0] += earlier.x;
                    value[1] += earlier.y;
                    value[2] += earlier.z;
                    value[3] += earlier.w;
                }
                if (slab + 1 == p.slabs) {
                    value[0] = activate(p.clamp, ptx::multiply_add(value[0], scale.x, bias.x));
                    value[1] = activate(p.clamp, ptx::multiply_add(value[1], scale.y, bias.y));
                    value[2] = activate(p.clamp, ptx::multiply_add(value[2], scale.z, bias.z));
                    value[3] = activate(p.clamp, ptx::multiply_add(value[3], scale.w, bias.w));
                }
                ptx::store_shared(to, float4{value[0], value[1], value[2], value[3]});
            }
        }
    }

    struct Filter {
        float taps[kernel_taps], scale, bias;
        bool exists;  // a channel beyond the last is 0 even where the input is infinite
    };

    __device__ Filter filter_of(int chunk, int plane) const
    {
        const float* const constants = depthwise_weights(plane) + lane;
        Filter filter;
#pragma unroll
        for (int i = 0; i < kernel_taps; ++i) filter.taps[i] = ptx::load_shared<float>(constants + i * chunk_channels);
        filter.scale = ptx::load_shared<float>(constants + kernel_taps * chunk_channels);
        filter.bias = ptx::load_shared<float>(constants + (kernel_taps + 1) * chunk_channels);
        filter.exists = lane < channels_of(chunk + plane);
        return filter;
    }

    __device__ void depthwise(int chunk, int planes) const
    {
        const int strips = tile.images * p.tile_width;
        if constexpr (Block::spread) {
            for (int task = warp; task < strips * planes; task += Block::warps)
                filter_strip(filter_of(chunk, task % planes), task % planes, task / planes);
        } else {
            const Filter filter = filter_of(chunk, 0);
            for (int strip = warp; strip < strips; strip += Block::warps) filter_strip(filter, 0, strip);
        }
    }

    // A warp slides down a column of output pixels with a channel in each lane: every row of the expanded tile is loaded once
    // and goes into all the sums that it belongs to.
    __device__ void filter_strip(const Filter& filter, int plane, int strip) const
    {
        const int image = strip / p.tile_width, x = strip % p.tile_width;
        const float* const from = expanded(plane) + (image * p.halo_height * p.halo_width + x * p.stride) * tile_stride + lane;
        float* const to = depthwise_out(plane) + (image * p.tile_height * p.tile_width + x) * tile_stride + lane;
        if (p.stride == 1)
            slide_by_one(filter, from, to);
        else
            slide_by_two(filter, from, to);
    }

    // Loads the next rows of a column, so that they wait for memory together.
    template <int count>
    __device__ void load_rows(float (&rows)[count][kernel_size], const float*& from) const
    {
#pragma unroll
        for (int i = 0; i < count; ++i, from += p.halo_width * tile_stride)
#pragma unroll
            for (int x = 0; x < kernel_size; ++x) rows[i][x] = ptx::load_shared<float>(from + x * tile_stride);
    }

    __device__ static float add_row(float sum, const float (&row)[kernel_size], const float* taps)
    {
        return ptx::multiply_add(row[2], taps[2], ptx::multiply_add(row[1], taps[1], ptx::multiply_add(row[0], taps[0], sum)));
    }

    __device__ void store_depthwise_out(const Filter& filter, float sum, float*& to) const
    {
        const float value = activate(p.clamp, ptx::multiply_add(sum, filter.scale, filter.bias));
        ptx::store_shared(to, filter.exists ? value : 0.0f);
        to += p.tile_width * tile_stride;
    }

    static constexpr int rows_at_once = 4;

    __device__ void slide_by_one(const Filter& filter, const float* from, float* to) const
    {
        float head[2][kernel_size];
        load_rows(head, from);
        float two = add_row(add_row(0.0f, head[0], filter.taps), head[1], filter.taps + 3);  // sums of two rows and of one
        float one = add_row(0.0f, head[1], filter.taps);
        const auto slide = [&](auto& rows) {
            load_rows(rows, from);
#pragma unroll
            for (const auto& row : rows) {
                store_depthwise_out(filter, add_row(two, row, filter.taps + 6), to);
                two = add_row(one, row, filter.taps + 3);
                one = add_row(0.0f, row, filter.taps);
            }
        };
        float rows[rows_at_once][kernel_size], last[1][kernel_size];
        int y = 0;
        for (; y + rows_at_once <= p.tile_height; y += rows_at_once) slide(rows);
        for (; y < p.tile_height; ++y) slide(last);
    }

    __device__ void slide_by_two(const Filter& filter, const float* from, float* to) const
    {
        float head[1][kernel_size];
        load_rows(head, from);
        float one = add_row(0.0f, head[0], filter.taps);
        for (int y = 0; y < p.tile_height; ++y) {
            float rows[2][kernel_size];
            load_rows(rows, from);
            store_depthwise_out(filter, add_row(add_row(one, rows[0], filter.taps + 3), rows[1], filter.taps + 6), to);
            one = add_row(0.0f, rows[1], filter.taps);
        }
    }

    using Sum = float[Block::pixels][thread_quads * quad_channels];
    using Totals = Sum[Block::parts];

    // The sums of 32 output channels over the depths of one chunk.
    __device__ void project_part(Sum& sum, int first_pixel, int part, int chunk, int plane) const
    {
        const float* rows[Block::pixels];
#pragma unroll
        for (int i = 0; i < Block::pixels; ++i) {
            const int pixel = min(first_pixel + i * pixel_lanes + pixel_lane, output_pixels() - 1);
            rows[i] = depthwise_out(plane) + pixel * tile_stride;
        }
        multiply(sum, rows, project_weights(plane) + part * chunk_channels + channel_lane * thread_quads * quad_channels,
                 columns(), round_up(channels_of(chunk + plane), quad_channels));
    }

    __device__ void project(int chunk, Totals& totals) const
    {
        const int first_pixel = warp * Block::warp_pixels;
        if (first_pixel >= output_pixels()) return;
#pragma unroll
        for (int part = 0; part < Block::parts; ++part) {
            if (part * chunk_channels >= tile.channels) break;
            Sum sum = {};
            project_part(sum, first_pixel, part, chunk, 0);
#pragma unroll
            for (int i = 0; i < Block::pixels; ++i)
#pragma unroll
                for (int j = 0; j < thread_quads * quad_channels; ++j) totals[part][i][j] += sum[i][j];
        }
    }

    // Stores the sums of every chunk in its own plane, then adds the planes to the totals, one after another.
    __device__ void project_spread(int chunk, int planes) const
    {
        const int parts = (tile.channels + chunk_channels - 1) / chunk_channels, pixels = output_pixels();
        const int tasks = (pixels + Block::warp_pixels - 1) / Block::warp_pixels * parts * planes;
        for (int task = warp; task < tasks; task += Block::warps) {
            const int plane = task % planes, part = task / planes % parts;
            const int first_pixel = task / planes / parts * Block::warp_pixels;
            Sum sum = {};
            project_part(sum, first_pixel, part, chunk, plane);
            float* const rows = shared + p.layout.partials + plane * p.layout.partial_plane + part * chunk_channels;
            put_rows(rows, p.layout.row, first_pixel, pixels, sum);
        }
        __syncthreads();
        const int quads = parts * row_quads;
        for (int i = threadIdx.x; i < pixels * quads; i += Block::threads) {
            const int at = i / quads * p.layout.row + i % quads * quad_channels;
            float4 total = chunk == 0 ? float4{} : ptx::load_shared<float4>(shared + p.layout.totals + at);
            for (int plane = 0; plane < planes; ++plane) {
                const float4 sum = ptx::load_shared<float4>(shared + p.layout.partials + plane * p.layout.partial_plane + at);
                total = {total.x + sum.x, total.y + sum.y, total.z + sum.z, total.w + sum.w};
            }
            ptx::store_shared(shared + p.layout.totals + at, total);
        }
    }

    __device__ void put_rows(float* rows, int stride, int first_pixel, int end, const Sum& sum) const
    {
#pragma unroll
        for (int i = 0; i < Block::pixels; ++i) {
            const int pixel = first_pixel + i * pixel_lanes + pixel_lane;
            if (pixel >= end) continue;
#pragma unroll
            for (int q = 0; q < thread_quads; ++q) {
                const float* const values = sum[i] + q * quad_channels;
                ptx::store_shared(rows + pixel * stride + (channel_lane * thread_quads + q) * quad_channels,
                                  float4{values[0], values[1], values[2], values[3]});
            }
        }
    }

    static constexpr int row_quads = chunk_channels / quad_channels, rows_per_warp = 32 / row_quads;

    // Stores through the warp's own rows of the depthwise outputs, so that whole rows of channels go to memory together.
    __device__ void store(const Totals& totals) const
    {
        const int first_pixel = warp * Block::warp_pixels, end = min(first_pixel + Block::warp_pixels, output_pixels());
#pragma unroll
        for (int part = 0; part < Block::parts; ++part) {
            if (part * chunk_channels >= tile.channels) break;
            __syncwarp();  // the rows' earlier content is read
            put_rows(depthwise_out(0), tile_stride, first_pixel, end, totals[part]);
            __syncwarp();
            store_part(depthwise_out(0), tile_stride, part * chunk_channels, first_pixel, end, rows_per_warp);
        }
    }

    __device__ void store_spread() const
    {
        for (int first_channel = 0; first_channel < tile.channels; first_channel += chunk_channels)
            store_part(shared + p.layout.totals + first_channel, p.layout.row, first_channel, warp * rows_per_warp,
                       output_pixels(), Block::warps * rows_per_warp);
    }

    // Stores rows of 32 channels: the warp takes rows_per_warp pixels from first_pixel on, then as many `step` pixels further.
    __device__ void store_part(const float* rows, int stride, int first_channel, int first_pixel, int end, int step) const
    {
        const int channel = first_channel + lane % row_quads * quad_channels;
        if (channel >= tile.channels) return;
        for (int pixel = first_pixel + lane / row_quads; pixel < end; pixel += step) {
            const int x = tile.out_x + pixel % p.tile_width, row = pixel / p.tile_width;
            const int y = tile.out_y + row % p.tile_height, image = row / p.tile_height;
            if (y >= p.out_height || x >= p.out_width) continue;
            store_pixel(((tile.first_image + image) * p.out_height + y) * p.out_width + x, tile.first_channel + channel,
                        ptx::load_shared<float4>(rows + pixel * stride + lane % row_quads * quad_channels));
        }
    }

    // Four channels of an output pixel; with a shortcut, input and output have the same shape.
    __device__ void store_pixel(int64_t pixel, int channel, const float4& sums) const
    {
        const float* const constants = p.packed + channel;
        const float4 scale = load_quad(constants), bias = load_quad(constants + round_up(p.out_channels, quad_channels));
        float4 values = {activate(p.project_clamp, ptx::multiply_add(sums.x, scale.x, bias.x)),
                         activate(p.project_clamp, ptx::multiply_add(sums.y, scale.y, bias.y)),
                         activate(p.project_clamp, ptx::multiply_add(sums.z, scale.z, bias.z)),
                         activate(p.project_clamp, ptx::multiply_add(sums.w, scale.w, bias.w))};
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
    for (int64_t block = blockIdx.x; block < p.blocks; block += gridDim.x) {
        __syncthreads();  // the previous tile is done
        if (threadIdx.x == 0) tile = tile_of(p, block);
        __syncthreads();
        worker.lay_out();
        __syncthreads();
        worker.fetch_resident_input();
        worker.fetch_first(0, worker.planes_of(0));
        [[maybe_unused]] typename GeneralWorker<Block>::Totals totals = {};
        for (int chunk = 0, planes; chunk < worker.chunks; chunk += planes) {
            planes = worker.planes_of(chunk);
            ptx::cp_async_wait<0>();
            __syncthreads();  // the chunks' input is here, and the weights of the last projection are free
            worker.fetch_rest(chunk, planes);
            if (p.has_expand) worker.expand(chunk, planes);
            ptx::cp_async_wait<0>();
            __syncthreads();  // the expanded tile is complete, and the rest of the weights here
            worker.depthwise(chunk, planes);
            __syncthreads();  // the depthwise outputs are complete; the expanded tile and the expand's weights are free
            if (chunk + planes < worker.chunks) worker.fetch_first(chunk + planes, worker.planes_of(chunk + planes));
            if constexpr (Block::spread)
                worker.project_spread(chunk, planes);
            else
                worker.project(chunk, totals);
        }
        if constexpr (Block::spread) {
            __syncthreads();
            worker.store_spread();
        } else {
            worker.store(totals);
        }
    }
}

}  // namespace mnv2::cuda
