use proptest::prelude::*;

use super::*;

fn member(id: u64) -> Member {
    Member { raft_id: id * 100, id, address: format!("host{id}:7400") }
}

fn node(id: u64) -> NewNode {
    NewNode { id, address: format!("host{id}:7400") }
}

fn ids(ids: impl IntoIterator<Item = u64>) -> BTreeSet<u64> {
    ids.into_iter().map(|id| id * 100).collect()
}

/// So many voters that answer and hold everything; the first leads.
fn cluster(voters: u64) -> MembershipView {
    let members = (1..=voters).map(|id| MemberView {
        member: member(id),
        reachable: true,
        missing: Vec::new(),
        gaps: Vec::new(),
    });
    MembershipView {
        leader: 100,
        members: members.collect(),
        voters: ids(1..=voters),
        incoming: None,
        newcomer: None,
        exposed: vec!["app: txid 7-9".to_owned()],
    }
}

fn change(view: &mut MembershipView, id: u64, change: impl FnOnce(&mut MemberView)) {
    change(view.members.iter_mut().find(|view| view.member.id == id).unwrap());
}

fn with_learner(mut view: MembershipView, id: u64) -> MembershipView {
    view.members.push(MemberView { member: member(id), reachable: true, missing: Vec::new(), gaps: Vec::new() });
    view
}

fn answers(raft_id: u64, id: u64) -> Option<Newcomer> {
    Some(Newcomer::Answers { raft_id, id, fit: Ok(()) })
}

fn refused(decision: Decision, words: &str) {
    assert!(matches!(&decision, Decision::Refuse { reason, .. } if reason.contains(words)), "{decision:?}");
}

fn waits(decision: Decision, words: &str) {
    assert!(matches!(&decision, Decision::Wait(reason) if reason.contains(words)), "{decision:?}");
}

fn swap(add: &[u64], remove: &[u64]) -> Decision {
    Decision::Do(Step::ChangeVoters { add: ids(add.iter().copied()), remove: ids(remove.iter().copied()) })
}

#[test]
fn a_node_that_is_down_is_waited_for_and_one_that_does_not_fit_is_refused() {
    let goal = Goal::Add { node: node(4), hydrated: true };
    let mut view = cluster(3);
    view.newcomer = Some(Newcomer::Silent("no route".to_owned()));
    waits(decide(&goal, &view, false), "does not answer at host4:7400 (no route)");
    view.newcomer = Some(Newcomer::Answers { raft_id: 400, id: 4, fit: Err("it was removed".to_owned()) });
    refused(decide(&goal, &view, false), "it was removed");
    view.newcomer = answers(400, 5);
    refused(decide(&goal, &view, false), "answers node 5");
    view.newcomer = answers(300, 4);
    refused(decide(&goal, &view, false), "is that of node 3");
    view.newcomer = answers(400, 4);
    assert_eq!(decide(&goal, &view, false), Decision::Do(Step::AddLearner(member(4))));
    let taken = Goal::Add { node: NewNode { id: 4, ..node(2) }, hydrated: true };
    refused(decide(&taken, &view, false), "the address of node 2");
}

#[test]
fn an_added_node_is_waited_for_until_it_holds_everything_if_that_is_asked() {
    let mut view = with_learner(cluster(3), 4);
    view.newcomer = answers(400, 4);
    change(&mut view, 4, |view| view.missing = vec!["its log".to_owned(), "app".to_owned()]);
    let (hydrated, added) = (Goal::Add { node: node(4), hydrated: true }, Goal::Add { node: node(4), hydrated: false });
    waits(decide(&hydrated, &view, false), "its log, and 1 more");
    assert!(matches!(decide(&added, &view, false), Decision::Done(_)));
    change(&mut view, 4, |view| view.missing.clear());
    assert!(matches!(decide(&hydrated, &view, false), Decision::Done(_)));
    view.newcomer = answers(401, 4);
    refused(decide(&added, &view, false), "replace-node 4 --with 4");
    view.newcomer = Some(Newcomer::Answers { raft_id: 0, id: 4, fit: Err("another name".to_owned()) });
    refused(decide(&added, &view, false), "another name");
    view.newcomer = None;
    refused(
        decide(&Goal::Add { node: NewNode { id: 4, ..node(7) }, hydrated: false }, &view, false),
        "a member at host4",
    );
}

