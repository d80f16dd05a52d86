/* arena.c - create, attach, carve up; see arena.h and layout.h. */
#include "arena.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "os.h"

enum {
    ENTRIES = 4 << 20,
    HOLDS = 8 << 20,
    TASKS = 4 << 20,
    KEYS = 1 << 20,
    BUCKETS = 1 << 20,
    PAGE = 4096,
};

static uint64_t fingerprint(void)
{
    const uint64_t sizes[] = {sizeof(pm_header_shm),
                              sizeof(pm_client_shm),
                              sizeof(pm_entry_shm),
                              sizeof(pm_hold_shm),
                              sizeof(pm_task_shm),
                              sizeof(pm_key_shm),
                              sizeof(pm_waiter_shm),
                              sizeof(pm_event_shm),
                              PM_EVENTS,
                              sizeof(pthread_mutex_t),
                              PM_UNDO_MAX,
                              PM_CLIENTS,
                              PM_WAITERS};
    uint64_t f = UINT64_C(0xcbf29ce484222325);
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++)
        f = (f ^ sizes[i]) * UINT64_C(0x100000001b3);
    return f;
}

static uint64_t carve(uint64_t *end, uint64_t bytes)
{
    uint64_t at = *end;
    *end = (at + bytes + PAGE - 1) / PAGE * PAGE;
    return at;
}

static uint64_t carve_pool(pm_pool_shm *p, uint64_t *end, uint64_t n, uint64_t stride,
                           uint64_t link)
{
    *p = (pm_pool_shm){.capacity = n, .stride = stride, .link = link};
    return p->offset = carve(end, n * stride);
}

static void plan(pm_header_shm *h, uint64_t heap_bytes, uint64_t disk_bytes)
{
    uint64_t end = 0;
    carve(&end, sizeof(pm_header_shm));
    h->clients = carve(&end, PM_CLIENTS * sizeof(pm_client_shm));
    h->waiters = carve(&end, PM_CLIENTS * PM_WAITERS * sizeof(pm_waiter_shm));
    carve_pool(&h->entries, &end, ENTRIES, sizeof(pm_entry_shm), offsetof(pm_entry_shm, link));
    carve_pool(&h->holds, &end, HOLDS, sizeof(pm_hold_shm), offsetof(pm_hold_shm, next));
    carve_pool(&h->tasks, &end, TASKS, sizeof(pm_task_shm), offsetof(pm_task_shm, next));
    carve_pool(&h->keys, &end, KEYS, sizeof(pm_key_shm), offsetof(pm_key_shm, next));
    h->bucket_count = BUCKETS;
    h->buckets = carve(&end, BUCKETS * sizeof(pm_j64));
    h->events = carve(&end, PM_EVENTS * sizeof(pm_event_shm));
    h->heap_bytes = (heap_bytes + PAGE - 1) / PAGE * PAGE;
    h->present = carve(&end, (h->heap_bytes / PM_CHUNK / 64 + 1) * sizeof(pm_a64));
    h->owners = carve(&end, (h->heap_bytes / PM_CHUNK + 2) * sizeof(pm_a64));
    h->used = carve(&end, ENTRIES * sizeof(pm_a64));
    h->pages = carve(&end, pm__heap_table_bytes(h->heap_bytes));
    h->disk_bytes = disk_bytes / PM_DISK_UNIT / PAGE * PAGE;
    h->disk_pages = carve(&end, pm__heap_table_bytes(h->disk_bytes));
    end = (end + PM_CHUNK - 1) / PM_CHUNK * PM_CHUNK;
    h->heap = carve(&end, h->heap_bytes);
    h->size = end;
}

