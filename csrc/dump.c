/* dump.c - an arena in numbers and in words: pm_stats_read() and pm_dump(), see check.h. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "check.h"
#include "disk.h"
#include "object.h"
#include "settle.h"

/* ---- numbers --------------------------------------------------------------------------------- */

static pm_stats stats_of(const pm_arena *a)
{
    const pm_header_shm *h = a->h;
    pm_heap_stats heap, disk;
    pm__heap_stats(&a->heap, &heap);
    pm__heap_stats(&a->disk, &disk);
    pm_stats s = {
        .entries = h->entries.live.v,
        .holds = h->holds.live.v,
        .tasks = h->tasks.live.v - h->kept.v,
        .kept = h->kept.v,
        .keys = h->keys.live.v,
        .entry_capacity = h->entries.capacity,
        .task_capacity = h->tasks.capacity,
        .heap_capacity = heap.capacity,
        .heap_used = heap.used,
        .heap_free = heap.free,
        .heap_largest = heap.largest,
        .disk_capacity = disk.capacity * PM_DISK_UNIT,
        .disk_used = disk.used * PM_DISK_UNIT,
        .spills = pm_a64_load(&h->spills),
        .spilled_bytes = pm_a64_load(&h->spilled_bytes),
        .restores = pm_a64_load(&h->restores),
        .restored_bytes = pm_a64_load(&h->restored_bytes),
        .watermark = pm__has_disk(a) ? pm__watermark(a) : 0,
        .waits = pm_a64_load(&h->tickets),
        .disk_errno = pm_a64_load(&h->disk_errno),
        .ready = h->ready.v,
        .workers = h->workers.v,
        .idle = h->idle_count.v,
        .cpu_total = h->total[PM_CPU],
        .cpu_free = (int64_t)h->bundles[0].free[PM_CPU].v,
        .repairs = pm_a64_load(&h->lock.repairs),
    };
    for (uint64_t i = 0; i < h->client_high.v; i++) {
        s.clients += a->clients[i].kind.v != 0;
        s.reserved += pm_a64_load(&a->clients[i].reserve);
    }
    s.entries -= s.reserved;
    s.holds -= s.reserved;
    return s;
}

int pm_stats_read(pm_arena *a, pm_patience how, pm_stats *out)
{
    pm_op op;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    *out = stats_of(a);
    return pm__leave(&op);
}

/* ---- words ----------------------------------------------------------------------------------- */

static const char *const KINDS[] = {"free", "driver", "keeper", "worker", "guest"};
static const char *const STATES[] = {"free",  "pending",  "sealed", "failed",
                                     "freed", "offering", "spilled"};
static const char *const TASKS[] = {"free",    "building",  "waiting",   "ready",
                                    "running", "finishing", "abandoned", "kept"};

static const char *word(const char *const words[], size_t n, uint64_t i)
{
    return i < n ? words[i] : "?";
}
#define WORD(words, i) word(words, sizeof(words) / sizeof *(words), i)

static void dump_header(const pm_arena *a, FILE *out)
{
    pm_stats s = stats_of(a);
    fputs("session    ", out);
    for (size_t i = 0; i < sizeof a->h->session; i++)
        fprintf(out, "%02x", a->h->session[i]);
    fprintf(out,
            "\nobjects    %" PRIu64 " live, %" PRIu64 " holds, %" PRIu64 " keys\n"
            "tasks      %" PRIu64 " live, %" PRIu64 " ready\n"
            "clients    %" PRIu64 ", %" PRIu64 " workers, %" PRIu64 " of them idle\n"
            "cpu        %.4f free of %.4f\n"
            "heap       %" PRIu64 " bytes used of %" PRIu64 ", longest free run %" PRIu64 "\n"
            "repairs    %" PRIu64 "%s\n",
            s.entries, s.holds, s.keys, s.tasks, s.ready, s.clients, s.workers, s.idle,
            (double)s.cpu_free / 1e4, (double)s.cpu_total / 1e4, s.heap_used, s.heap_capacity,
            s.heap_largest, s.repairs, pm_a64_load(&a->h->lock.broken) ? ", BROKEN" : "");
}

