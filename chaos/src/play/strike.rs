//! Carries a fault out, and says how to end it.

use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::victims::Victim;
use super::{Player, source_power};
use crate::destination::DoorMode;
use crate::history::Event;
use crate::net::{Effect, HostIndex};
use crate::scenario::{Action, FaultPlan};
use crate::stage::{Agent, FAULTY_DISK_BYTES, Node, NodeStorage};

/// Ends a fault, or a part of it.
pub(super) type Undo<'a> = Box<dyn FnOnce() -> anyhow::Result<()> + 'a>;

/// Longer than any run.
const FOR_EVER: Duration = Duration::from_secs(1 << 30);

/// How long a node may take to end after a sync failed.
const HALT_LIMIT: Duration = Duration::from_secs(10);

/// What a full disk has left: less than anything needs.
const LEFT_FREE: u64 = 16 << 10;

impl<'a> Player<'a> {
    /// Does to the victims what the plan says.
    ///
    /// # Errors
    /// It cannot be done to one of them.
    pub(super) fn strike(
        &mut self,
        fault: u32,
        plan: &FaultPlan,
        victims: &[Victim<'a>],
    ) -> anyhow::Result<Vec<Undo<'a>>> {
        if plan.action.is_of_network() {
            return self.strike_links(plan, victims);
        }
        if plan.action == Action::CutPower {
            self.cut_power(fault, victims);
        }
        let mut undo = Vec::new();
        for victim in victims {
            undo.push(match victim {
                Victim::Destination(_) => self.strike_destination(&plan.action, victim)?,
                _ => self.strike_program(fault, &plan.action, victim)?,
            });
        }
        Ok(undo)
    }