#[test]
fn votes_are_given_to_nodes_that_can_lead() {
    let goal = Goal::Promote { id: 4 };
    refused(decide(&goal, &cluster(3), false), "add it first");
    let mut view = with_learner(cluster(3), 4);
    change(&mut view, 4, |view| view.reachable = false);
    waits(decide(&goal, &view, true), "does not answer");
    change(&mut view, 4, |view| (view.reachable, view.missing) = (true, vec!["app".to_owned()]));
    waits(decide(&goal, &view, true), "does not hold everything yet: app");
    change(&mut view, 4, |view| (view.missing, view.gaps) = (Vec::new(), vec!["s3 is at 3".to_owned()]));
    waits(decide(&goal, &view, false), "s3 is at 3");
    assert_eq!(decide(&goal, &view, true), swap(&[4], &[]));
    change(&mut view, 4, |view| view.gaps.clear());
    assert_eq!(decide(&goal, &view, false), swap(&[4], &[]));
    view.voters = ids(1..=4);
    assert!(matches!(decide(&goal, &view, false), Decision::Done(_)));
}

#[test]
fn no_node_goes_without_which_the_rest_has_no_majority() {
    let mut view = cluster(3);
    change(&mut view, 3, |view| view.reachable = false);
    for force in [false, true] {
        refused(decide(&Goal::Remove { id: 2 }, &view, force), "First bring back, replace or remove node 3");
    }
    assert_eq!(decide(&Goal::Remove { id: 3 }, &view, false), swap(&[], &[3]));
    refused(decide(&Goal::Remove { id: 1 }, &cluster(1), true), "the last voter");
}

#[test]
fn no_node_goes_while_what_is_nowhere_else_needs_it() {
    let mut view = cluster(2);
    refused(decide(&Goal::Remove { id: 2 }, &view, false), "app: txid 7-9");
    assert_eq!(decide(&Goal::Remove { id: 2 }, &view, true), swap(&[], &[2]));
    view.exposed.clear();
    assert_eq!(decide(&Goal::Remove { id: 2 }, &view, false), swap(&[], &[2]));
    let mut lagging = cluster(3);
    change(&mut lagging, 3, |view| view.missing = vec!["its log".to_owned()]);
    refused(decide(&Goal::Remove { id: 2 }, &lagging, false), "held by 1 of the 3 nodes");
    assert_eq!(decide(&Goal::Remove { id: 3 }, &lagging, false), swap(&[], &[3]));
}

#[test]
fn a_leader_hands_over_before_it_goes() {
    let mut view = cluster(3);
    change(&mut view, 2, |view| view.missing = vec!["its log".to_owned()]);
    view.exposed.clear();
    assert_eq!(decide(&Goal::Remove { id: 1 }, &view, false), Decision::Do(Step::HandOver { to: 300 }));
    change(&mut view, 3, |view| view.missing = vec!["its log".to_owned()]);
    waits(decide(&Goal::Remove { id: 1 }, &view, false), "the leader is to go");
    view.leader = 200;
    assert_eq!(decide(&Goal::Remove { id: 1 }, &view, false), swap(&[], &[1]));
    view.voters = ids([2, 3]);
    assert_eq!(decide(&Goal::Remove { id: 1 }, &view, false), Decision::Do(Step::RemoveLearner(100)));
    view.members.remove(0);
    assert!(matches!(decide(&Goal::Remove { id: 1 }, &view, false), Decision::Done(_)));
}