static void dump_client(const pm_arena *a, uint64_t i, FILE *out)
{
    const pm_client_shm *c = &a->clients[i];
    uint64_t holds = 0;
    for (uint64_t r = c->holds.v; r; r = a->holds[r - 1].next.v)
        holds++;
    fprintf(out, "client %" PRIu64 " epoch %" PRIu64 ": %s pid %" PRIu64 ", %" PRIu64 " holds%s", i,
            c->epoch.v, WORD(KINDS, c->kind.v), c->pid.v, holds, c->idle.v ? ", idle" : "");
    for (uint64_t t = c->running.v; t; t = pm__task(a, t - 1)->next.v)
        fprintf(out, ", runs task %" PRIu64, t - 1);
    fputc('\n', out);
}

static void dump_entry(const pm_arena *a, uint64_t i, FILE *out)
{
    const pm_entry_shm *e = pm__entry(a, i);
    uint64_t state = pm_p64_load(&e->state);
    fprintf(out,
            "object %" PRIu64 " generation %" PRIu64 ": %s, %" PRIu64 " references, %" PRIu64
            " bytes %s",
            i, state >> 8, WORD(STATES, state & 0xff), e->refs.v, e->size.v,
            pm__is_away(e) ? "on disk"
            : e->block.v   ? "in the heap"
                           : "inline");
    if (e->nrefs.v)
        fprintf(out, ", contains %" PRIu64, e->nrefs.v);
    if (e->task.v)
        fprintf(out, ", result of task %" PRIu64, e->task.v - 1);
    fputc('\n', out);
}

static void dump_task(const pm_arena *a, uint64_t i, FILE *out)
{
    const pm_task_shm *t = pm__task(a, i);
    fprintf(out,
            "task %" PRIu64 ": number %" PRIu64 " of %" PRIu64 ", %s '%.*s', %" PRIu64
            " arguments, %" PRIu64 " results, waits for %" PRIu64 ", attempt %" PRIu64,
            i, t->serial.v, t->parent.v, WORD(TASKS, t->state.v), PM_TASK_NAME, t->name, t->nargs.v,
            t->nrets.v, t->waiting.v, t->attempt.v);
    if (t->cancel.v)
        fprintf(out, ", cancelled%s%s%s", t->cancel.v & PM_CANCEL_FORCE ? " by force" : "",
                t->cancel.v & PM_CANCEL_TREE ? " with its children" : "",
                t->cancel.v & PM_CANCEL_TOLD ? " and told" : "");
    if (t->state.v == PM_TASK_RUNNING)
        fprintf(out, ", client %" PRIu64 ", %" PRIu64 "/10000 CPU", t->runner.v - 1, t->held.v);
    fputc('\n', out);
}

static bool entry_live(const pm_arena *a, uint64_t i)
{
    return (pm_p64_load(&pm__entry(a, i)->state) & 0xff) != PM_FREE;
}

static bool task_live(const pm_arena *a, uint64_t i)
{
    return pm__task(a, i)->state.v != PM_TASK_FREE;
}

static bool client_live(const pm_arena *a, uint64_t i)
{
    return a->clients[i].kind.v != 0;
}

static void dump_table(const pm_arena *a, uint64_t high, uint64_t most,
                       bool (*live)(const pm_arena *, uint64_t),
                       void (*dump)(const pm_arena *, uint64_t, FILE *), FILE *out)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < high; i++)
        if (live(a, i) && n++ < most)
            dump(a, i, out);
    if (n > most)
        fprintf(out, "... and %" PRIu64 " more\n", n - most);
}

int pm_dump(pm_arena *a, uint64_t most, char **text)
{
    size_t len;
    pm_op op;
    int rc;
    FILE *out = open_memstream(text, &len);
    if (!out)
        return PM_ESYS;
    while ((rc = pm__enter(&op, a, PM_WAIT)) == PM_EAGAIN)
        ;
    if (rc == PM_OK) {
        dump_header(a, out);
        dump_table(a, a->h->client_high.v, most, client_live, dump_client, out);
        dump_table(a, a->h->entries.high.v, most, entry_live, dump_entry, out);
        dump_table(a, a->h->tasks.high.v, most, task_live, dump_task, out);
        rc = pm__leave(&op);
    }
    if (fclose(out) && rc == PM_OK)
        rc = PM_ESYS;
    if (rc) {
        free(*text);
        *text = NULL;
    }
    return rc;
}
