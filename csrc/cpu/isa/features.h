// What this processor and its system have, asked for each instruction set.
#pragma once

namespace mnv2::cpu {

#if defined(__x86_64__)

bool supports_avx2();
bool supports_avx_vnni();  // 256-bit dot products of bytes, without AVX-512
bool supports_avx512();
bool supports_avx512_vnni();
bool supports_avx512_bf16();
bool supports_amx_bf16();  // with AVX-512's own bfloat16 instructions, which no processor with AMX lacks
bool supports_amx_int8();  // with AVX-512's own dot products of bytes

// Asks the system for tile registers; whether it gave them. A process that has them needs 8 KiB more a thread and larger signal
// stacks: only processes that multiply by AMX are to ask.
bool request_tile_registers();

bool is_amd();

#elif defined(__aarch64__)

bool supports_neon();
bool supports_neon_dotprod();
bool supports_neon_i8mm();
bool supports_neon_fp16();
bool supports_neon_bf16();

#endif

}  // namespace mnv2::cpu
