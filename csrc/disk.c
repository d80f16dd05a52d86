/* disk.c - see disk.h. */
#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "copy.h"
#include "crash.h"
#include "os.h"

enum {
    PIECE = 1 << 20,        /* written at a time */
    READ_PIECE = 256 << 10, /* read at a time: it is still in the cache when it is added up */
    TWO_THREADS = 16 << 20, /* from here on two threads read an object, each its half */
    LANES = 8,
    PUNCHED = 1 << 16, /* extents below this share their blocks of the file system with others */
};

/* What stands behind an object's bytes. */
typedef struct {
    unsigned char session[16];
    uint64_t slot, generation, len;
    uint64_t sum;
} tail;

int pm_disk_use(pm_arena *a, int fd)
{
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (own < 0)
        return PM_ESYS;
    a->disk_file = pm__os_file(own);
    a->disk_fd = own;
    pm_a64_store(&a->h->disk_pid, (uint64_t)a->pid);
    pm_a64_store(&a->h->disk_device, a->disk_file.device);
    pm_a64_store(&a->h->disk_inode, a->disk_file.inode);
    pm_a64_store(&a->h->disk_fd, (uint64_t)own + 1);
    return PM_OK;
}

/* The file, if the descriptor that the driver once had is still of it. */
static int opened(const pm_arena *a, pm_file file)
{
    char path[64];
    uint64_t fd = pm_a64_load(&a->h->disk_fd) - 1;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pm_a64_load(&a->h->disk_pid), (int)fd);
    int own = open(path, O_RDWR | O_CLOEXEC);
    if (own >= 0 && !pm__os_is_file(own, file)) {
        close(own);
        errno = EBADF;
        own = -1;
    }
    return own;
}

static int disk_fd(pm_arena *a)
{
    pm_file file = {pm_a64_load(&a->h->disk_device), pm_a64_load(&a->h->disk_inode)};
    int known = a->disk_fd;
    if (known >= 0 && pm__os_is_file(known, file))
        return known;
    int own = opened(a, file);
    if (own < 0)
        return -1;
    a->disk_file = file;
    if (atomic_compare_exchange_strong(&a->disk_fd, &known, own))
        return own; /* what had the number meanwhile is the program's, and not ours to close */
    close(own);
    return known;
}

void pm__disk_end(pm_arena *a)
{
    if (a->kind == PM_DRIVER && a->disk_fd >= 0 && pm__os_is_file(a->disk_fd, a->disk_file))
        (void)!ftruncate(a->disk_fd, 0);
}

void pm__disk_open(pm_arena *a)
{
    if (pm__has_disk(a))
        (void)disk_fd(a);
}

/* FNV-1a over 64-bit words in eight lanes, which a core multiplies side by side: 14 GB/s. A step is
 * one to one in what it takes, so no word that alone has changed goes unseen. */
static uint64_t mix(uint64_t sum, uint64_t word)
{
    return (sum ^ word) * UINT64_C(0x9e3779b97f4a7c15);
}

static void add_up(uint64_t lanes[LANES], const char *data, uint64_t len)
{
    uint64_t words[LANES], own[LANES], at = 0;
    memcpy(own, lanes, sizeof own); /* in registers */
    for (; len - at >= sizeof words; at += sizeof words) {
        memcpy(words, data + at, sizeof words);
#pragma GCC unroll 8
        for (int i = 0; i < LANES; i++)
            own[i] = mix(own[i], words[i]);
    }
    memcpy(lanes, own, sizeof own);
    memset(words, 0, sizeof words);
    memcpy(words, data + at, len - at);
    for (int i = 0; i < LANES && at < len; i++)
        lanes[i] = mix(lanes[i], words[i]);
}

static uint64_t sum_of(const uint64_t lanes[LANES], uint64_t len)
{
    uint64_t sum = len;
    for (int i = 0; i < LANES; i++) {
        sum = mix(sum, lanes[i]);
        sum ^= sum >> 29;
    }
    return sum;
}

static tail tail_of(const pm_arena *a, pm_ref of, uint64_t len, uint64_t sum)
{
    tail t = {.slot = of.slot, .generation = of.generation, .len = len, .sum = sum};
    memcpy(t.session, a->h->session, sizeof t.session);
    return t;
}

static uint64_t file_offset(const pm_arena *a, uint64_t extent)
{
    return (extent - a->disk.first) * PM_DISK_UNIT;
}

uint64_t pm__disk_alloc(pm_arena *a, uint64_t bytes)
{
    return pm__heap_alloc(&a->disk, (bytes + sizeof(tail) + PM_DISK_UNIT - 1) / PM_DISK_UNIT);
}

void pm__disk_free(pm_arena *a, uint64_t extent)
{
    pm__heap_free(&a->disk, extent);
}

/* Where the second half of an object begins, which is added up by itself; len: it has none. */
static uint64_t half_of(uint64_t len)
{
    return len < TWO_THREADS ? len : len / 2 / PIECE * PIECE;
}

