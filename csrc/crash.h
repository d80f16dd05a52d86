/* crash.h - crash and pause points; empty unless built with PM_CRASH_POINTS.
 *
 * PM_CRASH(name) marks an instant at which a test may kill the process, or park it while another
 * runs. A sweep arms the nth point that is reached, whatever its name, and counts n up until the
 * operation outlives it. */
#ifndef PM_CRASH_H
#define PM_CRASH_H

#ifdef PM_CRASH_POINTS
#include <stdint.h>

/* Die (SIGKILL) at the nth point from now, counting from 1; 0 disarms. */
void pm_crash_arm(uint64_t nth);
/* Points passed since the last arm; tells a sweep that its points fire. */
uint64_t pm_crash_passed(void);
/* Park at the next point of this name: writes 1 to gate[0], then waits until gate[1] is 1. gate:
 * two u32 in memory shared with the test. NULL name disarms. */
void pm_crash_pause(const char *name, uint32_t *gate);
void pm_crash_point(const char *name);
#define PM_CRASH(name) pm_crash_point(#name)
#else
#define PM_CRASH(name) ((void)0)
#endif

#endif
