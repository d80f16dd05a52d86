/* test_resource.c - what tasks need and hold, GPUs, placement groups, and deaths beside them. */
#include "tasks.h"

enum { GPU = PM_UNITS, MEMORY = 1000, RED = 5 * PM_UNITS, RED_KIND = PM_CUSTOM };

/* 4 CPUs, 4 GPUs, 1000 bytes to ask for, 5 of a resource of the user's. */
static world world_rich(void)
{
    world w = {
        .b = mmap(NULL, sizeof(board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)};
    const pm_total totals[] = {{"CPU", 4 * CPU}, {"GPU", 4 * GPU}, {"", MEMORY}, {"red", RED}};
    CHECK(w.b != MAP_FAILED);
    DO(pm_open_new(16 << 20, 0, totals, 4, &w.a));
    return w;
}

static int64_t left_of(const world *w, uint64_t kind)
{
    return (int64_t)w->a->h->bundles[0].free[kind].v;
}

/* All of it is there again, GPUs as whole devices. */
static void all_free(const world *w)
{
    DO(pm__settle(w->a, PM_WAIT));
    for (uint64_t k = 0; k < PM_KINDS; k++)
        CHECK(left_of(w, k) == (int64_t)w->a->h->total[k]);
    CHECK(w->a->h->bundles[0].devices.v == 0xf && w->a->h->bundles[0].partial.v == 0);
    clean(w);
}

typedef struct {
    uint64_t cpu, gpu, memory, red, nrets, retries, group;
    int64_t bundle;
} wish;

static int ask(const world *w, wish it, pm_ref *out)
{
    const pm_need more[] = {{PM_GPU, it.gpu}, {PM_MEMORY, it.memory}, {RED_KIND, it.red}};
    pm_ref function = put(w, 7);
    const pm_task_spec spec = {.function = function.slot,
                               .name = "a task",
                               .payload = "",
                               .packed = -1,
                               .nrets = it.nrets,
                               .cpu = it.cpu,
                               .more = more,
                               .nmore = 3,
                               .group = it.group,
                               .bundle = it.bundle,
                               .retries = it.retries};
    int rc = submit_spec(w, &spec, out);
    drop(w, function);
    return rc;
}

/* Without results that anybody looks at. */
static void want(const world *w, wish it)
{
    pm_ref out[64];
    DO(ask(w, it, out));
    for (uint64_t i = 0; i < it.nrets; i++)
        drop(w, out[i]);
}

static pm_running taken(const world *w)
{
    pm_running t;
    CHECK(take(w, &t));
    return t;
}

/* It cannot finish; what the sweep of its runner, which is us, would do. */
static void end_removed(const world *w, const pm_running *t)
{
    pm_op op;
    const pm_result none = {.data = "", .failed = true};
    pm_result results[64];
    for (uint64_t i = 0; i < t->nrets; i++)
        results[i] = none;
    CHECK(pm_finish(w->a, PM_WAIT, t->task, results, NULL) == PM_ECANCELLED);
    CHECK(pm_retry(w->a, PM_WAIT, t->task) == PM_ECANCELLED);
    DO(pm__detach(w->a, t->task));
    DO(pm__enter(&op, w->a, PM_WAIT));
    pm__task_rerun(&op, t->task, pm__os_now());
    DO(pm__done(&op));
}

static void finish_or_end(const world *w, const pm_running *t)
{
    if (pm__removed_group_of(w->a, t->task))
        end_removed(w, t);
    else
        finish(w, t);
}

static bool nothing_fits(const world *w)
{
    pm_running t;
    return !take(w, &t);
}

/* ---- vectors ----------------------------------------------------------------------------------------------- */

TEST(task_starts_when_all_that_it_needs_is_free)
{
    world w = world_rich();
    want(&w, (wish){.cpu = CPU, .memory = 600, .red = 3 * PM_UNITS});
    want(&w, (wish){.cpu = CPU, .memory = 600});
    want(&w, (wish){.cpu = CPU, .red = 3 * PM_UNITS});
    want(&w, (wish){.cpu = CPU, .memory = 400, .red = 2 * PM_UNITS});
    pm_running a = taken(&w), b = taken(&w);
    CHECK(left_of(&w, PM_MEMORY) == 0 && left_of(&w, RED_KIND) == 0);
    CHECK(left_of(&w, PM_CPU) == 2 * CPU && nothing_fits(&w));
    clean(&w);
    finish(&w, &b);
    CHECK(nothing_fits(&w));
    finish(&w, &a);
    a = taken(&w);
    b = taken(&w);
    CHECK(nothing_fits(&w));
    finish(&w, &a);
    finish(&w, &b);
    all_free(&w);
    pm_close(w.a);
}

TEST(blocked_task_gives_back_its_cpu_and_nothing_else)
{
    world w = world_rich();
    want(&w, (wish){.cpu = CPU, .gpu = GPU, .memory = 600, .red = PM_UNITS});
    pm_running t = taken(&w);
    DO(pm_block(w.a, PM_WAIT, t.task));
    DO(pm_block(w.a, PM_WAIT, t.task)); /* no matter */
    CHECK(left_of(&w, PM_CPU) == 4 * CPU && left_of(&w, PM_GPU) == 3 * GPU);
    CHECK(left_of(&w, PM_MEMORY) == 400 && left_of(&w, RED_KIND) == 4 * PM_UNITS);
    clean(&w);
    DO(pm_resume(w.a, PM_WAIT, t.task));
    DO(pm_resume(w.a, PM_WAIT, t.task));
    CHECK(left_of(&w, PM_CPU) == 3 * CPU);
    DO(pm_block(w.a, PM_WAIT, t.task));
    finish(&w, &t); /* blocked as it is */
    all_free(&w);
    pm_close(w.a);
}

TEST(awaited_task_runs_without_cpu_but_not_without_the_rest)
{
    world w = world_rich();
    pm_ref out;
    pm_running outer, inner;
    uint64_t from = 0;
    want(&w, (wish){.cpu = 4 * CPU, .red = 3 * PM_UNITS});
    outer = taken(&w);
    DO(ask(&w, (wish){.cpu = 4 * CPU, .red = 3 * PM_UNITS, .nrets = 1}, &out));
    CHECK(pm_take_awaited(w.a, PM_WAIT, &out.slot, 1, true, &from, &inner) == PM_ENOTFOUND);
    drop(&w, out);
    DO(ask(&w, (wish){.cpu = 4 * CPU, .red = 2 * PM_UNITS, .nrets = 1}, &out));
    from = 0;
    DO(pm_take_awaited(w.a, PM_WAIT, &out.slot, 1, true, &from, &inner));
    CHECK(left_of(&w, PM_CPU) == -4 * CPU && left_of(&w, RED_KIND) == 0);
    clean(&w);
    finish(&w, &inner);
    finish(&w, &outer);
    drop(&w, out);
    CHECK(run_all(&w) == 1);
    all_free(&w);
    pm_close(w.a);
}

TEST(unknown_kinds_and_too_many_are_refused)
{
    world w = world_rich();
    pm_ref function = put(&w, 1), out;
    const pm_need unknown = {PM_CUSTOM + 1, 1}, cpu = {PM_CPU, 1};
    pm_task_spec spec = {.function = function.slot, .name = "", .payload = "", .packed = -1};
    spec.more = &unknown;
    spec.nmore = 1;
    CHECK(submit_spec(&w, &spec, &out) == PM_EINVAL);
    spec.more = &cpu;
    CHECK(submit_spec(&w, &spec, &out) == PM_EINVAL);
    spec.nmore = 0;
    spec.group = 1;
    CHECK(submit_spec(&w, &spec, &out) == PM_EREMOVED);
    drop(&w, function);
    all_free(&w);
    pm_close(w.a);
    pm_total many[PM_KINDS + 1];
    for (int i = 0; i <= PM_KINDS; i++)
        many[i] = (pm_total){"kind", 1};
    CHECK(pm_open_new(1 << 20, 0, many, PM_KINDS + 1, &w.a) == PM_EINVAL);
    CHECK(pm_open_new(1 << 20, 0, &(pm_total){"CPU", 1}, 0, &w.a) == PM_EINVAL);
    const pm_total gpus[] = {{"CPU", CPU}, {"GPU", (PM_DEVICES + 1) * GPU}};
    CHECK(pm_open_new(1 << 20, 0, gpus, 2, &w.a) == PM_EINVAL);
}

/* ---- GPUs -------------------------------------------------------------------------------------------------- */

TEST(whole_gpus_are_devices_of_their_own)
{
    world w = world_rich();
    want(&w, (wish){.gpu = 2 * GPU});
    want(&w, (wish){.gpu = GPU});
    want(&w, (wish){.gpu = 2 * GPU});
    pm_running a = taken(&w), b = taken(&w);
    CHECK(a.devices == 3 && b.devices == 4 && nothing_fits(&w));
    finish(&w, &a);
    a = taken(&w);
    CHECK(a.devices == 3);
    finish(&w, &a);
    finish(&w, &b);
    all_free(&w);
    pm_close(w.a);
}

TEST(parts_of_gpus_are_packed_and_never_spread_over_two)
{
    world w = world_rich();
    const uint64_t parts[] = {6000, 3000, 6000, 4000, 1000, 10000, 10000, 500};
    const uint64_t devices[] = {1, 1, 2, 2, 1, 4, 8};
    pm_running t[8];
    for (int i = 0; i < 8; i++)
        want(&w, (wish){.gpu = parts[i]});
    for (int i = 0; i < 7; i++) {
        t[i] = taken(&w);
        CHECK(t[i].devices == devices[i]);
        clean(&w);
    }
    CHECK(left_of(&w, PM_GPU) == 0 && nothing_fits(&w));
    finish(&w, &t[4]);
    t[7] = taken(&w);
    CHECK(t[7].devices == 1);
    want(&w, (wish){.gpu = GPU});
    finish(&w, &t[0]);
    finish(&w, &t[2]);
    CHECK(left_of(&w, PM_GPU) == 12500 && nothing_fits(&w)); /* more than one, but no whole one */
    finish(&w, &t[3]);
    t[0] = taken(&w);
    CHECK(t[0].devices == 2);
    const int rest[] = {0, 1, 5, 6, 7};
    for (int i = 0; i < 5; i++)
        finish(&w, &t[rest[i]]);
    all_free(&w);
    pm_close(w.a);
}

/* ---- placement groups -------------------------------------------------------------------------------------- */

/* Bundles given as CPU, GPU, red, all in units, one after the other. */
static int group_of(const world *w, const uint64_t (*b)[3], uint64_t n, const char *name, bool mine,
                    uint64_t *serial)
{
    uint64_t bundles[PM_BUNDLES][PM_KINDS] = {0};
    for (uint64_t i = 0; i < n; i++) {
        bundles[i][PM_CPU] = b[i][0];
        bundles[i][PM_GPU] = b[i][1];
        bundles[i][RED_KIND] = b[i][2];
    }
    const pm_group_spec spec = {
        .bundles = (const uint64_t (*)[PM_KINDS])bundles, .count = n, .name = name, .mine = mine};
    int rc;
    while ((rc = pm_group_create(w->a, PM_WAIT, &spec, serial)) == PM_EAGAIN)
        continue;
    return rc;
}

static uint64_t new_group(const world *w, const uint64_t (*b)[3], uint64_t n)
{
    uint64_t serial;
    CHECK(group_of(w, b, n, "", false, &serial) == PM_OK);
    DO(pm__settle(w->a, PM_WAIT));
    return serial;
}

static uint64_t state_of_group(const world *w, uint64_t serial)
{
    pm_group_info found[PM_GROUPS];
    uint64_t n;
    DO(pm_groups(w->a, PM_WAIT, found, &n));
    for (uint64_t i = 0; i < n; i++)
        if (found[i].serial == serial)
            return found[i].state;
    return PM_GROUP_FREE;
}

static void remove_now(const world *w, uint64_t serial)
{
    DO(pm_group_remove(w->a, PM_WAIT, serial));
    DO(pm__settle(w->a, PM_WAIT));
}

static const uint64_t TWO[][3] = {{CPU, 2 * GPU, PM_UNITS}, {2 * CPU, 5000, 0}};

TEST(tasks_of_a_group_have_its_bundles_and_nobody_else_has)
{
    world w = world_rich();
    uint64_t g = new_group(&w, TWO, 2);
    CHECK(state_of_group(&w, g) == PM_GROUP_READY);
    CHECK(left_of(&w, PM_CPU) == CPU && left_of(&w, PM_GPU) == 15000);
    want(&w, (wish){.cpu = 2 * CPU});
    CHECK(nothing_fits(&w));
    want(&w, (wish){.cpu = CPU, .gpu = GPU, .group = g, .bundle = -1});
    want(&w, (wish){.cpu = CPU, .gpu = 2500, .group = g, .bundle = 1});
    want(&w, (wish){.cpu = CPU, .gpu = 2500, .group = g, .bundle = 1});
    want(&w, (wish){.cpu = CPU, .gpu = 2500, .group = g, .bundle = 1});
    want(&w, (wish){.cpu = CPU, .group = g, .bundle = 0});
    pm_running a = taken(&w), b = taken(&w), c = taken(&w);
    CHECK(nothing_fits(&w) && a.group == g && a.devices == 1 && b.devices == 4 && c.devices == 4);
    clean(&w);
    DO(pm_block(w.a, PM_WAIT, a.task));
    CHECK(left_of(&w, PM_CPU) == CPU); /* lent to the group's tasks */
    pm_running d = taken(&w);
    DO(pm_resume(w.a, PM_WAIT, a.task));
    clean(&w);
    finish(&w, &b);
    b = taken(&w);
    finish(&w, &a);
    finish(&w, &b);
    finish(&w, &c);
    finish(&w, &d);
    clean(&w);
    remove_now(&w, g);
    CHECK(state_of_group(&w, g) == PM_GROUP_FREE);
    CHECK(run_all(&w) == 1);
    all_free(&w);
    pm_close(w.a);
}

TEST(group_waits_for_what_it_needs_and_no_younger_task_overtakes_it)
{
    world w = world_rich();
    const uint64_t all[][3] = {{2 * CPU, 0, 0}, {2 * CPU, 0, 0}};
    want(&w, (wish){.cpu = CPU});
    pm_running t = taken(&w), u;
    uint64_t g = new_group(&w, all, 2);
    CHECK(state_of_group(&w, g) == PM_GROUP_PENDING);
    want(&w, (wish){.cpu = CPU, .group = g, .bundle = -1});
    want(&w, (wish){.cpu = CPU});
    u = taken(&w); /* the group could not be reserved anyway */
    CHECK(u.group == 0);
    want(&w, (wish){.cpu = CPU});
    finish(&w, &t);
    CHECK(state_of_group(&w, g) == PM_GROUP_PENDING);
    t = taken(&w);
    finish(&w, &t);
    finish_into(&w, &u, &t); /* takes the next in the same lock hold */
    CHECK(t.task == 0);
    CHECK(state_of_group(&w, g) == PM_GROUP_READY);
    want(&w, (wish){.cpu = CPU});
    t = taken(&w);
    CHECK(t.group == g && nothing_fits(&w));
    finish(&w, &t);
    remove_now(&w, g);
    CHECK(run_all(&w) == 1);
    all_free(&w);
    pm_close(w.a);
}

TEST(what_a_group_has_in_use_comes_back_when_its_tasks_end)
{
    for (int how = 0; how < 2; how++) {
        world w = world_rich();
        pm_ref out[2];
        uint64_t g = new_group(&w, TWO, 2), n, slots[PM_CLIENTS];
        want(&w, (wish){.cpu = CPU, .gpu = 2 * GPU, .red = PM_UNITS, .group = g, .bundle = -1});
        want(&w, (wish){.cpu = CPU, .gpu = 3000, .group = g, .bundle = 1});
        pm_running a = taken(&w), b = taken(&w);
        if (how)
            DO(pm_block(w.a, PM_WAIT, a.task));
        DO(ask(&w, (wish){.cpu = 2 * CPU, .nrets = 2, .retries = 9, .group = g, .bundle = 1}, out));
        remove_now(&w, g);
        clean(&w);
        CHECK(state_of_group(&w, g) == PM_GROUP_REMOVED);
        CHECK(state_of(&w, out[0]) == PM_FAILED && state_of(&w, out[1]) == PM_FAILED);
        CHECK(ask(&w, (wish){.nrets = 0, .group = g, .bundle = 0}, NULL) == PM_EREMOVED);
        DO(pm_group_runners(w.a, PM_WAIT, slots, &n));
        CHECK(n == 1 && slots[0] == w.a->slot);
        CHECK(left_of(&w, PM_CPU) == (how ? 3 : 2) * CPU && left_of(&w, PM_GPU) == 17000);
        if (how)
            DO(pm_resume(w.a, PM_WAIT, a.task));
        want(&w, (wish){.gpu = 7000}); /* of the device of the slice */
        pm_running c = taken(&w);
        CHECK(c.devices == b.devices);
        end_removed(&w, &a);
        finish(&w, &c);
        clean(&w);
        end_removed(&w, &b);
        drop(&w, out[0]);
        drop(&w, out[1]);
        all_free(&w);
        CHECK(state_of_group(&w, g) == PM_GROUP_FREE);
        DO(pm_group_remove(w.a, PM_WAIT, g));
        pm_close(w.a);
    }
}

TEST(task_that_waits_for_arguments_fails_when_they_are_there)
{
    world w = world_rich();
    pm_ref late = pending(&w, 8, 1, NULL, 0), function = put(&w, 1), out;
    const pm_task_argument arg = {late.slot, true};
    uint64_t g = new_group(&w, TWO, 2);
    const pm_task_spec spec = {.function = function.slot,
                               .name = "",
                               .payload = "",
                               .packed = -1,
                               .args = &arg,
                               .nargs = 1,
                               .nrets = 1,
                               .group = g};
    DO(submit_spec(&w, &spec, &out));
    remove_now(&w, g);
    CHECK(state_of(&w, out) == PM_PENDING && state_of_group(&w, g) == PM_GROUP_REMOVED);
    clean(&w);
    DO(pm_seal(w.a, PM_WAIT, late.slot, false));
    DO(pm__settle(w.a, PM_WAIT));
    CHECK(state_of(&w, out) == PM_FAILED);
    drop(&w, late);
    drop(&w, function);
    drop(&w, out);
    all_free(&w);
    CHECK(state_of_group(&w, g) == PM_GROUP_FREE);
    pm_close(w.a);
}

TEST(tables_of_groups_fill_and_names_are_taken_once)
{
    world w = world_rich();
    const uint64_t none[][3] = {{9 * CPU, 0, 0}};
    uint64_t serials[PM_GROUPS], more;
    CHECK(group_of(&w, none, 1, "name", false, &serials[0]) == PM_OK);
    CHECK(group_of(&w, none, 1, "name", false, &more) == PM_EEXISTS);
    for (int i = 1; i < PM_GROUPS; i++)
        CHECK(group_of(&w, none, 1, "", false, &serials[i]) == PM_OK);
    CHECK(group_of(&w, none, 1, "", false, &more) == PM_ETABLE);
    clean(&w);
    for (int i = 0; i < PM_GROUPS; i++)
        remove_now(&w, serials[i]);
    CHECK(group_of(&w, none, 1, "name", false, &more) == PM_OK && more == PM_GROUPS + 1);
    remove_now(&w, more);
    uint64_t large[PM_BUNDLES][3];
    for (int i = 0; i < PM_BUNDLES; i++)
        memcpy(large[i], (uint64_t[3]){1, 0, 0}, sizeof large[i]);
    CHECK(group_of(&w, (const uint64_t (*)[3])large, PM_BUNDLES, "", false, &more) == PM_EINVAL);
    uint64_t g = new_group(&w, (const uint64_t (*)[3])large, PM_BUNDLES - 1);
    CHECK(state_of_group(&w, g) == PM_GROUP_READY && left_of(&w, PM_CPU) == 4 * CPU - 255);
    CHECK(group_of(&w, none, 1, "", false, &more) == PM_ETABLE);
    clean(&w);
    remove_now(&w, g);
    const uint64_t odd[][3] = {{0, 15000, 0}};
    CHECK(group_of(&w, odd, 1, "", false, &more) == PM_EINVAL);
    all_free(&w);
    pm_close(w.a);
}

TEST(as_many_gpu_bundles_as_there_may_be_are_reserved_at_once)
{
    world w = world_rich();
    uint64_t parts[PM_DEVICES][3];
    for (int i = 0; i < PM_DEVICES; i++)
        memcpy(parts[i], (uint64_t[3]){1, 625, 1}, sizeof parts[i]);
    uint64_t g = new_group(&w, (const uint64_t (*)[3])parts, PM_DEVICES);
    CHECK(state_of_group(&w, g) == PM_GROUP_READY && left_of(&w, PM_GPU) == 0);
    clean(&w);
    remove_now(&w, g);
    all_free(&w);
    pm_close(w.a);
}

/* Anything in any order, proved after each step. */
TEST(random_steps_keep_every_account)
{
    enum { RUNNING = 12, LIVE = 6 };
    for (uint64_t seed = 1; seed <= 4; seed++) {
        world w = world_rich();
        pm_running run[RUNNING];
        uint64_t groups[LIVE] = {0}, x = seed * 0x9e3779b97f4a7c15;
        bool blocked[RUNNING] = {0};
        int n = 0;
        for (int step = 0; step < 1500; step++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            uint64_t dice = x >> 20;
            uint64_t *g = &groups[dice / 64 % LIVE];
            int i = n ? (int)(dice / 512 % (uint64_t)n) : 0;
            const uint64_t gpus[] = {0, 0, 2500, 5000, 10000, 20000};
            wish it = {.cpu = dice / 8 % 3 * CPU / 2,
                       .gpu = gpus[dice / 1024 % 6],
                       .red = dice / 8192 % 2 * PM_UNITS,
                       .nrets = dice / 16384 % 3,
                       .retries = 2,
                       .bundle = (int64_t)(dice / 65536 % 3) - 1};
            switch (dice % 8) {
            case 0:
            case 1:
                it.group = dice / 32 % 2 ? *g : 0;
                it.bundle = it.group ? it.bundle : -1;
                if (stats(&w).tasks < 40) {
                    pm_ref out[4];
                    int rc = ask(&w, it, out);
                    CHECK(rc == PM_OK || (rc == PM_EREMOVED && it.group) ||
                          (rc == PM_EINVAL && it.bundle == 1));
                    for (uint64_t k = 0; rc == PM_OK && k < it.nrets; k++)
                        drop(&w, out[k]);
                }
                break;
            case 2:
            case 3:
                if (n < RUNNING && take(&w, &run[n]))
                    blocked[n++] = false;
                break;
            case 4:
                if (n) {
                    if (dice / 4096 % 4 || pm_retry(w.a, PM_WAIT, run[i].task) != PM_OK)
                        finish_or_end(&w, &run[i]);
                    run[i] = run[--n];
                    blocked[i] = blocked[n];
                }
                break;
            case 5:
                if (n) {
                    DO(blocked[i] ? pm_resume(w.a, PM_WAIT, run[i].task)
                                  : pm_block(w.a, PM_WAIT, run[i].task));
                    blocked[i] = !blocked[i];
                }
                break;
            case 6:
                if (dice / 32 % 2)
                    DO(pm_group_remove(w.a, PM_WAIT, *g));
                break;
            case 7: {
                const uint64_t b[][3] = {{it.cpu, it.gpu, it.red}, {CPU, gpus[dice / 9 % 6], 0}};
                DO(pm_group_remove(w.a, PM_WAIT, *g));
                CHECK(group_of(&w, b, 1 + dice / 7 % 2, "", false, g) == PM_OK);
            }
            }
            clean(&w);
        }
        for (int i = 0; i < LIVE; i++)
            DO(pm_group_remove(w.a, PM_WAIT, groups[i]));
        while (n)
            finish_or_end(&w, &run[--n]);
        run_all(&w);
        all_free(&w);
        CHECK(stats(&w).tasks == 0);
        pm_close(w.a);
    }
}

/* ---- deaths ------------------------------------------------------------------------------------------------ */

static const wish KINDS[] = {
    {.cpu = CPU, .gpu = 2 * GPU, .nrets = 1, .retries = 1},
    {.cpu = CPU / 2, .gpu = 2500, .red = PM_UNITS, .nrets = 1, .retries = 1},
    {.memory = 700, .nrets = 6, .retries = 1},
    {.cpu = CPU, .gpu = 5000, .memory = 500, .nrets = 1, .retries = 1},
};
enum { NKINDS = sizeof KINDS / sizeof *KINDS };

static void want_all(world *w)
{
    for (int i = 0; i < NKINDS; i++)
        want(w, KINDS[i]);
}

static void act_use(world *w)
{
    pm_running t[NKINDS + 1];
    int n = 0;
    while (take(w, &t[n]))
        n++;
    DO(pm_block(w->a, PM_WAIT, t[0].task));
    DO(pm_resume(w->a, PM_WAIT, t[0].task));
    DO(pm_block(w->a, PM_WAIT, t[1].task));
    if (t[2].attempt == 1)
        DO(pm_retry(w->a, PM_WAIT, t[2].task));
    finish_into(w, &t[0], &t[NKINDS]);
    finish(w, &t[1]);
}

static void after_use(world *w, bool died)
{
    (void)died;
    clean(w);
    run_all(w);
    CHECK(stats(w).tasks == 0);
    all_free(w);
}

TEST(death_beside_resources_of_several_kinds)
{
    world w = world_rich();
    crash_sweep(&w, &(operation){.before = want_all, .act = act_use, .after = after_use});
    pm_close(w.a);
}

static void act_submit_kinds(world *w)
{
    want_all(w);
}

TEST(death_in_submit_of_several_shapes)
{
    world w = world_rich();
    crash_sweep(&w, &(operation){.act = act_submit_kinds, .after = after_use});
    pm_close(w.a);
}

static void remove_all(world *w, bool died)
{
    pm_group_info found[PM_GROUPS];
    uint64_t n;
    (void)died;
    DO(pm_groups(w->a, PM_WAIT, found, &n));
    for (uint64_t i = 0; i < n; i++)
        DO(pm_group_remove(w->a, PM_WAIT, found[i].serial));
    run_all(w);
    CHECK(stats(w).tasks == 0);
    all_free(w);
    DO(pm_groups(w->a, PM_WAIT, found, &n));
    CHECK(n == 0);
}

static void act_group(world *w)
{
    uint64_t g = new_group(w, TWO, 2);
    want(w, (wish){.cpu = CPU, .gpu = GPU, .nrets = 5, .group = g, .bundle = -1});
    want(w, (wish){.cpu = CPU, .gpu = 2500, .nrets = 1, .retries = 3, .group = g, .bundle = 1});
    want(w, (wish){.cpu = CPU, .gpu = 2500, .nrets = 1, .retries = 3, .group = g, .bundle = 1});
    pm_running a, b;
    CHECK(take(w, &a) && take(w, &b));
    DO(pm_block(w->a, PM_WAIT, a.task));
    DO(pm_group_remove(w->a, PM_WAIT, g));
    DO(pm_resume(w->a, PM_WAIT, a.task));
    end_removed(w, &a);
    end_removed(w, &b);
}

TEST(death_in_the_life_of_a_group)
{
    world w = world_rich();
    crash_sweep(&w, &(operation){.act = act_group, .after = remove_all});
    pm_close(w.a);
}

static void act_leave(world *w)
{
    uint64_t serial;
    CHECK(group_of(w, TWO, 2, "mine", true, &serial) == PM_OK);
    CHECK(group_of(w, TWO, 1, "later", true, &serial) == PM_OK);
}

static void none_left(world *w, bool died)
{
    uint64_t n;
    pm_group_info found[PM_GROUPS];
    (void)died;
    DO(pm_groups(w->a, PM_WAIT, found, &n));
    CHECK(n == 0);
    all_free(w);
}

TEST(groups_of_a_client_go_with_it)
{
    world w = world_rich();
    crash_sweep(&w, &(operation){.act = act_leave, .after = none_left});
    pm_close(w.a);
}

static void run_in_group(world *w)
{
    pm_running t;
    CHECK(take(w, &t));
    atomic_store(&w->b->word[0], 1);
    pause();
}

TEST(worker_killed_for_a_removed_group_leaves_the_right_error)
{
    for (uint64_t retries = 0; retries < 3; retries++) {
        world w = world_rich();
        pm_ref out;
        pm_view v;
        uint64_t g = new_group(&w, TWO, 2);
        DO(ask(&w, (wish){.cpu = CPU, .nrets = 1, .retries = retries, .group = g, .bundle = 0},
               &out));
        pid_t pid = spawn(&w, run_in_group);
        AWAIT(atomic_load(&w.b->word[0]));
        remove_now(&w, g);
        slay(pid);
        CHECK(sweep_dead(&w) == 1);
        CHECK(state_of(&w, out) == PM_FAILED);
        DO(pm_look(w.a, out.slot, &v));
        CHECK(strcmp((const char *)v.data, "\x0eTaskPlacementGroupRemoved") == 0);
        drop(&w, out);
        all_free(&w);
        pm_close(w.a);
    }
}

HARNESS_MAIN
