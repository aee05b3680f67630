// The library itself: its version, what it runs on, what its statuses mean.
#include "common.cuh"

extern "C" int tmgan_abi_version(void) { return TMGAN_ABI_VERSION; }

extern "C" int tmgan_on_host(void) {
#ifdef __CUDACC__
    return 0;
#else
    return 1;
#endif
}

extern "C" const char *tmgan_error_string(int status) {
    switch (status) {
        case TMGAN_OK:
            return "no error";
        case TMGAN_NULL_POINTER:
            return "a pointer is null";
        case TMGAN_BAD_SHAPE:
            return "a size is out of range";
        case TMGAN_BAD_DTYPE:
            return "unknown dtype";
        case TMGAN_BAD_OPTION:
            return "an option is out of range";
        case TMGAN_MISALIGNED:
            return "the workspace is not aligned to 16 bytes";
        case TMGAN_BAD_DEVICE:
            return "a negative device";
        default:
            break;
    }
#ifdef __CUDACC__
    if (status > 0) return cudaGetErrorString(static_cast<cudaError_t>(status));
#endif
    return "unknown status";
}
