"""The processes of a session: keeper, nursery, workers, and the driver's side of them.

    user's program (driver) ── same arena, mapped ── worker 1 … worker n
            │ starts, watches                           ▲ forks
            └──────── keeper ──────── nursery ──────────┘

Who imports what decides how fast each is up, so every file belongs to certain processes:

resources    driver    what this machine and its cgroup have; checks of `init()`'s sizes
oom          keeper    which deaths are the kernel's doing because memory ran out
counters     keeper    numbers in files of the kernel
memory_watch keeper    which task gives way before memory runs out
trimming     keeper    gives free memory of the store back when nobody uses it
session      driver    makes the arena, the sockets, the command lines, and starts the keeper
logs         driver    follows the workers' output files and prints their lines
board        driver    draws progress bars beneath those lines
bars         all       progress bars on their way there
root         root      the driver of a session that outlives its starter
guest        guest     finds and joins a session
keeper       keeper    notices deaths, repairs, asks for workers; imports nothing heavy
nursery      nursery   preloads what workers need and forks them
worker       worker    takes tasks and runs them
output       keeper, nursery, worker: where stdout and stderr go
names        keeper, programs: named objects
imports      all       where modules are found
lifeline     all       ends a process with another, by the kernel alone
handover     all       Unix sockets that pass descriptors between processes of one user
environment  nursery, worker: thread counts of numeric libraries
start        nursery, worker: what the one hands to the other
limits       keeper, worker: how many workers there may be
"""
