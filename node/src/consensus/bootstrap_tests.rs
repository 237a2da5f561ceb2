use super::*;
use crate::store::log;

fn identity(id: u64) -> Identity {
    Identity::new("prod".to_owned(), id, &log::Identity { cluster: [0; 16], raft_id: id * 100 })
}

fn nodes() -> Vec<ConfiguredNode> {
    (1..=3).map(|id| ConfiguredNode { id, address: format!("host{id}:7400") }).collect()
}

fn empty(id: u64) -> v1::IdentifyResponse {
    let members = nodes().into_iter();
    v1::IdentifyResponse {
        cluster: "prod".to_owned(),
        raft_id: id * 100,
        configured_id: id,
        empty: true,
        members: members.map(|node| v1::Member { raft_id: 0, configured_id: node.id, address: node.address }).collect(),
        ..v1::IdentifyResponse::default()
    }
}

fn decide_with(own: u64, change: impl Fn(&mut BTreeMap<u64, Result<v1::IdentifyResponse, String>>)) -> Decision {
    let mut answers = (1..=3).filter(|id| *id != own).map(|id| (id, Ok(empty(id)))).collect();
    change(&mut answers);
    decide(&identity(own), &nodes(), &answers)
}

fn waits_because(decision: &Decision, words: &str) {
    assert!(matches!(decision, Decision::Wait(why) if why.contains(words)), "{decision:?}");
}

#[test]
fn only_the_lowest_of_all_empty_nodes_begins() {
    let Decision::Begin(members) = decide_with(1, |_| {}) else { panic!("it waits") };
    assert_eq!(members.keys().copied().collect::<Vec<_>>(), [100, 200, 300]);
    waits_because(&decide_with(2, |_| {}), "waiting for node 1");
}

#[test]
fn nothing_begins_while_one_is_silent_or_has_another_list() {
    let silent = decide_with(1, |answers| drop(answers.insert(3, Err("no answer".to_owned()))));
    waits_because(&silent, "waiting for node 3");
    let other = decide_with(1, |answers| {
        if let Some(Ok(answer)) = answers.get_mut(&2) {
            answer.members.pop();
        }
    });
    waits_because(&other, "another list");
}

#[test]
fn a_node_that_the_cluster_does_not_know_is_told_how_it_is_added() {
    let member = |members: Vec<v1::Member>| v1::IdentifyResponse { empty: false, members, ..empty(2) };
    let known = |id| v1::Member { raft_id: id * 7, configured_id: id, ..v1::Member::default() };
    let new = decide_with(1, |answers| drop(answers.insert(2, Ok(member(vec![known(2), known(3)])))));
    waits_because(&new, "`seawall cluster add-node 1 host1:7400`");
    let beginning = decide_with(1, |answers| drop(answers.insert(2, Ok(member(Vec::new())))));
    waits_because(&beginning, "waiting for the leader");
}

#[test]
fn a_wiped_node_is_told_that_it_must_be_replaced() {
    let wiped = decide_with(1, |answers| {
        let mut member = empty(2);
        member.empty = false;
        member.members =
            (1..=3).map(|id| v1::Member { raft_id: id * 7, configured_id: id, ..v1::Member::default() }).collect();
        answers.insert(2, Ok(member));
        answers.insert(3, Err("no answer".to_owned()));
    });
    waits_because(&wiped, "`seawall cluster replace-node 1 --with 1 host1:7400`");
}