#[test]
fn a_dead_node_is_replaced_in_one_change_of_voters() {
    let goal = Goal::Replace { old: 3, new: node(4) };
    let mut view = cluster(3);
    change(&mut view, 3, |view| view.reachable = false);
    view.newcomer = answers(400, 4);
    assert_eq!(decide(&goal, &view, false), Decision::Do(Step::AddLearner(member(4))));
    let mut view = with_learner(view, 4);
    refused(decide(&Goal::Replace { old: 33, new: node(4) }, &view, true), "node 33 is no member");
    assert_eq!(decide(&goal, &view, false), swap(&[4], &[3]));
    view.voters = ids([1, 2, 4]);
    assert_eq!(decide(&goal, &view, false), Decision::Do(Step::RemoveLearner(300)));
    view.members.retain(|view| view.member.id != 3);
    assert!(matches!(decide(&goal, &view, false), Decision::Done(_)));
    view.members.retain(|view| view.member.id != 4);
    refused(decide(&goal, &view, false), "neither node 3 nor node 4");
}

#[test]
fn a_node_comes_back_with_another_directory() {
    let goal = Goal::Replace { old: 3, new: node(3) };
    let mut view = cluster(3);
    view.newcomer = Some(Newcomer::Silent(String::new()));
    waits(decide(&goal, &view, false), "does not answer");
    view.newcomer = Some(Newcomer::Answers { raft_id: 301, id: 3, fit: Err("unfit".to_owned()) });
    refused(decide(&goal, &view, false), "unfit");
    view.newcomer = answers(301, 3);
    refused(decide(&goal, &view, true), "stop it first");
    change(&mut view, 3, |view| view.reachable = false);
    assert_eq!(decide(&goal, &view, false), swap(&[], &[3]));
    view.voters = ids([1, 2]);
    assert_eq!(decide(&goal, &view, false), Decision::Do(Step::RemoveLearner(300)));
    view.members.remove(2);
    let new = Member { raft_id: 301, ..member(3) };
    assert_eq!(decide(&goal, &view, false), Decision::Do(Step::AddLearner(new.clone())));
    view.members.push(MemberView { member: new, reachable: true, missing: Vec::new(), gaps: Vec::new() });
    let add = BTreeSet::from([301]);
    assert_eq!(
        decide(&goal, &view, false),
        Decision::Do(Step::ChangeVoters { add: add.clone(), remove: BTreeSet::new() })
    );
    view.voters.extend(add);
    assert!(matches!(decide(&goal, &view, false), Decision::Done(_)));
}

#[test]
fn the_only_node_can_be_replaced() {
    let goal = Goal::Replace { old: 1, new: node(2) };
    let mut view = with_learner(cluster(1), 2);
    assert_eq!(decide(&goal, &view, false), swap(&[2], &[]));
    view.voters = ids([1, 2]);
    assert_eq!(decide(&goal, &view, true), Decision::Do(Step::HandOver { to: 200 }));
}

#[test]
fn leadership_goes_to_voters_that_hold_the_log() {
    let view = with_learner(cluster(3), 4);
    let to = |to| Goal::Transfer { from: 1, to };
    assert_eq!(decide(&to(None), &view, false), Decision::Do(Step::HandOver { to: 200 }));
    assert_eq!(decide(&to(Some(3)), &view, false), Decision::Do(Step::HandOver { to: 300 }));
    assert!(matches!(decide(&to(Some(1)), &view, false), Decision::Done(_)));
    refused(decide(&to(Some(4)), &view, false), "has no vote");
    refused(decide(&to(Some(9)), &view, false), "no member");
    refused(decide(&to(None), &cluster(1), false), "no other voter");
    assert!(matches!(decide(&Goal::Transfer { from: 2, to: None }, &view, false), Decision::Done(_)));
}

