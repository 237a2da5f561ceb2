//! Plays a scenario's faults on a stage.

mod source_power;
mod strike;
mod victims;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use rand::rngs::StdRng;

use crate::history::Event;
use crate::scenario::{Part, Step};
use crate::stage::Stage;

use strike::Undo;

/// Hears in a few words what happens at present.
pub(crate) type Say<'a> = &'a (dyn Fn(&str) + Sync);

/// A fault that acts at present.
struct Acting<'a> {
    fault: u32,
    /// What is done to it, and whom: nobody else does that to them meanwhile.
    on: Part,
    whom: Vec<&'a str>,
    undo: Vec<Undo<'a>>,
}

/// The faults of a run.
pub(crate) struct Player<'a> {
    stage: &'a Stage,
    rng: StdRng,
    began: Instant,
    acting: Vec<Acting<'a>>,
    endings: BinaryHeap<Reverse<(Duration, u32)>>,
    next_fault: u32,
    next_node: usize,
}

impl<'a> Player<'a> {
    /// Nothing acts yet; who is struck follows `rng`.
    pub(crate) fn new(stage: &'a Stage, rng: StdRng) -> Self {
        let (acting, endings) = (Vec::new(), BinaryHeap::new());
        Self { stage, rng, began: Instant::now(), acting, endings, next_fault: 1, next_node: 0 }
    }

    /// Carries these steps out at their times, and ends all of them when `span` is over.
    ///
    /// # Errors
    /// The harness itself fails at something.
    pub(crate) fn play(&mut self, steps: &[Step], span: Duration, say: Say<'_>) -> anyhow::Result<()> {
        let mut steps = steps.iter().peekable();
        loop {
            let ending = self.endings.peek().map(|Reverse((at, _))| *at);
            let step = steps.peek().map(|step| step.at);
            let Some(next) = [ending, step].into_iter().flatten().min().filter(|at| *at < span) else { break };
            self.wait_until(next, span, say);
            if ending == Some(next) {
                if let Some(Reverse((_, fault))) = self.endings.pop() {
                    self.end(fault)?;
                }
            } else if let Some(step) = steps.next() {
                self.begin(step, say)?;
            }
        }
        self.wait_until(span, span, say);
        while let Some(Reverse((_, fault))) = self.endings.pop() {
            self.end(fault)?;
        }
        Ok(())
    }

    fn wait_until(&self, at: Duration, span: Duration, say: Say<'_>) {
        loop {
            let now = self.began.elapsed();
            if now >= at {
                return;
            }
            let seen = self.stage.recorder().seen();
            let (now_s, span_s, faults) = (now.as_secs(), span.as_secs(), self.next_fault - 1);
            say(&format!(
                "{now_s} of {span_s} s, {faults} faults, {} commits, {} promises",
                seen.commits, seen.promises
            ));
            thread::sleep((at - now).min(Duration::from_millis(500)));
        }
    }

    fn begin(&mut self, step: &Step, say: Say<'_>) -> anyhow::Result<()> {
        let plan = &self.stage.scenario().faults[step.plan];
        let on = plan.action.part();
        let mut victims = self.choose(&plan.to);
        victims.retain(|victim| !self.acting.iter().any(|it| it.on.excludes(on) && it.whom.contains(&victim.name())));
        if victims.is_empty() {
            return Ok(());
        }
        let fault = self.next_fault;
        self.next_fault += 1;
        let names: Vec<_> = victims.iter().map(|victim| victim.name()).collect();
        let what = format!("{} {} for {:.1?}", plan.action.describe(), names.join(", "), step.lasts);
        say(&what);
        self.stage.recorder().record(Event::FaultBegan { fault, what: what.clone() });
        let undo = self.strike(fault, plan, &victims).with_context(|| format!("cannot {what}"))?;
        self.acting.push(Acting { fault, on, whom: names, undo });
        self.endings.push(Reverse((self.began.elapsed() + step.lasts, fault)));
        Ok(())
    }

    fn end(&mut self, fault: u32) -> anyhow::Result<()> {
        let Some(index) = self.acting.iter().position(|acting| acting.fault == fault) else { return Ok(()) };
        for undo in self.acting.remove(index).undo.into_iter().rev() {
            undo().with_context(|| format!("cannot end fault {fault}"))?;
        }
        self.stage.recorder().record(Event::FaultEnded { fault });
        Ok(())
    }
}