static int write_part(int fd, uint64_t to, const char *data, uint64_t len, uint64_t *sum)
{
    uint64_t lanes[LANES] = {0};
    int rc = PM_OK;
    for (uint64_t at = 0; rc == PM_OK && at < len; at += PIECE) {
        uint64_t n = len - at < PIECE ? len - at : PIECE;
        add_up(lanes, data + at, n);
        rc = pm__os_pwrite(fd, data + at, n, to + at);
        PM_CRASH(DISK_WRITTEN);
    }
    *sum = mix(*sum, sum_of(lanes, len));
    return rc;
}

int pm__disk_write(pm_arena *a, uint64_t extent, pm_ref of, const char *data, uint64_t len)
{
    uint64_t to = file_offset(a, extent), half = half_of(len), sum = 0;
    int fd = disk_fd(a), rc = fd < 0 ? PM_ESYS : write_part(fd, to, data, half, &sum);
    if (rc == PM_OK)
        rc = write_part(fd, to + half, data + half, len - half, &sum);
    tail t = tail_of(a, of, len, sum);
    if (rc == PM_OK)
        rc = pm__os_pwrite(fd, &t, sizeof t, to + len);
    pm_a64_store(&a->h->disk_errno, rc == PM_OK ? 0 : (uint64_t)errno);
    return rc;
}

/* Some of an object's bytes, to be read by one thread. */
typedef struct {
    pm_arena *a;
    int fd, rc, error;         /* error: errno of PM_ESYS, which is the thread's own */
    uint64_t from, block, len; /* in the file, in the arena */
    uint64_t sum;
} part;

static void read_pieces(part *p, char *piece)
{
    uint64_t lanes[LANES] = {0};
    for (uint64_t at = 0; p->rc == PM_OK && at < p->len; at += READ_PIECE) {
        uint64_t n = p->len - at < READ_PIECE ? p->len - at : READ_PIECE;
        bool mapped = pm__map_in(p->a, p->block + at, n);
        char *to = mapped ? p->a->map.base + p->block + at : piece;
        p->rc = pm__os_pread(p->fd, to, n, p->from + at);
        if (p->rc == PM_OK)
            add_up(lanes, to, n);
        if (p->rc == PM_OK && !mapped)
            p->rc = pm__copy_in(p->a, p->block + at, piece, n);
    }
    p->sum = sum_of(lanes, p->len);
}

static void *read_part(void *arg)
{
    part *p = arg;
    /* For what does not exist yet, through memory that stays in the cache: a read into it would fault
     * for each page. */
    char *piece = malloc(p->len < READ_PIECE ? p->len + 1 : READ_PIECE);
    p->rc = piece ? PM_OK : PM_ESYS;
    if (piece)
        read_pieces(p, piece);
    p->error = errno;
    free(piece);
    return NULL;
}

static int read_all(pm_arena *a, int fd, uint64_t from, uint64_t block, uint64_t len, uint64_t *sum)
{
    uint64_t half = half_of(len);
    pthread_t helper;
    part first = {.a = a, .fd = fd, .from = from, .block = block, .len = half};
    part second = {.a = a, .fd = fd, .from = from + half, .block = block + half, .len = len - half};
    bool helped = second.len && pm__os_thread(&helper, read_part, &second) == PM_OK;
    read_part(&first);
    if (helped)
        pthread_join(helper, NULL);
    else
        read_part(&second);
    *sum = mix(mix(0, first.sum), second.sum);
    const part *failed = first.rc ? &first : &second;
    errno = failed->error;
    return failed->rc;
}

int pm__disk_read(pm_arena *a, uint64_t extent, pm_ref of, uint64_t block, uint64_t len)
{
    uint64_t from = file_offset(a, extent), sum;
    tail found;
    int fd = disk_fd(a), rc = fd < 0 ? PM_ELOST : read_all(a, fd, from, block, len, &sum);
    if (rc == PM_OK)
        rc = pm__os_pread(fd, &found, sizeof found, from + len);
    if (rc == PM_OK) {
        tail t = tail_of(a, of, len, sum);
        rc = memcmp(&t, &found, sizeof t) ? PM_ELOST : PM_OK;
    }
    return rc;
}

void pm__disk_punch(pm_arena *a, uint64_t extent)
{
    uint64_t bytes = pm__heap_usable(&a->disk, extent) * PM_DISK_UNIT;
    int fd = bytes < PUNCHED ? -1 : disk_fd(a);
    if (fd >= 0)
        fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)file_offset(a, extent),
                  (off_t)bytes);
}

uint64_t pm__disk_spare(const pm_arena *a)
{
    struct stat st;
    uint64_t used = *(const volatile uint64_t *)&a->h->disk_shm.used.v * PM_DISK_UNIT;
    if (a->disk_fd < 0 || !pm__os_is_file(a->disk_fd, a->disk_file) || fstat(a->disk_fd, &st))
        return 0;
    uint64_t has = (uint64_t)st.st_blocks * 512;
    return has > used ? has - used : 0;
}
