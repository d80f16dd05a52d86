/* arena.h - one process's handle to the arena: create, attach, where everything is.
 *
 * Two types per structure: pm_x_shm (layout.h) lies in the arena; pm_arena and pm_local are this
 * process's own. */
#ifndef PM_ARENA_H
#define PM_ARENA_H

#include "err.h"
#include "heap.h"
#include "layout.h"
#include "off.h"
#include "os.h"

/* What this process holds of an entry. refs goes 0 -> 1 and 1 -> 0 under the arena's lock only,
 * every other step is a compare-and-swap: so a process's references but the first and the last
 * cost no lock. A pin counts as one. */
enum pm_own {
    PM_SHARED,  /* others may have references, too */
    PM_OWN,     /* nobody else can have one: see reserve.h */
    PM_STOCKED, /* in stock: we have none either */
};

enum { PM_RESERVE = 64 };

typedef struct {
    _Atomic uint32_t refs;
    /* waiter that our hold record counts, 0 = none; as pm_hold_shm.waiter */
    _Atomic uint32_t waiter;
    /* bit per waiter whose thread has met it in its list; see untold() in wait.c */
    _Atomic uint64_t listed;
    _Atomic uint64_t stamp; /* of the last list it was met in; see pm_met() in wait.h */
    _Atomic uint32_t own;   /* enum pm_own */
    uint64_t hold;          /* our hold record; under the lock */
    uint64_t deferred;      /* next slot + 1 of the list of drops that could not be done at once */
    _Atomic uint32_t owed;  /* drops of this entry that were not; it is on that list if > 0 */
} pm_local;

/* What only the runner of a task knows of an attempt: times of pm__os_now(), 0 = not known. */
typedef struct {
    uint64_t began, returned; /* its function */
    char error[56];           /* what it raised, in one line; "" = nothing */
} pm_account;

typedef struct pm_arena {
    int fd;
    pm_file file; /* that it is of */
    int bell;     /* eventfd that the keeper listens to, -1 = none */
    pm_map map;
    char *readable; /* read-only map of the heap */
    uint64_t readable_bytes;
    pm_header_shm *h;
    pm_client_shm *clients;
    pm_waiter_shm *waiters;
    pm_entry_shm *entries;
    pm_hold_shm *holds;
    pm_task_shm *tasks;
    pm_key_shm *keys;
    pm_j64 *buckets;
    pm_event_shm *events;
    pm_a64 *present;
    pm_a64 *owners;
    pm_a64 *used;
    pm_lock lock;
    pm_heap heap;
    pm_heap disk;
    _Atomic int disk_fd; /* of the spill file, opened when it is needed; -1 = not yet */
    pm_file disk_file;
    _Atomic bool prefetch;        /* the watcher is to look what the next tasks take (prefetch.h) */
    uint64_t spill_again;         /* when the watcher may spill ahead again; its own */
    _Atomic uint64_t spill_until; /* so much is left of the heap */
    pm_local *local;
    _Atomic bool reserve_open; /* a thread is at the stock */
    uint32_t reserved;
    uint64_t reserve[PM_RESERVE]; /* slots in stock */
    _Atomic uint64_t deferred;    /* slot + 1 of the first deferred drop */
    _Atomic uint64_t *mapped; /* bit per 64 KiB of heap that this process has mapped for writing */
    uint64_t slot, epoch;
    enum pm_kind kind;
    pid_t pid;
    uint32_t forks; /* count of forks when it was attached: another value means a forked child */
    int cores;
    pm_futex want_waiter;     /* 1 while a thread sleeps until a waiter is free */
    _Atomic uint32_t spin_ns; /* how long it pays to spin before sleeping */
    _Atomic uint64_t stamps;  /* latest of pm_local's stamps */
    _Atomic int gone;         /* PM_EGONE or PM_ELEFT: no operation may begin any more */
    pm_account account;       /* of the attempt that this process ends next */
    struct pm_watch *watch;   /* the watcher thread */
    /* after pm_retire(): a handle over the same maps and counts, for what is still pinned */
    struct pm_arena *_Atomic heir;
} pm_arena;

/* So much of a resource. name: of at most PM_KIND_NAME - 1 bytes; of the first three it is fixed. */
typedef struct {
    const char *name;
    uint64_t amount;
} pm_total;

/* A fresh arena in a memfd of its own. disk_bytes: that may be spilled (disk.h). PM_ESYS, PM_EINVAL. */
int pm__arena_create(uint64_t heap_bytes, uint64_t disk_bytes, const pm_total *totals, uint64_t n,
                     pm_arena *a);
/* Map the arena behind fd. PM_ELAYOUT, PM_ENAMESPACE, PM_EGONE, PM_ESYS. */
int pm__arena_attach(int fd, pm_arena *a);
/* The driver, once, before anybody joins: have the heap on huge pages. A fault then brings 2 MB, so pages
 * that do not exist are faulted in (5 to 7 GB/s with the copy, against 2 by pwrite() of small ones). Only
 * where the machine gives shared memory such pages when asked (shmem_enabled): faults for small ones
 * are slow. */
void pm_huge_pages(pm_arena *a);
/* Whether forked children inherit the read-only map. As a rule they do not: who touches it after a
 * fork by C code faults, and reads no bytes that may be another object's by then [R 6]. */
void pm_map_inherit(const pm_arena *a, bool inherit);
/* In a child that inherited it and could not pin what it sees: let every touch fault. */
void pm_map_poison(const pm_arena *a);

/* Make a copy of a handle one of its own, without references, over the same maps: for a process
 * that is a client no more. Nothing is to be given back of it. */
void pm__arena_alias(pm_arena *copy);
/* Give back maps and memory. Nobody of this process may be inside the lock, or look at the arena
 * again. */
void pm__arena_unmap(pm_arena *a);
/* Its descriptors alone. */
void pm__arena_close(const pm_arena *a);

#define PM_CHUNK 65536u  /* pages are mapped, and their presence noted, this many bytes at a time */
#define PM_DISK_UNIT 16u /* bytes of the spill file for each that its allocator gives out */
#define PM_DISK_MAX  (UINT64_C(1) << 43) /* bytes of the spill file */

static inline pm_entry_shm *pm__entry(const pm_arena *a, uint64_t slot)
{
    return &a->entries[slot];
}
static inline pm_task_shm *pm__task(const pm_arena *a, uint64_t index)
{
    return &a->tasks[index];
}
/* Where argument i and result i of a task are: in the task, or in its table. */
static inline pm_arg_shm *pm__task_arg(const pm_arena *a, const pm_task_shm *t, uint64_t i)
{
    if (t->table.v == 0)
        return (pm_arg_shm *)&t->args[i];
    return (pm_arg_shm *)(a->map.base + t->table.v) + i;
}
static inline pm_j64 *pm__task_ret(const pm_arena *a, const pm_task_shm *t, uint64_t i)
{
    if (t->table.v == 0)
        return (pm_j64 *)&t->rets[i];
    return (pm_j64 *)((pm_arg_shm *)(a->map.base + t->table.v) + t->nargs.v) + i;
}
/* Its first result, 0 while it has none. */
static inline uint64_t pm__task_first(const pm_arena *a, uint64_t task)
{
    const pm_task_shm *t = pm__task(a, task - 1);
    return t->rets_made.v ? pm__task_ret(a, t, 0)->v >> 1 : 0;
}
static inline pm_client_shm *pm__me(const pm_arena *a)
{
    return &a->clients[a->slot];
}

#endif
