/* test_stream.c - what tasks yield: order, pausing, dropping, and deaths on either side. */
#include "tasks.h"

enum { YIELDS = 6 };

/* ---- the two sides --------------------------------------------------------------------------- */

typedef struct {
    pm_ref gate, completed;
} stream;

static stream submit_stream(const world *w, uint64_t limit, uint64_t retries)
{
    pm_ref function = put(w, 77), out[2];
    const pm_task_spec spec = {.function = function.slot,
                               .name = "a generator",
                               .packed = -1,
                               .nrets = 2,
                               .yields = true,
                               .limit = limit,
                               .cpu = CPU,
                               .retries = retries};
    DO(submit_spec(w, &spec, out));
    drop(w, function);
    return (stream){out[0], out[1]};
}

static void drop_stream(const world *w, stream s)
{
    drop(w, s.gate);
    drop(w, s.completed);
}

static pm_running start(const world *w)
{
    pm_running t;
    CHECK(take(w, &t) && t.yields && t.nrets == 1);
    return t;
}

static int yield_value(const world *w, const pm_running *t, uint64_t value, bool *room)
{
    const pm_result item = {.data = &value, .len = sizeof value};
    int rc;
    while ((rc = pm_yield(w->a, PM_WAIT, t->task, &item, room)) == PM_EAGAIN)
        continue;
    return rc;
}

static void yield(const world *w, const pm_running *t, uint64_t value)
{
    bool room;
    CHECK(yield_value(w, t, value, &room) == PM_OK);
}

static int take_item(const world *w, pm_ref gate, pm_ref *out, bool *failed)
{
    int rc;
    while ((rc = pm_stream_take(w->a, PM_WAIT, gate.slot, out, failed)) == PM_EAGAIN)
        continue;
    return rc;
}

static uint64_t next_value(const world *w, pm_ref gate)
{
    pm_ref item;
    bool failed;
    int rc;
    DO(pm_wait(w->a, &gate.slot, 1, 1, 0, false));
    CHECK((rc = take_item(w, gate, &item, &failed)) == PM_OK);
    uint64_t value = value_of(w, item);
    drop(w, item);
    return value;
}

static int end_of(const world *w, pm_ref gate, bool *failed)
{
    pm_ref none;
    return take_item(w, gate, &none, failed);
}

static void fail(const world *w, const pm_running *t)
{
    const pm_result r = {.data = "why", .len = 3, .failed = true};
    DO(pm_finish(w->a, PM_WAIT, t->task, &r, NULL));
}

/* ---- one process ----------------------------------------------------------------------------- */

TEST(items_come_in_order_before_the_task_ends)
{
    world w = world_new();
    pm_stats then = stats(&w);
    stream s = submit_stream(&w, 0, 0);
    bool failed;
    pm_ref none;
    CHECK(state_of(&w, s.gate) == PM_PENDING);
    CHECK(take_item(&w, s.gate, &none, &failed) == PM_ENOTFOUND);
    pm_running t = start(&w);
    CHECK(t.wanted && t.made == 0);
    for (uint64_t i = 0; i < 3; i++) {
        yield(&w, &t, 10 + i);
        CHECK(state_of(&w, s.gate) == PM_OFFERING);
    }
    clean(&w);
    CHECK(next_value(&w, s.gate) == 10);
    CHECK(next_value(&w, s.gate) == 11);
    CHECK(state_of(&w, s.gate) == PM_OFFERING);
    CHECK(next_value(&w, s.gate) == 12);
    CHECK(state_of(&w, s.gate) == PM_PENDING && state_of(&w, s.completed) == PM_PENDING);
    clean(&w);
    yield(&w, &t, 13);
    finish(&w, &t);
    CHECK(state_of(&w, s.gate) == PM_SEALED && state_of(&w, s.completed) == PM_SEALED);
    CHECK(next_value(&w, s.gate) == 13);
    CHECK(end_of(&w, s.gate, &failed) == PM_EEND && !failed);
    CHECK(end_of(&w, s.gate, &failed) == PM_EEND && !failed);
    clean(&w);
    drop_stream(&w, s);
    same(&w, then);
    clean(&w);
    pm_close(w.a);
}