static void point(pm_arena *a)
{
    char *base = a->map.base;
    pm_header_shm *h = a->h;
    a->clients = (pm_client_shm *)(base + h->clients);
    a->waiters = (pm_waiter_shm *)(base + h->waiters);
    a->entries = (pm_entry_shm *)(base + h->entries.offset);
    a->holds = (pm_hold_shm *)(base + h->holds.offset);
    a->tasks = (pm_task_shm *)(base + h->tasks.offset);
    a->keys = (pm_key_shm *)(base + h->keys.offset);
    a->buckets = (pm_j64 *)(base + h->buckets);
    a->events = (pm_event_shm *)(base + h->events);
    a->present = (pm_a64 *)(base + h->present);
    a->owners = (pm_a64 *)(base + h->owners);
    a->used = (pm_a64 *)(base + h->used);
    pm_lock_open(&a->lock, &h->lock, base);
    pm__heap_open(&a->heap, &a->lock, &h->heap_shm, base, h->pages, h->heap);
    pm__heap_open(&a->disk, &a->lock, &h->disk_shm, base, h->disk_pages, PAGE);
}

static char *private_table(uint64_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        return NULL;
    madvise(at, bytes, MADV_DONTDUMP);
    madvise(at, bytes, MADV_DONTFORK);
    return at;
}

static uint64_t mapped_bytes(const pm_header_shm *h)
{
    return (h->heap_bytes / PM_CHUNK / 64 + 1) * sizeof(uint64_t);
}

static int open_maps(pm_arena *a, uint64_t size)
{
    a->map.size = size;
    a->file = pm__os_file(a->fd);
    int rc = pm__os_map(a->fd, 0, size, true, &a->map.base);
    if (rc)
        return rc;
    a->h = (pm_header_shm *)a->map.base;
    return PM_OK;
}

/* A kernel that refuses has small pages. */
static void ask_for_huge_pages(const pm_arena *a)
{
    madvise(a->map.base + a->h->heap, a->h->heap_bytes, MADV_HUGEPAGE);
    madvise(a->readable, a->readable_bytes, MADV_HUGEPAGE);
}

void pm_huge_pages(pm_arena *a)
{
    pm_a64_store(&a->h->huge, 1);
    ask_for_huge_pages(a);
}

static int open_rest(pm_arena *a)
{
    point(a);
    int rc = pm__os_map(a->fd, a->h->heap, a->h->heap_bytes, false, &a->readable);
    if (rc)
        return rc;
    a->readable_bytes = a->h->heap_bytes;
    if (pm_a64_load(&a->h->huge))
        ask_for_huge_pages(a);
    a->local = (pm_local *)private_table(a->h->entries.capacity * sizeof(pm_local));
    a->mapped = (_Atomic uint64_t *)private_table(mapped_bytes(a->h));
    a->pid = getpid();
    a->cores = pm__os_cores();
    return a->local && a->mapped ? PM_OK : PM_ESYS;
}

/* All is the machine's, bundle 0; GPUs are whole. */
static int format_resources(pm_header_shm *h, const pm_total *totals, uint64_t n)
{
    static const char *const FIRST[] = {"CPU", "GPU", "memory"};
    pm_bundle_shm *machine = &h->bundles[0];
    uint64_t gpus = n > PM_GPU ? totals[PM_GPU].amount / PM_UNITS : 0;
    if (n < 1 || n > PM_KINDS || gpus > PM_DEVICES)
        return PM_EINVAL;
    h->kinds = n > PM_CUSTOM ? n : PM_CUSTOM;
    for (uint64_t k = 0; k < h->kinds; k++) {
        const char *name = k < PM_CUSTOM ? FIRST[k] : totals[k].name;
        if (strlen(name) >= PM_KIND_NAME)
            return PM_EINVAL;
        memcpy(h->kind_names[k], name, strlen(name) + 1);
        h->total[k] = k == PM_GPU ? gpus * PM_UNITS : k < n ? totals[k].amount : 0;
        machine->total[k].v = machine->free[k].v = h->total[k];
    }
    machine->devices.v = gpus == 64 ? UINT64_MAX : (UINT64_C(1) << gpus) - 1;
    for (uint64_t i = 1; i + 1 < PM_BUNDLES; i++)
        h->bundles[i].next.v = i + 2;
    h->bundle_free.v = 2;
    return PM_OK;
}

