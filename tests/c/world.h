/* world.h - a session for C tests: its arena, other processes in it, and what must hold after any of them died. */
#ifndef PM_TEST_WORLD_H
#define PM_TEST_WORLD_H

#include <fcntl.h>
#include <sys/mman.h>

#include "../../csrc/crash.h"
#include "../../csrc/plasmid.h"
#include "harness.h"

/* Memory that a test and its children share; each test gives the words a meaning. */
typedef struct {
    uint32_t gate[2]; /* of a pause point */
    _Atomic uint64_t word[64];
    pm_ref refs[1100];
} board;

/* The session as one process sees it. */
typedef struct {
    pm_arena *a;
    board *b;
} world;

/* Run `call`, again while the lock is busy; it must succeed. */
#define DO(call)                                                                                   \
    do {                                                                                           \
        int rc_;                                                                                   \
        while ((rc_ = (call)) == PM_EAGAIN)                                                        \
            continue;                                                                              \
        if (rc_) {                                                                                 \
            fprintf(stderr, "%s:%d: %s: %s = %d: %s\n", __FILE__, __LINE__, __func__, #call, rc_,  \
                    pm_strerror(rc_));                                                             \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

__attribute__((unused)) static world world_with_disk(uint64_t heap_bytes, uint64_t disk_bytes,
                                                     uint64_t cpus)
{
    world w = {
        .b = mmap(NULL, sizeof(board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)};
    CHECK(w.b != MAP_FAILED);
    DO(pm_open_new(heap_bytes, disk_bytes, &(pm_total){"CPU", cpus * PM_UNITS}, 1, &w.a));
    if (disk_bytes) {
        int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        CHECK(fd >= 0);
        DO(pm_disk_use(w.a, fd));
        close(fd);
    }
    return w;
}

__attribute__((unused)) static world world_of(uint64_t heap_bytes, uint64_t cpus)
{
    return world_with_disk(heap_bytes, 0, cpus);
}

__attribute__((unused)) static world world_new(void)
{
    return world_of(64 << 20, 4);
}

/* ---- other processes --------------------------------------------------------------------------------------- */

/* A child that joins the session, runs, and dies without leaving it. */
__attribute__((unused)) static pid_t spawn_kind(const world *w, enum pm_kind kind,
                                                void (*run)(world *))
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        world mine = {.b = w->b};
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int rc = pm_open_fd(w->a->fd, kind, -1, -1, &mine.a);
        if (rc == PM_EGONE)
            _exit(0); /* the session ended before it could join */
        CHECK(rc == PM_OK);
        run(&mine);
        _exit(0);
    }
    return pid;
}

__attribute__((unused)) static pid_t spawn(const world *w, void (*run)(world *))
{
    return spawn_kind(w, PM_WORKER, run);
}

/* Whether it was killed; any other end but success is a failure of the test. */
__attribute__((unused)) static bool reap(pid_t pid)
{
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
    return status != 0;
}

__attribute__((unused)) static void slay(pid_t pid)
{
    CHECK(kill(pid, SIGKILL) == 0);
    reap(pid);
}

/* Let others run until `cond`; the harness's alarm is the limit. */
#define AWAIT(cond)                                                                                \
    do                                                                                             \
        usleep(100);                                                                               \
    while (!(cond))

__attribute__((unused)) static void gate_arm(world *w, const char *point)
{
    pm_crash_pause(point, w->b->gate);
}

__attribute__((unused)) static void gate_await(const world *w)
{
    AWAIT(((volatile uint32_t *)w->b->gate)[0]);
}

__attribute__((unused)) static void gate_open(world *w)
{
    ((volatile uint32_t *)w->b->gate)[1] = 1;
}

__attribute__((unused)) static void gate_reset(world *w)
{
    w->b->gate[0] = w->b->gate[1] = 0;
}

static inline pm_stats stats(const world *w)
{
    pm_stats s;
    DO(pm_stats_read(w->a, PM_WAIT, &s));
    return s;
}

static const pm_death killed = {.cause = -SIGKILL};

/* Sweep every dead client; how many there were. */
__attribute__((unused)) static int sweep_dead(const world *w)
{
    int n = 0;
    stats(w); /* who takes the lock repairs: the epochs read below are committed */
    for (uint64_t i = 0; i < pm__client_high(w->a); i++) {
        int rc = i == w->a->slot ? PM_EALIVE : PM_EAGAIN;
        while (rc == PM_EAGAIN)
            rc = pm_sweep(w->a, i, w->a->clients[i].epoch.v, &killed);
        CHECK(rc == PM_OK || rc == PM_EALIVE || rc == PM_ENOTFOUND);
        n += rc == PM_OK;
    }
    return n;
}

/* ---- what must hold ---------------------------------------------------------------------------------------- */

__attribute__((unused)) static void clean(const world *w)
{
    char why[300];
    int rc = pm_check(w->a, why, sizeof why);
    if (rc)
        fprintf(stderr, "pm_check: %s: %s\n", pm_strerror(rc), why);
    CHECK(rc == PM_OK);
}

/* Nothing leaked since `then`. */
__attribute__((unused)) static void same(const world *w, pm_stats then)
{
    DO(pm__settle(w->a, PM_WAIT));
    pm_stats now = stats(w);
    CHECK(now.entries == then.entries);
    CHECK(now.holds == then.holds);
    CHECK(now.tasks == then.tasks);
    CHECK(now.keys == then.keys);
    CHECK(now.heap_used == then.heap_used);
    CHECK(now.cpu_free == then.cpu_free);
    CHECK(now.clients == then.clients);
    CHECK(now.ready == then.ready);
}

/* ---- crash sweeps ------------------------------------------------------------------------------------------ */

typedef struct {
    void (*before)(world *);  /* the test's process: what is there when the operation begins */
    void (*prepare)(world *); /* the child, before its points are armed */
    void (*act)(world *);     /* the child dies at its nth point in here */
    void (*after)(
        world *,
        bool died); /* the test's process, the child swept: before or after; give all back */
} operation;

static inline void run_if(void (*f)(world *), world *w)
{
    if (f)
        f(w);
}

/* The child of a sweep: dies at the nth point of op->act. */
__attribute__((unused)) static pid_t victim(const world *w, const operation *op, uint64_t nth)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        world mine = {.b = w->b};
        DO(pm_open_fd(w->a->fd, PM_WORKER, -1, -1, &mine.a));
        run_if(op->prepare, &mine);
        pm_crash_arm(nth);
        op->act(&mine);
        pm_crash_arm(0);
        _exit(0);
    }
    return pid;
}

/* Kill a process at each point of the operation in turn. `step`: look at each, or at every step-th point. */
__attribute__((unused)) static void crash_sweep_by(world *w, const operation *op, uint64_t step)
{
    int deaths = 0;
    for (uint64_t n = 1;; n += step) {
        pm_stats then = stats(w);
        run_if(op->before, w);
        bool died = reap(victim(w, op, n));
        deaths += died;
        CHECK(sweep_dead(w) == 1);
        clean(w);
        if (op->after)
            op->after(w, died);
        same(w, then);
        clean(w);
        if (!died)
            break;
    }
    CHECK(deaths > 0);
}

__attribute__((unused)) static void crash_sweep(world *w, const operation *op)
{
    crash_sweep_by(w, op, 1);
}

#endif