    fn strike_program(&mut self, fault: u32, action: &Action, victim: &Victim<'a>) -> anyhow::Result<Undo<'a>> {
        let service = victim.service().context("it is no program")?;
        let release: Undo<'a> = Box::new(move || Ok(service.release(fault)?));
        match action {
            Action::Kill => service.kill(fault),
            Action::Pause => service.pause(fault),
            Action::Restart => service.terminate(fault),
            Action::SecondAgent { .. } => {
                let &Victim::Agent(first, second) = victim else { bail!("only an agent can have a second one") };
                second.service.start()?;
                return Ok(Box::new(move || {
                    second.service.stop();
                    // One that was fenced stays so until somebody starts it again.
                    first.service.terminate(fault);
                    Ok(first.service.release(fault)?)
                }));
            }
            // All of them are down already; what they shared is cut once.
            Action::CutPower => match *victim {
                Victim::Agent(agent, _) => self.cut_source(agent)?,
                Victim::Node(node) => return self.strike_node(fault, action, node, release),
                _ => {}
            },
            _ => {
                let &Victim::Node(node) = victim else { bail!("it is no node") };
                return self.strike_node(fault, action, node, release);
            }
        }
        Ok(release)
    }

    /// Disks have no power any more, and nothing gets to them; a moment later all victims are gone at once, and what the disks had
    /// not taken with them.
    fn cut_power(&mut self, fault: u32, victims: &[Victim<'a>]) {
        let disks = victims.iter().filter_map(|victim| match victim {
            Victim::Node(Node { service, storage: NodeStorage::Faulty(disk), .. }) => Some((service.name(), disk)),
            _ => None,
        });
        disks.clone().for_each(|(_, disk)| disk.stall_syncs(Some(FOR_EVER)));
        if disks.clone().next().is_some() {
            // Whoever trusts a write that was not synced says so now.
            thread::sleep(Duration::from_millis(self.rng.random_range(20..800)));
        }
        victims.iter().filter_map(Victim::service).for_each(|service| service.shoot(fault));
        for (name, disk) in disks {
            let lost = disk.cut_power(&mut StdRng::seed_from_u64(self.rng.random()));
            if lost.is_something() {
                self.stage.recorder().record(Event::Noted { what: format!("{name} lost {lost}") });
            }
            // What waits for it can end now.
            disk.stall_syncs(None);
        }
        victims.iter().filter_map(Victim::service).for_each(|service| service.kill(fault));
    }

    /// Takes the last commits from a database whose host has no power.
    fn cut_source(&mut self, agent: &Agent) -> anyhow::Result<()> {
        let mut rng = StdRng::seed_from_u64(self.rng.random());
        let (frames, lost) = source_power::cut(&agent.path, &mut rng)?;
        let recorder = self.stage.recorder();
        recorder.record(Event::Noted { what: format!("{} lost {lost} of {frames} frames of its WAL", agent.database) });
        recorder.record(Event::SourceMayFallBack { database: agent.database.clone() });
        Ok(())
    }

    fn strike_node(
        &mut self,
        fault: u32,
        action: &Action,
        node: &'a Node,
        release: Undo<'a>,
    ) -> anyhow::Result<Undo<'a>> {
        match (action, &node.storage) {
            (Action::Wipe, _) => {
                node.service.kill(fault);
                node.set_data_away(true)?;
                // It has to refuse to be what it was.
                node.service.doom(fault)?;
                Ok(Box::new(move || {
                    node.service.kill(fault);
                    node.set_data_away(false)?;
                    release()
                }))
            }
            (Action::CutPower, NodeStorage::Faulty(_)) => Ok(release),
            (Action::StallSyncs { by }, NodeStorage::Faulty(disk)) => {
                disk.stall_syncs(Some(*by));
                Ok(Box::new(move || {
                    disk.stall_syncs(None);
                    Ok(())
                }))
            }
            (Action::FailSyncs, NodeStorage::Faulty(disk)) => {
                node.service.doom(fault)?;
                let before = disk.failed_syncs();
                disk.fail_syncs(true);
                let recorder = self.stage.recorder();
                Ok(Box::new(move || {
                    disk.fail_syncs(false);
                    if disk.failed_syncs() > before && !node.service.has_ended_within(HALT_LIMIT) {
                        let (process, line) =
                            (node.service.name().to_owned(), "a sync failed, and it goes on".to_owned());
                        recorder.record(Event::Complained { process, line });
                    }
                    release()
                }))
            }
            (Action::Fill, NodeStorage::Small(disk)) => {
                disk.fill(LEFT_FREE)?;
                Ok(Box::new(move || Ok(disk.make_room()?)))
            }
            (Action::Fill, NodeStorage::Faulty(disk)) => {
                disk.set_capacity(disk.used_bytes());
                Ok(Box::new(move || {
                    disk.set_capacity(FAULTY_DISK_BYTES);
                    Ok(())
                }))
            }
            (Action::StepClock { by }, _) => {
                let clock =
                    node.clock.as_ref().context("its clock cannot be stepped: the scenario needs `stepped-clocks`")?;
                clock.step(*by)?;
                Ok(Box::new(move || Ok(clock.step(0)?)))
            }
            _ => bail!("that cannot be done to a node on this kind of disk"),
        }
    }

    fn strike_destination(&mut self, action: &Action, victim: &Victim<'a>) -> anyhow::Result<Undo<'a>> {
        let &Victim::Destination(destination) = victim else { bail!("it is no destination") };
        let door = |mode| -> anyhow::Result<Undo<'a>> {
            destination.set_door(mode)?;
            Ok(Box::new(move || Ok(destination.set_door(DoorMode::Pass)?)))
        };
        match action {
            Action::Kill => {
                destination.kill()?;
                Ok(Box::new(move || Ok(destination.start_again()?)))
            }
            Action::Pause => {
                destination.pause()?;
                Ok(Box::new(move || Ok(destination.resume()?)))
            }
            Action::Fill => {
                let disk = destination.disk().context("it has no file system of its own: give it a `size`")?;
                disk.fill(LEFT_FREE)?;
                Ok(Box::new(move || Ok(disk.make_room()?)))
            }
            Action::Refuse => door(DoorMode::Unavailable),
            Action::CutAnswers => door(DoorMode::CutAnswers),
            Action::Hang => door(DoorMode::Hang),
            Action::Slow { kib_per_second } => door(DoorMode::Slow(*kib_per_second)),
            _ => bail!("that cannot be done to a destination"),
        }
    }

    fn strike_links(&mut self, plan: &FaultPlan, victims: &[Victim<'a>]) -> anyhow::Result<Vec<Undo<'a>>> {
        let network = self.stage.network();
        let router = network.router().context("the hosts have no networks of their own")?;
        let struck: Vec<_> = victims.iter().map(Victim::host).collect();
        let from: Vec<_> = match &plan.from {
            None => network.hosts().iter().map(|host| host.name()).collect(),
            Some(target) => self.choose(target).iter().map(Victim::host).collect(),
        };
        let victims: Vec<HostIndex> = network.indices(|host| struck.contains(&host));
        let others: Vec<HostIndex> = network.indices(|host| from.contains(&host) && !struck.contains(&host));
        // Several that are cut off are cut off together; bad links are bad between them too.
        let reached: Vec<HostIndex> = match plan.action {
            Action::Degrade { .. } => network.indices(|host| from.contains(&host)),
            _ => others.clone(),
        };
        let effect = match plan.action {
            Action::Degrade { delay, jitter, loss, kib_per_second } => Effect {
                delay,
                jitter,
                loss,
                bytes_per_second: kib_per_second.map(|rate| rate * 1024),
                ..Effect::default()
            },
            _ => Effect::cut(),
        };
        let mut undo: Vec<Undo<'a>> = Vec::new();
        let mut begin = |from: &[HostIndex], to: &[HostIndex]| {
            let number = router.begin(from, to, effect);
            undo.push(Box::new(move || {
                router.end(number);
                Ok(())
            }));
        };
        if plan.action != Action::Deafen {
            begin(&victims, &reached);
        }
        if plan.action != Action::Mute {
            begin(&others, &victims);
        }
        Ok(undo)
    }
}
