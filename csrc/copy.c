/* copy.c - see copy.h. */
#include "copy.h"

#include <string.h>

#include "os.h"
#include "warm.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum {
    SMALL = 4 * PM_CHUNK, /* below this the pages' state is not worth asking */
    STREAMING = 8 << 20,  /* above this the bytes would only wash the cache */
    STRIDE = 16, /* chunks filled at a time: those behind may have come to exist meanwhile */
};

#if defined(__x86_64__)
/* Stores that bypass the cache. to is 64-byte aligned by the caller; from need not be. */
static void stream(char *to, const char *from, uint64_t len)
{
    uint64_t lines = len / 64;
    for (uint64_t i = 0; i < lines; i++, to += 64, from += 64) {
        __m128i a = _mm_loadu_si128((const __m128i *)(const void *)from);
        __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(from + 16));
        __m128i c = _mm_loadu_si128((const __m128i *)(const void *)(from + 32));
        __m128i d = _mm_loadu_si128((const __m128i *)(const void *)(from + 48));
        _mm_stream_si128((__m128i *)(void *)to, a);
        _mm_stream_si128((__m128i *)(void *)(to + 16), b);
        _mm_stream_si128((__m128i *)(void *)(to + 32), c);
        _mm_stream_si128((__m128i *)(void *)(to + 48), d);
    }
    _mm_sfence(); /* before the seal that makes them visible */
    memcpy(to, from, len % 64);
}
#else
static void stream(char *to, const char *from, uint64_t len)
{
    memcpy(to, from, len);
}
#endif

static void copy_mapped(char *to, const char *from, uint64_t len, bool streaming)
{
    uint64_t head = (64 - ((uintptr_t)to & 63)) & 63;
    if (!streaming || head >= len) {
        memcpy(to, from, len);
        return;
    }
    memcpy(to, from, head);
    stream(to + head, from + head, len - head);
}

/* The end of the run of chunks, from `chunk` on, whose pages all exist or all may not. */
static uint64_t run_end(const pm_arena *a, uint64_t chunk, uint64_t last)
{
    bool present = pm__is_present(a, chunk);
    while (++chunk <= last && pm__is_present(a, chunk) == present)
        ;
    return chunk;
}

static void map_chunks(pm_arena *a, uint64_t from, uint64_t to)
{
    for (uint64_t c = from; c < to; c++) {
        if (!pm__bit(a->mapped, c)) {
            (void)*(volatile char *)(a->map.base + a->h->heap + c * PM_CHUNK);
            pm__set_bit(a->mapped, c);
        }
    }
}

bool pm__map_in(pm_arena *a, uint64_t off, uint64_t len)
{
    uint64_t at = off - a->h->heap, first = at / PM_CHUNK, last = (at + len - 1) / PM_CHUNK;
    if (!pm__is_present(a, first) || run_end(a, first, last) <= last)
        return false;
    map_chunks(a, first, last + 1);
    return true;
}

int pm__copy_in(pm_arena *a, uint64_t off, const void *data, uint64_t len)
{
    const char *from = data;
    if (len < SMALL) {
        memcpy(a->map.base + off, from, len);
        return PM_OK;
    }
    uint64_t at = off - a->h->heap, end = at + len, last = (end - 1) / PM_CHUNK;
    bool asked = false, by_fault = pm_a64_load(&a->h->huge);
    while (at < end) {
        uint64_t chunk = at / PM_CHUNK, next = run_end(a, chunk, last);
        bool exists = pm__is_present(a, chunk);
        if (!exists && !asked)
            asked = pm__warm_from(a, end, (next - chunk) * PM_CHUNK);
        if (!exists && next > chunk + STRIDE)
            next = chunk + STRIDE;
        uint64_t stop = next * PM_CHUNK < end ? next * PM_CHUNK : end;
        if (exists || by_fault || !pm__os_is_file(a->fd, a->file)) {
            map_chunks(a, chunk, next);
            copy_mapped(a->map.base + a->h->heap + at, from, stop - at, len >= STREAMING);
        } else {
            int rc = pm__os_pwrite(a->fd, from, stop - at, a->h->heap + at);
            if (rc)
                return rc;
        }
        if (!exists) /* what is written whole has all its pages */
            pm__set_present(a, (at + PM_CHUNK - 1) / PM_CHUNK, stop / PM_CHUNK);
        from += stop - at;
        at = stop;
    }
    return PM_OK;
}