#[test]
fn a_change_that_was_begun_is_completed_first() {
    let mut view = cluster(4);
    (view.voters, view.incoming) = (ids(1..=3), Some(ids([1, 2, 4])));
    assert_eq!(decide(&Goal::Remove { id: 2 }, &view, false), Decision::Do(Step::Settle));
    change(&mut view, 2, |view| view.reachable = false);
    change(&mut view, 4, |view| view.reachable = false);
    waits(decide(&Goal::Remove { id: 2 }, &view, false), "without node 2 and node 4");
}

// ---- properties

/// A view of up to six nodes in whatever state.
fn any_view() -> impl Strategy<Value = MembershipView> {
    let one = (any::<bool>(), 0_u8..4, any::<bool>(), any::<bool>());
    (prop::collection::vec(one, 1..7), any::<prop::sample::Index>(), any::<bool>(), 0_u64..8, 0_u8..4, any::<u64>())
        .prop_map(|(nodes, leader, exposed, comes, how, joint)| {
            let mut view = cluster(0);
            for (id, (reachable, missing, gap, votes)) in (1..).zip(nodes) {
                view.members.push(MemberView {
                    member: member(id),
                    reachable,
                    missing: if missing == 0 && reachable { vec!["its log".to_owned()] } else { Vec::new() },
                    gaps: if gap { vec!["s3".to_owned()] } else { Vec::new() },
                });
                if votes {
                    view.voters.insert(id * 100);
                }
            }
            let leader = leader.index(view.members.len());
            view.leader = view.members[leader].member.raft_id;
            view.voters.insert(view.leader);
            (view.members[leader].reachable, view.members[leader].missing) = (true, Vec::new());
            view.exposed.truncate(usize::from(exposed));
            view.newcomer = match how {
                0 => None,
                1 => Some(Newcomer::Silent(String::new())),
                2 => answers(comes * 100, comes),
                _ => answers(comes * 100 + 1, comes),
            };
            if joint % 5 == 0 {
                let incoming: BTreeSet<u64> = view
                    .members
                    .iter()
                    .map(|it| it.member.raft_id)
                    .filter(|id| (joint >> (id / 100)) & 1 == 1)
                    .collect();
                view.incoming = Some(incoming).filter(|incoming| !incoming.is_empty());
            }
            view
        })
}

fn any_goal() -> impl Strategy<Value = Goal> {
    let (id, other) = (1_u64..8, 1_u64..8);
    (0_u8..5, id, other, any::<bool>()).prop_map(|(kind, id, other, flag)| match kind {
        0 => Goal::Add { node: node(id), hydrated: flag },
        1 => Goal::Promote { id },
        2 => Goal::Remove { id },
        3 => Goal::Replace { old: other, new: node(id) },
        _ => Goal::Transfer { from: other, to: flag.then_some(id) },
    })
}

fn carry_out(view: &mut MembershipView, step: &Step, stop_halfway: bool) {
    match step {
        Step::AddLearner(member) => {
            view.members.push(MemberView {
                member: member.clone(),
                reachable: true,
                missing: Vec::new(),
                gaps: Vec::new(),
            });
        }
        Step::ChangeVoters { add, remove } => {
            let after = view.voters.union(add).copied().filter(|id| !remove.contains(id)).collect();
            if stop_halfway {
                view.incoming = Some(after);
            } else {
                view.voters = after;
            }
        }
        Step::Settle => view.voters = view.incoming.take().unwrap(),
        Step::RemoveLearner(raft_id) => view.members.retain(|view| view.member.raft_id != *raft_id),
        Step::HandOver { to } => view.leader = *to,
    }
}

