/* crash.c - crash and pause points; see crash.h. */
#include "crash.h"

typedef int pm_crash_not_empty;

#ifdef PM_CRASH_POINTS
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

static uint64_t armed, passed;
static const char *pause_name;
static volatile uint32_t *pause_gate;

void pm_crash_arm(uint64_t nth)
{
    armed = nth;
    passed = 0;
}

uint64_t pm_crash_passed(void)
{
    return passed;
}

void pm_crash_pause(const char *name, uint32_t *gate)
{
    pause_name = name;
    pause_gate = gate;
}

void pm_crash_point(const char *name)
{
    passed++;
    if (armed && passed == armed)
        kill(getpid(), SIGKILL);
    if (pause_name && strcmp(name, pause_name) == 0) {
        pause_name = NULL; /* once */
        pause_gate[0] = 1;
        while (pause_gate[1] == 0)
            usleep(200); /* test builds only */
    }
}
#endif
