/* survey.c - see survey.h. */
#include "survey.h"

#include <string.h>

enum {
    LOOKS = 256,     /* entries, or tasks, looked at in one lock hold */
    ARGUMENTS = 256, /* of one task */
};

static void survey_holders(const pm_arena *a, const pm_entry_shm *e, pm_object_info *out)
{
    out->nholders = 0;
    for (uint64_t i = e->holders.v; i; i = a->holds[i - 1].enext.v, out->nholders++) {
        const pm_hold_shm *r = &a->holds[i - 1];
        const pm_client_shm *c = &a->clients[r->client.v];
        if (out->nholders < PM_SURVEY_HOLDERS) {
            out->holders[out->nholders].client = r->client.v;
            out->holders[out->nholders].pid = c->pid.v;
            out->holders[out->nholders].kind = c->kind.v;
            out->holders[out->nholders].pins = pm_a64_load(&r->pins) & ~PM_CLOSED;
        }
    }
}

static void survey_entry(const pm_arena *a, uint64_t slot, pm_object_info *out)
{
    const pm_entry_shm *e = pm__entry(a, slot);
    *out = (pm_object_info){
        .ref = pm_ref_of(a, slot),
        .state = pm_state(a, slot),
        .is_inline = e->block.v == 0,
        .stripped = e->strip.v == PM_STRIPPED,
        .kept = e->key.v && a->keys[e->key.v - 1].kept.v,
        .boot = a->h->boot.v == slot + 1,
        .size = e->size.v,
        .refs = e->refs.v,
        .nrefs = e->nrefs.v,
        .has_task = e->task.v != 0,
    };
    if (pm__has_block(e))
        out->bytes = pm__heap_usable(&a->heap, e->block.v);
    if (e->task.v)
        memcpy(out->task, pm__task(a, e->task.v - 1)->name, PM_TASK_NAME);
    if (e->block.v)
        memcpy(out->site, e->bytes, PM_SITE - 1);
    survey_holders(a, e, out);
}

/* A client's own pending entry without block or task: in its stock, or about to be filled. */
static bool is_stock(const pm_arena *a, uint64_t slot)
{
    const pm_entry_shm *e = pm__entry(a, slot);
    return pm_state(a, slot) == PM_PENDING && !e->block.v && !e->task.v;
}

int pm_survey(pm_arena *a, pm_patience how, uint64_t *from, pm_object_info *out, uint64_t *n)
{
    pm_op op;
    uint64_t most = *n, high;
    *n = 0;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    high = a->h->entries.high.v;
    for (int i = 0; i < LOOKS && *n < most && *from < high; i++, ++*from)
        if (pm_state(a, *from) != PM_FREE && !is_stock(a, *from))
            survey_entry(a, *from, &out[(*n)++]);
    if (*from >= high)
        rc = PM_ENOTFOUND;
    int left = pm__leave(&op);
    return left ? left : rc;
}

static void survey_dependency(const pm_arena *a, uint64_t slot, pm_dependency *out)
{
    uint64_t task = pm__entry(a, slot)->task.v;
    *out = (pm_dependency){.ref = pm_ref_of(a, slot)};
    if (task) {
        out->serial = pm__task(a, task - 1)->serial.v;
        memcpy(out->name, pm__task(a, task - 1)->name, PM_TASK_NAME);
    }
}

static void survey_dependencies(const pm_arena *a, const pm_task_shm *t, pm_task_info *out)
{
    uint64_t found = 0, n = t->args_held.v < ARGUMENTS ? t->args_held.v : ARGUMENTS;
    for (uint64_t i = 0; i < n && found < PM_SURVEY_DEPS; i++) {
        uint64_t word = pm__task_arg(a, t, i)->entry.v;
        if ((word & 1) && pm_state(a, word >> 1) == PM_PENDING)
            survey_dependency(a, word >> 1, &out->deps[found++]);
    }
}

static void survey_task(const pm_arena *a, uint64_t task, pm_task_info *out)
{
    const pm_task_shm *t = pm__task(a, task - 1);
    bool running = t->state.v == PM_TASK_RUNNING;
    uint64_t cpu = a->h->shapes[t->shape.v - 1].need[PM_CPU].v;
    *out = (pm_task_info){
        .serial = t->serial.v,
        .parent = t->parent.v,
        .state = (enum pm_task_state)t->state.v,
        .blocked = running && cpu && t->held.v == 0,
        .pid = running ? a->clients[t->runner.v - 1].pid.v : 0,
        .attempt = t->attempt.v,
        .retries = t->retries.v,
        .nargs = t->nargs.v,
        .nrets = t->nrets.v,
        .submitted = t->submitted.v,
        .started = running ? t->started.v : 0,
        .waiting = t->waiting.v,
    };
    uint64_t own = pm__task_mailbox(a, task), mailbox = own ? own : pm__called(a, t);
    bool killed = own && t->cancel.v & PM_CANCEL_FORCE;
    if (mailbox && !killed)
        out->actor = pm__entry(a, mailbox - 1)->producer.v;
    if (own && !killed) {
        out->mailbox = pm_ref_of(a, own - 1);
        out->calls = pm__mailbox(a, own)->calls.v;
    }
    memcpy(out->name, t->name, PM_TASK_NAME);
    if (t->state.v == PM_TASK_WAITING)
        survey_dependencies(a, t, out);
}

int pm_survey_tasks(pm_arena *a, pm_patience how, uint64_t *from, pm_task_info *out, uint64_t *n)
{
    pm_op op;
    uint64_t most = *n, high;
    *n = 0;
    int rc = pm__enter(&op, a, how);
    if (rc)
        return rc;
    high = a->h->tasks.high.v;
    for (int i = 0; i < LOOKS && *n < most && *from < high; i++, ++*from) {
        const pm_task_shm *t = pm__task(a, *from);
        if (t->state.v != PM_TASK_FREE && t->state.v != PM_TASK_FINISHING &&
            t->state.v != PM_TASK_KEPT)
            survey_task(a, *from + 1, &out[(*n)++]);
    }
    if (*from >= high)
        rc = PM_ENOTFOUND;
    int left = pm__leave(&op);
    return left ? left : rc;
}
