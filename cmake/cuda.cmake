# Decides whether CUDA is built (mnv2_has_cuda), enables the language and sets the architectures. Needs no GPU.
include(cmake/cuda_archs.cmake)

set(mnv2_has_cuda FALSE)
set(mnv2_cuda_archs "")
string(TOLOWER "${MNV2_CUDA}" cuda_wish)
if(NOT cuda_wish MATCHES "^(|on|off)$")
    message(FATAL_ERROR "MNV2_CUDA must be on, off or empty, got '${MNV2_CUDA}'")
endif()

if(NOT cuda_wish STREQUAL "off")
    include(cmake/python.cmake)
    # pip's CUDA packages put the toolkit of release N in nvidia/cuN.
    mnv2_ask_python(
        pip_cuda
        "import glob, sysconfig; print(';'.join(sorted(glob.glob(sysconfig.get_path('purelib') + '/nvidia/cu*/bin'))))"
        "${Python_EXECUTABLE} does not run")
    unset(mnv2_nvcc CACHE)  # looked for anew: environment variables change between two runs
    find_program(mnv2_nvcc nvcc PATHS "$ENV{CUDA_HOME}/bin" NO_DEFAULT_PATH)
    find_program(mnv2_nvcc nvcc PATHS ${pip_cuda} NO_CMAKE_SYSTEM_PATH)
    if(mnv2_nvcc)
        set(mnv2_has_cuda TRUE)
    elseif(cuda_wish STREQUAL "on")
        message(
            FATAL_ERROR "MNV2_CUDA=on, but nvcc is neither in CUDA_HOME nor on PATH: "
                        "pip install nvidia-cuda-nvcc nvidia-cuda-runtime nvidia-cuda-cccl")
    endif()
endif()

if(mnv2_has_cuda)
    mnv2_cuda_architectures("$ENV{TORCH_CUDA_ARCH_LIST}" CMAKE_CUDA_ARCHITECTURES mnv2_cuda_archs)
    set(CMAKE_CUDA_COMPILER "${mnv2_nvcc}")
    enable_language(CUDA)
    set(CMAKE_CUDA_STANDARD 20)
    # A spill costs more than the kernels may lose, so it is an error for the GPUs that their tiles were chosen for.
    set(spills "-Xptxas=--warn-on-spills")
    if(mnv2_cuda_archs STREQUAL mnv2_default_cuda_archs)
        string(APPEND spills ",--warning-as-error")
    endif()
    # Kernels call the constexpr functions of core/.
    target_compile_options(mnv2_compile_options INTERFACE "$<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr;${spills}>")
endif()