TEST(items_that_nobody_has_taken_go_to_the_disk)
{
    enum { SIZE = 100000 };
    world w = world_with_disk(16 << 20, 16 << 20, 4);
    pm_stats then = stats(&w);
    stream s = submit_stream(&w, 0, 0);
    pm_running t = start(&w);
    bool failed, room;
    pm_ref item, into;
    uint64_t freed;
    for (uint64_t i = 0; i < 4; i++) {
        pm_ref object = pending(&w, SIZE, 10 + i, NULL, 0);
        DO(pm_yield(w.a, PM_WAIT, t.task, &(pm_result){.object = object.slot}, &room));
        drop(&w, object);
    }
    DO(pm_spill(w.a, UINT64_MAX, &freed));
    CHECK(freed >= 4 * SIZE);
    clean(&w);
    CHECK(take_item(&w, s.gate, &item, &failed) == PM_OK && state_of(&w, item) == PM_SPILLED);
    CHECK(pm_await_back(w.a, item.slot) == PM_ESPILLED);
    DO(pm_create(w.a, PM_WAIT, pm_away_bytes(w.a, item.slot), NULL, 0, &into));
    DO(pm_bring_back(w.a, item.slot, into.slot));
    CHECK(value_of(&w, item) == 10);
    drop(&w, into);
    drop(&w, item);
    CHECK(take_item(&w, s.gate, &item, &failed) == PM_OK);
    drop(&w, item); /* away; the other two go with the stream */
    finish(&w, &t);
    drop_stream(&w, s);
    DO(pm__settle(w.a, PM_WAIT));
    AWAIT((pm__spill_trim(w.a), stats(&w).disk_used == 0 && stats(&w).entries == then.entries));
    same(&w, then);
    clean(&w);
    pm_close(w.a);
}

/* The worker told of the error, and died before the end: the next attempt raises it, too. */
TEST(error_that_a_task_yields_is_its_last_item_in_all_attempts)
{
    world w = world_new();
    stream s = submit_stream(&w, 0, 1);
    pm_running t = start(&w);
    const pm_result error = {.data = "why", .len = 3, .failed = true},
                    more = {.data = "m", .len = 1};
    uint64_t items;
    bool room, ended;
    yield(&w, &t, 1);
    DO(pm_yield(w.a, PM_WAIT, t.task, &error, &room));
    DO(pm_retry(w.a, PM_WAIT, t.task));
    t = start(&w);
    CHECK(t.attempt == 2 && t.made == 2);
    DO(pm_yield(w.a, PM_WAIT, t.task, &error, &room));
    CHECK(pm_yield(w.a, PM_WAIT, t.task, &more, &room) == PM_EDROPPED);
    DO(pm_stream_look(w.a, PM_WAIT, s.gate.slot, &items, &ended));
    CHECK(items == 2 && !ended);
    finish(&w, &t);
    drop_stream(&w, s);
    clean(&w);
    pm_close(w.a);
}

TEST(failure_of_the_task_is_told_once_after_the_items)
{
    world w = world_new();
    pm_stats then = stats(&w);
    stream s = submit_stream(&w, 0, 0);
    pm_running t = start(&w);
    uint64_t items;
    bool failed, ended;
    yield(&w, &t, 1);
    fail(&w, &t);
    DO(pm_stream_look(w.a, PM_WAIT, s.gate.slot, &items, &ended));
    CHECK(items == 2 && !ended && state_of(&w, s.gate) == PM_FAILED);
    CHECK(next_value(&w, s.gate) == 1);
    clean(&w);
    CHECK(end_of(&w, s.gate, &failed) == PM_EEND && failed);
    CHECK(end_of(&w, s.gate, &failed) == PM_EEND && !failed);
    DO(pm_stream_look(w.a, PM_WAIT, s.gate.slot, &items, &ended));
    CHECK(items == 0 && ended && state_of(&w, s.completed) == PM_FAILED);
    clean(&w);
    drop_stream(&w, s);
    same(&w, then);
    pm_close(w.a);
}

