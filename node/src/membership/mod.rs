//! Who belongs to the cluster, and how that is changed, as pure decisions: given what the leader sees, the next safe step
//! towards a goal, or why there is none. Carried out by `consensus`, asked for through `service`.

mod desk;
mod goal;
mod holdings;
mod listing;
mod outlook;
mod plan;
mod view;

pub use desk::{Conflict, Desk};
pub use goal::{Goal, NewNode};
pub use holdings::{DatabaseNeed, Held, Lacks, lacks};
pub use listing::{Listed, differences};
pub use outlook::outlook;
pub use plan::{Decision, Step, decide};
pub use view::{Member, MemberView, MembershipView, Newcomer, majority};