static int format(pm_arena *a, const pm_header_shm *planned, const pm_total *totals, uint64_t n)
{
    pm_header_shm *h = a->h;
    *h = *planned; /* also touches all of the header, so that no lock hold has to */
    h->version = PM_VERSION;
    h->fingerprint = fingerprint();
    h->pid_ns = pm__os_pid_namespace();
    int rc = format_resources(h, totals, n);
    if (!rc)
        rc = pm__os_random(h->session, sizeof h->session);
    if (!rc)
        rc = pm_lock_init(&h->lock);
    if (rc)
        return rc;
    rc = open_rest(a);
    if (rc)
        return rc;
    pm__heap_format(&a->heap, h->heap_bytes);
    if (h->disk_bytes)
        pm__heap_format(&a->disk, h->disk_bytes);
    pm_a64_store(&h->magic, PM_MAGIC); /* last: whoever sees it sees all of the above */
    return PM_OK;
}

int pm__arena_create(uint64_t heap_bytes, uint64_t disk_bytes, const pm_total *totals, uint64_t n,
                     pm_arena *a)
{
    pm_header_shm planned = {0};
    *a = (pm_arena){.fd = -1, .bell = -1, .disk_fd = -1};
    if (heap_bytes < 16 * PAGE || heap_bytes > UINT64_C(1) << 44 || disk_bytes > PM_DISK_MAX)
        return PM_EINVAL;
    plan(&planned, heap_bytes, disk_bytes);
    int rc = pm__os_memfd(planned.size, &a->fd);
    if (!rc)
        rc = open_maps(a, planned.size);
    if (!rc)
        rc = format(a, &planned, totals, n);
    if (rc)
        pm__arena_unmap(a);
    return rc;
}

void pm__arena_alias(pm_arena *copy)
{
    copy->local = NULL;
    copy->deferred = 0;
    copy->gone = 0;
    copy->watch = NULL;
    copy->heir = NULL;
    point(copy);
}

static int recognise(const pm_arena *a)
{
    const pm_header_shm *h = a->h;
    if (pm_a64_load(&h->magic) != PM_MAGIC || h->version != PM_VERSION ||
        h->fingerprint != fingerprint() || h->size != a->map.size)
        return PM_ELAYOUT;
    /* Robust futexes compare thread ids of the dying task's own namespace: a client of another
     * namespace could steal the lock from a living holder [R 4]. */
    if (h->pid_ns != pm__os_pid_namespace())
        return PM_ENAMESPACE;
    return pm_a64_load(&h->ending) ? PM_EGONE : PM_OK;
}

int pm__arena_attach(int fd, pm_arena *a)
{
    uint64_t size = 0;
    *a = (pm_arena){.fd = -1, .bell = -1, .disk_fd = -1};
    int rc = pm__os_size(fd, &size);
    if (!rc && size < sizeof(pm_header_shm))
        rc = PM_ELAYOUT;
    if (!rc && (a->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3)) < 0)
        rc = PM_ESYS;
    if (!rc)
        rc = open_maps(a, size);
    if (!rc)
        rc = recognise(a);
    if (!rc)
        rc = open_rest(a);
    if (rc)
        pm__arena_unmap(a);
    return rc;
}

void pm_map_inherit(const pm_arena *a, bool inherit)
{
    madvise(a->readable, a->readable_bytes, inherit ? MADV_DOFORK : MADV_DONTFORK);
}

void pm_map_poison(const pm_arena *a)
{
    mprotect(a->readable, a->readable_bytes, PROT_NONE);
}

void pm__arena_close(const pm_arena *a)
{
    if (pm__os_is_file(a->fd, a->file))
        close(a->fd);
    pm__os_close_event(a->bell);
    if (a->disk_fd >= 0 && pm__os_is_file(a->disk_fd, a->disk_file))
        close(a->disk_fd);
}

void pm__arena_unmap(pm_arena *a)
{
    int e = errno;
    if (a->local)
        munmap(a->local, a->h->entries.capacity * sizeof(pm_local));
    if (a->mapped)
        munmap((void *)a->mapped, mapped_bytes(a->h));
    if (a->readable)
        pm__os_unmap(a->readable, a->h->heap_bytes);
    if (a->map.base)
        pm__os_unmap(a->map.base, a->map.size);
    pm__arena_close(a);
    *a = (pm_arena){.fd = -1, .bell = -1, .disk_fd = -1};
    errno = e;
}