TEST(objects_that_contain_references_become_items)
{
    world w = world_new();
    pm_stats then = stats(&w);
    stream s = submit_stream(&w, 0, 0);
    pm_running t = start(&w);
    pm_ref inner = put(&w, 5), item;
    bool room, failed;
    for (uint64_t i = 0; i < 2; i++) {
        pm_ref object = pending(&w, 5000, 40 + i, &inner, 1);
        const pm_result r = {.object = object.slot, .failed = i == 1};
        DO(pm_yield(w.a, PM_WAIT, t.task, &r, &room));
        /* it is sealed; an error is the last item, and a second one has no effect */
        CHECK(pm_yield(w.a, PM_WAIT, t.task, &r, &room) == (i ? PM_OK : PM_ESTATE));
        clean(&w);
        if (i == 0)
            drop(&w, object);
        else { /* taken while its maker still has a reference */
            CHECK(next_value(&w, s.gate) == 40);
            CHECK(take_item(&w, s.gate, &item, &failed) == PM_OK && item.slot == object.slot);
            CHECK(state_of(&w, item) == PM_FAILED);
            drop(&w, object);
            clean(&w);
            drop(&w, item);
        }
    }
    drop(&w, inner);
    finish(&w, &t);
    drop_stream(&w, s);
    same(&w, then);
    clean(&w);
    pm_close(w.a);
}

TEST(nobody_gets_an_item_or_a_gate_by_its_id)
{
    world w = world_new();
    pm_stats then = stats(&w);
    stream s = submit_stream(&w, 0, 0);
    pm_running t = start(&w);
    yield(&w, &t, 1);
    pm_ref item = {.slot = pm__stream(w.a, s.gate.slot + 1)->head.v - 1};
    item.generation = pm__generation(w.a, item.slot + 1);
    CHECK(pm_hold(w.a, PM_WAIT, item) == PM_ENOTFOUND);
    CHECK(next_value(&w, s.gate) == 1);
    finish(&w, &t);
    drop_stream(&w, s);
    same(&w, then);
    pm_close(w.a);
}

TEST(without_a_taker_items_go_at_once_and_the_task_when_it_yields)
{
    world w = world_new();
    pm_stats then = stats(&w);
    stream s = submit_stream(&w, 0, 0);
    pm_running t = start(&w);
    bool room;
    pm_stats before = stats(&w);
    for (uint64_t i = 0; i < 1000; i++)
        yield(&w, &t, i);
    drop(&w, s.gate);
    DO(pm__settle(w.a, PM_WAIT));
    CHECK(stats(&w).entries == before.entries);
    clean(&w);
    yield(&w, &t, 7); /* somebody waits for the end */
    CHECK(stats(&w).entries == before.entries);
    drop(&w, s.completed);
    CHECK(yield_value(&w, &t, 8, &room) == PM_EDROPPED);
    finish(&w, &t);
    same(&w, then);
    clean(&w);
    pm_close(w.a);
}

TEST(stream_dropped_before_its_task_starts_is_not_wanted)
{
    world w = world_new();
    pm_stats then = stats(&w);
    for (int i = 0; i < 2; i++) {
        stream s = submit_stream(&w, 0, 0);
        drop(&w, s.gate);
        if (i == 0)
            drop(&w, s.completed);
        pm_running t = start(&w);
        CHECK(t.wanted == (i == 1));
        finish(&w, &t);
        if (i == 1) {
            CHECK(state_of(&w, s.completed) == PM_SEALED);
            drop(&w, s.completed);
        }
    }
    same(&w, then);
    clean(&w);
    pm_close(w.a);
}

TEST(task_that_yields_is_run_on_top_of_its_taker_only_when_asked_for)
{
    world w = world_new();
    pm_stats then = stats(&w);
    stream s = submit_stream(&w, 0, 0);
    pm_running t;
    uint64_t from = 0;
    CHECK(pm_take_awaited(w.a, PM_WAIT, &s.gate.slot, 1, false, &from, &t) == PM_ENOTFOUND);
    from = 0;
    DO(pm_hurry(w.a, PM_WAIT, &s.gate.slot, 1, &from));
    from = 0;
    DO(pm_take_awaited(w.a, PM_WAIT, &s.gate.slot, 1, true, &from, &t));
    yield(&w, &t, 3);
    finish(&w, &t);
    CHECK(next_value(&w, s.gate) == 3);
    drop_stream(&w, s);
    same(&w, then);
    pm_close(w.a);
}