/// Every state that a goal is reached in.
fn is_reached(goal: &Goal, view: &MembershipView) -> bool {
    let votes = |id| view.by_id(id).is_some_and(|member| view.is_voter(member));
    let leads = |id| view.by_raft_id(view.leader).is_some_and(|leader| leader.member.id == id);
    match goal {
        Goal::Add { node, .. } => view.by_id(node.id).is_some(),
        Goal::Promote { id } => votes(*id),
        Goal::Remove { id } => view.by_id(*id).is_none(),
        Goal::Replace { old, new } => votes(new.id) && (*old == new.id || view.by_id(*old).is_none()),
        Goal::Transfer { to: Some(to), .. } => leads(*to),
        Goal::Transfer { from, to: None } => !leads(*from),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_step_leaves_voters_of_which_no_majority_answers(goal in any_goal(), view in any_view(), force: bool) {
        match decide(&goal, &view, force) {
            Decision::Do(Step::ChangeVoters { add, remove }) => {
                let after: BTreeSet<u64> = view.voters.union(&add).copied().filter(|id| !remove.contains(id)).collect();
                prop_assert!(view.incoming.is_none());
                prop_assert!(view.can_agree(&view.voters) && view.can_agree(&after) && !after.is_empty());
                prop_assert!(!remove.contains(&view.leader));
                prop_assert!(add.len() + remove.len() >= 1 && add.len() <= 1 && remove.len() <= 1);
                for id in &add {
                    let member = view.by_raft_id(*id).unwrap();
                    prop_assert!(member.is_current() && (force || member.gaps.is_empty()));
                }
                if !force && !view.exposed.is_empty() && !remove.is_empty() {
                    prop_assert!(view.current(&after) >= majority(view.voters.len()));
                }
            }
            Decision::Do(Step::RemoveLearner(raft_id)) => prop_assert!(!view.voters.contains(&raft_id) && raft_id != view.leader),
            Decision::Do(Step::HandOver { to }) => {
                prop_assert!(view.voters.contains(&to) && to != view.leader);
                prop_assert!(view.by_raft_id(to).unwrap().is_current());
            }
            Decision::Do(Step::AddLearner(new)) => {
                let differs = |known: &Member| {
                    known.raft_id != new.raft_id && known.id != new.id && known.address != new.address
                };
                prop_assert!(view.members.iter().map(|view| &view.member).all(differs));
            }
            Decision::Do(Step::Settle) => {
                prop_assert!(view.can_agree(&view.voters) && view.can_agree(view.incoming.as_ref().unwrap()));
            }
            Decision::Done(_) | Decision::Wait(_) | Decision::Refuse { .. } => {}
        }
    }

    #[test]
    fn where_all_answer_and_hold_everything_every_way_ends_in_the_goal_and_stays_there(
        goal in any_goal(), view in any_view(), stops in prop::collection::vec(any::<bool>(), 12),
        leaders in prop::collection::vec(prop::option::weighted(0.2, any::<prop::sample::Index>()), 12),
    ) {
        let mut view = view;
        for member in &mut view.members {
            (member.reachable, member.missing, member.gaps) = (true, Vec::new(), Vec::new());
        }
        view.exposed.clear();
        view.newcomer = goal.hydrates().map(|id| match view.by_id(id) {
            Some(member) => Newcomer::Answers { raft_id: member.member.raft_id, id, fit: Ok(()) },
            None => Newcomer::Answers { raft_id: id * 100 + 1, id, fit: Ok(()) },
        });
        let mut stops = stops.into_iter();
        let mut leaders = leaders.into_iter();
        let mut steps = 0;
        loop {
            match decide(&goal, &view, false) {
                Decision::Do(step) => carry_out(&mut view, &step, stops.next().unwrap_or(false)),
                Decision::Done(_) => break,
                Decision::Refuse { reason, .. } => {
                    prop_assert!(!is_reached(&goal, &view), "refused though it is so: {reason}");
                    return Ok(());
                }
                Decision::Wait(reason) => prop_assert!(false, "nothing is to be waited for: {reason}"),
            }
            // Whatever the command does not expect: another leader.
            if let Some(Some(index)) = leaders.next() {
                view.leader = *view.voters.iter().nth(index.index(view.voters.len())).unwrap();
            }
            steps += 1;
            prop_assert!(steps < 20, "it does not end: {view:?}");
        }
        prop_assert!(is_reached(&goal, &view));
        prop_assert!(matches!(decide(&goal, &view, false), Decision::Done(_)));
    }
}
