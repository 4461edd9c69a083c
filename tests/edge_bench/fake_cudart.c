/* A stand-in for libcudart: device memory is the host's, everything is synchronous. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}
int cudaGetDeviceCount(int *count) {
    if (getenv("CUDA_DOUBLE_BROKEN")) return 35;
    *count = getenv("CUDA_DOUBLE_EMPTY") ? 0 : 1;
    return 0;
}
const char *cudaGetErrorString(int code) { return code == 35 ? "CUDA driver version is insufficient" : "error"; }
int cudaSetDevice(int device) { return device ? 1 : 0; }
int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 6 : attribute == 76 ? 2 : -1;
    return device ? 1 : 0;
}
int cudaMalloc(void **pointer, size_t size) { *pointer = malloc(size < 8192 ? 8192 : size); return *pointer ? 0 : 2; }
int cudaFree(void *pointer) { free(pointer); return 0; }
int cudaMallocHost(void **pointer, size_t size) { *pointer = malloc(size); return *pointer ? 0 : 2; }
int cudaFreeHost(void *pointer) { free(pointer); return 0; }
int cudaMemcpyAsync(void *target, const void *source, size_t size, int kind, void *stream) {
    if ((kind != 1 && kind != 2) || !stream) return 1;
    memcpy(target, source, size);
    return 0;
}
int cudaStreamCreate(void **stream) { *stream = malloc(8); return 0; }
int cudaStreamSynchronize(void *stream) { return stream ? 0 : 1; }
int cudaEventCreate(void **event) { *event = calloc(1, sizeof(double)); return 0; }
int cudaEventRecord(void *event, void *stream) { *(double *)event = now_ms(); return stream ? 0 : 1; }
int cudaEventSynchronize(void *event) { return event ? 0 : 1; }
int cudaEventElapsedTime(float *ms, void *start, void *end) {
    *ms = (float)(*(double *)end - *(double *)start);
    return 0;
}