TEST(task_is_retried_with_the_number_of_items_made)
{
    world w = world_new();
    pm_stats then = stats(&w);
    stream s = submit_stream(&w, 0, 1);
    pm_running t = start(&w);
    yield(&w, &t, 0);
    yield(&w, &t, 1);
    CHECK(next_value(&w, s.gate) == 0);
    DO(pm_retry(w.a, PM_WAIT, t.task));
    clean(&w);
    t = start(&w);
    CHECK(t.made == 2 && t.attempt == 2);
    yield(&w, &t, 2);
    finish(&w, &t);
    CHECK(next_value(&w, s.gate) == 1 && next_value(&w, s.gate) == 2);
    drop_stream(&w, s);
    same(&w, then);
    pm_close(w.a);
}

TEST(cancelling_a_queued_task_keeps_the_gate_whole)
{
    world w = world_new();
    pm_stats then = stats(&w);
    stream s = submit_stream(&w, 0, 1);
    pm_running t = start(&w);
    yield(&w, &t, 0);
    yield(&w, &t, 1);
    DO(pm_retry(w.a, PM_WAIT, t.task)); /* queued, with items */
    DO(pm_cancel(w.a, s.gate.slot, 0));
    clean(&w);
    bool failed;
    CHECK(state_of(&w, s.completed) == PM_FAILED && state_of(&w, s.gate) == PM_FAILED);
    CHECK(next_value(&w, s.gate) == 0 && next_value(&w, s.gate) == 1);
    CHECK(end_of(&w, s.gate, &failed) == PM_EEND && failed);
    drop_stream(&w, s);
    same(&w, then);
    clean(&w);
    pm_close(w.a);
}

/* ---- two processes --------------------------------------------------------------------------- */

/* Yields 0, 1, .. until word[0] of them, pausing when it should. */
static void produce(world *w)
{
    pm_running t;
    int rc;
    while ((rc = pm_next(w->a, 0, &t)) == PM_EAGAIN)
        continue;
    CHECK(rc == PM_OK && t.yields);
    for (uint64_t i = t.made; i < w->b->word[0]; i++) {
        bool room;
        if ((rc = yield_value(w, &t, i, &room)) == PM_EDROPPED)
            break;
        CHECK(rc == PM_OK);
        w->b->word[1] = i + 1;
        while (!room && (rc = pm_await_room(w->a, t.task, 0)) == PM_EAGAIN)
            continue;
        if (rc == PM_EDROPPED)
            break;
        CHECK(rc == PM_OK);
    }
    w->b->word[2] = 1;
    finish(w, &t);
}

TEST(taker_asleep_is_woken_for_every_item)
{
    world w = world_new();
    pm_stats then = stats(&w);
    w.b->word[0] = 3000;
    stream s = submit_stream(&w, 1, 0);
    pid_t pid = spawn(&w, produce);
    for (uint64_t i = 0; i < 3000; i++)
        CHECK(next_value(&w, s.gate) == i);
    bool failed;
    DO(pm_wait(w.a, &s.gate.slot, 1, 1, 0, false));
    CHECK(end_of(&w, s.gate, &failed) == PM_EEND && !failed);
    CHECK(!reap(pid));
    sweep_dead(&w);
    drop_stream(&w, s);
    same(&w, then);
    clean(&w);
    pm_close(w.a);
}

TEST(task_pauses_at_its_limit_and_goes_on_as_items_are_taken)
{
    world w = world_new();
    w.b->word[0] = 10;
    stream s = submit_stream(&w, 3, 0);
    pid_t pid = spawn(&w, produce);
    AWAIT(pm__stream(w.a, s.gate.slot + 1)->pausing.v);
    CHECK(w.b->word[1] == 3);
    CHECK(next_value(&w, s.gate) == 0);
    AWAIT(pm__stream(w.a, s.gate.slot + 1)->pausing.v);
    CHECK(w.b->word[1] == 4);
    clean(&w);
    for (uint64_t i = 1; i < 10; i++)
        CHECK(next_value(&w, s.gate) == i);
    CHECK(!reap(pid));
    sweep_dead(&w);
    drop_stream(&w, s);
    clean(&w);
    pm_close(w.a);
}

