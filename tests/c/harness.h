/* harness.h - the frame of every C test program.
 *
 *   TEST(a_sentence_about_the_subject)
 *   {
 *       CHECK(condition);
 *   }
 *   HARNESS_MAIN
 *
 * program            runs every test, in the file's order
 * program NAME...    runs these
 * program --list     prints the names, one a line
 *
 * Each test runs in a process of its own, prints `ok NAME` or `FAIL NAME`, and leaves no process behind; the exit
 * status is 1 if any failed. A test that hangs is killed after HARNESS_SECONDS (environment; 120 unless set) and
 * fails: a guard against deadlock, not a speed test.
 */
#ifndef PM_TEST_HARNESS_H
#define PM_TEST_HARNESS_H

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct {
    const char *name;
    void (*run)(void);
} harness_test;

enum { HARNESS_MAX = 200 };

static harness_test harness_tests[HARNESS_MAX];
static int harness_count;

/* Define a test; it joins the list before main() runs, in the file's order. */
#define TEST(title)                                                                                \
    static void test_##title(void);                                                                \
    __attribute__((constructor)) static void register_##title(void)                                \
    {                                                                                              \
        if (harness_count == HARNESS_MAX)                                                          \
            abort();                                                                               \
        harness_tests[harness_count++] = (harness_test){#title, test_##title};                     \
    }                                                                                              \
    static void test_##title(void)

/* End the process with status 1 and the place unless `cond` holds; also right in a child a test forked. */
#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: %s: CHECK(%s)\n", __FILE__, __LINE__, __func__, #cond);        \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static unsigned harness_seconds(void)
{
    const char *s = getenv("HARNESS_SECONDS");
    return s ? (unsigned)atoi(s) : 120;
}

/* Runs in the child. exit(), not _exit(): the sanitizers report leaks on the way out. */
static void harness_child(const harness_test *t)
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(harness_seconds());
    t->run();
    exit(0);
}

static int harness_run(const harness_test *t)
{
    siginfo_t end;
    int status = 0;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        harness_child(t);
    /* Seen dead but not yet reaped, its number still names its process group: what it forked goes with it. */
    while (pid > 0 && waitid(P_PID, (id_t)pid, &end, WEXITED | WNOWAIT) != 0)
        continue;
    int ok = pid > 0 && kill(-pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid && status == 0;
    printf("%s %s", ok ? "ok" : "FAIL", t->name);
    if (!ok && WIFSIGNALED(status))
        printf(" (%s)", strsignal(WTERMSIG(status)));
    printf("\n");
    return !ok;
}

static const harness_test *harness_find(const char *name)
{
    for (int i = 0; i < harness_count; i++)
        if (strcmp(harness_tests[i].name, name) == 0)
            return &harness_tests[i];
    fprintf(stderr, "no test named %s; see --list\n", name);
    exit(2);
}

static int harness_main(int argc, char **argv)
{
    int failed = 0;
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (int i = 0; i < harness_count; i++)
            printf("%s\n", harness_tests[i].name);
        return 0;
    }
    for (int i = 1; i < argc; i++)
        failed |= harness_run(harness_find(argv[i]));
    for (int i = 0; argc == 1 && i < harness_count; i++)
        failed |= harness_run(&harness_tests[i]);
    return failed;
}

#define HARNESS_MAIN                                                                               \
    int main(int argc, char **argv)                                                                \
    {                                                                                              \
        return harness_main(argc, argv);                                                           \
    }

#endif
