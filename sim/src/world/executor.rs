//! Runs the tasks of all machines in one thread: a seeded pick among the ready ones, and time that jumps to the next
//! timer when none is.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

use super::machine::Machine;
use super::state::{Death, Slot, Task};
use super::{SimWorld, panics};
use crate::random::Stream;
use crate::report::Violation;

/// So many polls without any passing of time are an endless loop.
const POLLS_AT_ONE_MOMENT: u64 = 2_000_000;

/// Puts its task among the ready ones, once.
pub(crate) struct TaskWaker {
    task: u64,
    queued: AtomicBool,
    world: Weak<SimWorld>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed)
            && let Some(world) = self.world.upgrade()
        {
            world.state().ready.push(self.task);
        }
    }
}

/// Starts a task; on a machine that is switched off it is dropped.
pub(super) fn spawn(world: &SimWorld, machine: Machine, future: Task) {
    let mut state = world.state();
    if !state.machine(machine).alive {
        drop(state);
        drop(future);
        return;
    }
    let task = state.next_task;
    state.next_task += 1;
    let waker = Arc::new(TaskWaker { task, queued: AtomicBool::new(true), world: world.this.clone() });
    state.tasks.insert(task, Slot { machine, future: Some(future), waker });
    state.ready.push(task);
    state.note("spawn", task, || format!("task {task} on {machine}"));
}

enum Next {
    Run(u64, Machine, Task, Arc<TaskWaker>),
    Skip,
    Wake(Vec<Waker>),
    Idle,
}

/// Runs until `done`, or until a property is violated.
pub(super) fn run(world: &Arc<SimWorld>, done: impl Fn() -> bool) -> Result<(), Violation> {
    let mut polls_at_this_moment = 0_u64;
    while !done() {
        match next(world) {
            Next::Run(task, machine, future, waker) => {
                polls_at_this_moment += 1;
                poll(world, task, machine, future, waker);
                if polls_at_this_moment > POLLS_AT_ONE_MOMENT {
                    let text = format!("task {task} of {machine} is one of those that wake each other for ever");
                    world.violate("time goes on", text);
                }
            }
            Next::Skip => {}
            Next::Wake(wakers) => {
                polls_at_this_moment = 0;
                wakers.into_iter().for_each(Waker::wake);
            }
            Next::Idle => world.violate("time goes on", "every task waits, and no timer is set".to_owned()),
        }
        if let Some(violation) = world.state().violation.take() {
            return Err(violation);
        }
    }
    Ok(())
}

fn next(world: &SimWorld) -> Next {
    let mut state = world.state();
    if state.ready.is_empty() {
        let Some((&(at, _), _)) = state.timers.first_key_value() else { return Next::Idle };
        state.now = state.now.max(at);
        let now = state.now;
        let mut wakers = Vec::new();
        while let Some(entry) = state.timers.first_entry()
            && entry.key().0 <= now
        {
            wakers.push(entry.remove());
        }
        return Next::Wake(wakers);
    }
    let ready = state.ready.len();
    let index = if ready == 1 { 0 } else { state.draw(Stream::Schedule, |random| random.index(ready)) };
    let task = state.ready.swap_remove(index);
    let Some(slot) = state.tasks.get_mut(&task) else { return Next::Skip };
    let machine = slot.machine;
    if state.machine(machine).paused {
        state.machine_mut(machine).parked.push(task);
        return Next::Skip;
    }
    let Some(slot) = state.tasks.get_mut(&task) else { return Next::Skip };
    let Some(future) = slot.future.take() else { return Next::Skip };
    let waker = Arc::clone(&slot.waker);
    state.current = machine;
    state.polls += 1;
    state.note("poll", task, String::new);
    Next::Run(task, machine, future, waker)
}

fn poll(world: &Arc<SimWorld>, task: u64, machine: Machine, mut future: Task, task_waker: Arc<TaskWaker>) {
    // Before the poll, so that a wake-up in its midst counts.
    task_waker.queued.store(false, Ordering::Relaxed);
    let waker = Waker::from(task_waker);
    let polled = std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(&waker))));
    if let Some(panic) = panics::take() {
        let name = world.name_of(machine);
        world.violate("no task panics", format!("{name}: {panic}"));
    }
    {
        let mut state = world.state();
        match polled {
            Ok(Poll::Pending) if state.tasks.contains_key(&task) => {
                if let Some(slot) = state.tasks.get_mut(&task) {
                    slot.future = Some(future);
                }
            }
            _ => {
                let slot = state.tasks.remove(&task);
                drop(state);
                drop((future, slot));
                state = world.state();
            }
        }
        state.current = Machine::SIMULATOR;
    }
    reap(world, machine);
}

/// Ends the machine's program if it has said that it ends itself.
fn reap(world: &SimWorld, machine: Machine) {
    let Some(reason) = world.state().machine_mut(machine).halted.take() else { return };
    if machine == Machine::SIMULATOR {
        return world.violate("the simulator goes on", reason);
    }
    world.event("halt", u64::from(machine.0), || format!("{machine} ends itself: {reason}"));
    world.kill(machine, false);
    world.state().deaths.push_back(Death { machine, reason });
    world.deaths.notify_one();
}

/// Does `work` as if the program on `machine` did it; `None` if that made the program end itself.
pub(super) fn within<T>(world: &SimWorld, machine: Machine, work: impl FnOnce() -> T) -> Option<T> {
    let before = std::mem::replace(&mut world.state().current, machine);
    let done = std::panic::catch_unwind(AssertUnwindSafe(work));
    world.state().current = before;
    if let Some(panic) = panics::take() {
        world.violate("no task panics", format!("{}: {panic}", world.name_of(machine)));
    }
    reap(world, machine);
    done.ok()
}

/// Drops all tasks of a machine; nothing that they do while they go starts anything new there.
pub(super) fn kill(world: &SimWorld, machine: Machine) {
    let dropped = {
        let mut state = world.state();
        let it = state.machine_mut(machine);
        it.alive = false;
        it.paused = false;
        it.parked.clear();
        it.watches.clear();
        let tasks: Vec<u64> =
            state.tasks.iter().filter(|(_, slot)| slot.machine == machine).map(|(task, _)| *task).collect();
        state.note("kill", tasks.len() as u64, || format!("{machine} dies with {} tasks", tasks.len()));
        tasks.iter().filter_map(|task| state.tasks.remove(task)).collect::<Vec<_>>()
    };
    let before = std::mem::replace(&mut world.state().current, machine);
    drop(dropped);
    world.state().current = before;
}

/// Drops whatever is left when a run ends.
pub(super) fn drop_everything(world: &SimWorld) {
    let dropped = {
        let mut state = world.state();
        for machine in 0..state.machine_count() {
            state.machine_mut(Machine(machine)).alive = false;
        }
        std::mem::take(&mut state.tasks)
    };
    drop(dropped);
    world.network.close();
    let timers = std::mem::take(&mut world.state().timers);
    drop(timers);
}