TEST(dropping_the_gate_ends_a_pause)
{
    world w = world_new();
    pm_stats then = stats(&w);
    w.b->word[0] = 10;
    for (int keep = 0; keep < 2; keep++) {
        w.b->word[1] = w.b->word[2] = 0;
        stream s = submit_stream(&w, 3, 0);
        pid_t pid = spawn(&w, produce);
        AWAIT(pm__stream(w.a, s.gate.slot + 1)->pausing.v);
        if (!keep)
            drop(&w, s.completed);
        drop(&w, s.gate);
        CHECK(!reap(pid));
        CHECK(w.b->word[2] == 1 && w.b->word[1] == (keep ? 10 : 3));
        sweep_dead(&w);
        if (keep)
            drop(&w, s.completed);
        same(&w, then);
        clean(&w);
    }
    pm_close(w.a);
}

TEST(pause_times_out_and_may_be_repeated)
{
    world w = world_new();
    stream s = submit_stream(&w, 1, 0);
    pm_running t = start(&w);
    bool room;
    CHECK(yield_value(&w, &t, 1, &room) == PM_OK && !room);
    for (int i = 0; i < 3; i++)
        CHECK(pm_await_room(w.a, t.task, pm__os_now() + 1000) == PM_ETIMEOUT);
    CHECK(next_value(&w, s.gate) == 1);
    DO(pm_await_room(w.a, t.task, 0));
    clean(&w);
    finish(&w, &t);
    drop_stream(&w, s);
    pm_close(w.a);
}

/* ---- deaths ---------------------------------------------------------------------------------- */

static stream open_stream(const world *w)
{
    return (stream){w->b->refs[0], w->b->refs[1]};
}

static void before_stream(world *w)
{
    stream s = submit_stream(w, 0, 1);
    w->b->refs[0] = s.gate;
    w->b->refs[1] = s.completed;
}

/* The first items are inline, the last ones objects that contain a reference. */
static void act_yield(world *w)
{
    pm_running t = start(w);
    pm_ref inner = put(w, 9);
    bool room;
    for (uint64_t i = t.made; i < YIELDS; i++) {
        if (i < YIELDS / 2) {
            yield(w, &t, i);
            continue;
        }
        pm_ref object = pending(w, 300, i, &inner, 1);
        const pm_result r = {.object = object.slot};
        DO(pm_yield(w->a, PM_WAIT, t.task, &r, &room));
        drop(w, object);
    }
    drop(w, inner);
    finish(w, &t);
}

/* Run again, if need be: each item is there once. */
static void after_stream(world *w, bool died)
{
    (void)died;
    stream s = open_stream(w);
    if (state_of(w, s.completed) == PM_PENDING)
        act_yield(w);
    bool failed;
    for (uint64_t i = 0; i < YIELDS; i++)
        CHECK(next_value(w, s.gate) == i);
    CHECK(end_of(w, s.gate, &failed) == PM_EEND && !failed);
    drop_stream(w, s);
}

TEST(death_in_yielding_loses_and_repeats_nothing)
{
    world w = world_new();
    crash_sweep(&w, &(operation){.before = before_stream, .act = act_yield, .after = after_stream});
    pm_close(w.a);
}

static void after_last_attempt(world *w, bool died)
{
    stream s = open_stream(w);
    bool failed;
    uint64_t items;
    DO(pm_stream_look(w->a, PM_WAIT, s.gate.slot, &items, &failed));
    items -= state_of(w, s.gate) == PM_FAILED;
    if (state_of(w, s.completed) == PM_PENDING) { /* it died before it took the task */
        CHECK(died && items == 0);
        pm_running t = start(w);
        fail(w, &t);
    }
    for (uint64_t i = 0; i < items; i++)
        CHECK(next_value(w, s.gate) == i);
    bool ended_well = state_of(w, s.completed) == PM_SEALED;
    CHECK(items == YIELDS || !ended_well);
    CHECK(end_of(w, s.gate, &failed) == PM_EEND && failed == !ended_well);
    CHECK(end_of(w, s.gate, &failed) == PM_EEND && !failed);
    drop_stream(w, s);
}

static void before_last_attempt(world *w)
{
    stream s = submit_stream(w, 0, 0);
    w->b->refs[0] = s.gate;
    w->b->refs[1] = s.completed;
}

TEST(death_in_yielding_without_retries_ends_the_stream_with_its_error)
{
    world w = world_new();
    crash_sweep(
        &w,
        &(operation){.before = before_last_attempt, .act = act_yield, .after = after_last_attempt});
    pm_close(w.a);
}

