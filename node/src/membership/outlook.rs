//! What operations would come to, before anybody asks for them.

use super::goal::Goal;
use super::plan::{Decision, Step, decide};
use super::view::{MembershipView, majority};

/// For people: what losing, removing and adding a node would come to now. `bytes` are those of all databases.
pub fn outlook(view: &MembershipView, bytes: u64) -> Vec<String> {
    let (voters, answer) = (view.voters.len(), view.reachable(&view.voters));
    let spare = answer.saturating_sub(majority(voters));
    let mut lines = vec![match spare {
        0 => format!("none of the {answer} voters that answer may fail: {} are needed", majority(voters)),
        _ => format!("{spare} of the {answer} voters that answer may fail: {} are needed", majority(voters)),
    }];
    lines.push(format!("add-node copies about {} of images and the log behind them", size(bytes)));
    for member in &view.members {
        let id = member.member.id;
        if view.is_voter(member) {
            lines.push(match decide(&Goal::Remove { id }, view, false) {
                Decision::Do(step) => {
                    let left = voters.saturating_sub(1);
                    let answering = answer.saturating_sub(usize::from(member.reachable));
                    let spare = answering.saturating_sub(majority(left));
                    let first = if matches!(step, Step::HandOver { .. }) { "hands over first, and " } else { "" };
                    format!("remove-node {id}: {first}leaves {left} voters, of which {spare} may fail then")
                }
                Decision::Refuse { reason, .. } => format!("remove-node {id}: refused: {reason}"),
                Decision::Wait(reason) | Decision::Done(reason) => format!("remove-node {id}: {reason}"),
            });
        } else {
            lines.push(match decide(&Goal::Promote { id }, view, false) {
                Decision::Do(_) => {
                    format!("promote {id}: possible, {} of {} voters are needed then", majority(voters + 1), voters + 1)
                }
                Decision::Refuse { reason, .. } => format!("promote {id}: refused: {reason}"),
                Decision::Wait(reason) | Decision::Done(reason) => format!("promote {id}: {reason}"),
            });
        }
    }
    lines
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}