/* The victim submits and takes; the test's process yields. */
static void act_take(world *w)
{
    stream s = submit_stream(w, 2, 0);
    w->b->refs[0] = s.gate;
    w->b->refs[1] = s.completed;
    bool failed;
    for (uint64_t i = 0; i < YIELDS; i++)
        CHECK(next_value(w, s.gate) == i);
    DO(pm_wait(w->a, &s.gate.slot, 1, 1, 0, false));
    CHECK(end_of(w, s.gate, &failed) == PM_EEND);
    drop_stream(w, s);
}

TEST(death_of_the_taker_stops_the_task)
{
    world w = world_new();
    w.b->word[0] = YIELDS;
    int deaths = 0;
    for (uint64_t n = 1;; n++) {
        pm_stats then = stats(&w);
        pid_t producer = spawn(&w, produce);
        AWAIT(stats(&w).idle == 1);
        bool died = reap(victim(&w, &(operation){.act = act_take}, n));
        deaths += died;
        CHECK(sweep_dead(&w) >= 1);
        pm_stats now = stats(&w);
        if (now.idle == 1 && now.ready == 0) /* it died before the task was there */
            drop_stream(&w, submit_stream(&w, 0, 0));
        CHECK(!reap(producer));
        sweep_dead(&w);
        same(&w, then);
        clean(&w);
        if (!died)
            break;
    }
    CHECK(deaths > 20);
    pm_close(w.a);
}

/* A victim that holds a stream of many items, and drops it. */
static void prepare_many(world *w)
{
    stream s = submit_stream(w, 0, 0);
    pm_running t = start(w);
    for (uint64_t i = 0; i < 60; i++)
        yield(w, &t, i);
    w->b->refs[0] = s.gate;
    w->b->refs[1] = s.completed;
    if (w->b->word[4])
        finish(w, &t);
}

static void act_drop(world *w)
{
    drop(w, w->b->refs[0]);
    drop(w, w->b->refs[1]);
    DO(pm__settle(w->a, PM_WAIT));
}

TEST(death_in_dropping_a_stream_of_a_running_and_of_an_ended_task)
{
    world w = world_new();
    for (w.b->word[4] = 0; w.b->word[4] < 2; w.b->word[4]++)
        crash_sweep(&w, &(operation){.prepare = prepare_many, .act = act_drop});
    pm_close(w.a);
}

static void before_paused(world *w)
{
    stream s = submit_stream(w, 1, 1);
    w->b->refs[0] = s.gate;
    w->b->refs[1] = s.completed;
}

static void act_pause(world *w)
{
    pm_running t = start(w);
    bool room;
    if (t.made == 0)
        CHECK(yield_value(w, &t, 0, &room) == PM_OK && !room);
    int rc;
    while ((rc = pm_await_room(w->a, t.task, pm__os_now() + 100000)) == PM_EAGAIN)
        continue;
    CHECK(rc == PM_ETIMEOUT);
    finish(w, &t);
}

static void after_pause(world *w, bool died)
{
    (void)died;
    stream s = open_stream(w);
    pm_running t;
    if (take(w, &t)) {
        if (t.made == 0)
            yield(w, &t, 0);
        finish(w, &t);
    }
    CHECK(next_value(w, s.gate) == 0);
    drop_stream(w, s);
}

TEST(death_in_a_pause)
{
    world w = world_new();
    crash_sweep(&w, &(operation){.before = before_paused, .act = act_pause, .after = after_pause});
    pm_close(w.a);
}

/* The waiter of a dead task's pause may be another's by now: it only looks once more. */
TEST(resuming_a_dead_task_is_harmless)
{
    world w = world_new();
    pm_stats then = stats(&w);
    w.b->word[0] = 5;
    stream s = submit_stream(&w, 1, 1);
    pid_t pid = spawn(&w, produce);
    AWAIT(pm__stream(w.a, s.gate.slot + 1)->pausing.v);
    slay(pid);
    CHECK(sweep_dead(&w) == 1);
    clean(&w);
    pid = spawn(&w, produce);
    for (uint64_t i = 0; i < 5; i++)
        CHECK(next_value(&w, s.gate) == i);
    CHECK(!reap(pid));
    sweep_dead(&w);
    drop_stream(&w, s);
    same(&w, then);
    clean(&w);
    pm_close(w.a);
}

HARNESS_MAIN
