//! Where a node's configuration and the membership differ. The membership counts: the configuration's list is only for
//! the first start.

use super::view::Member;

/// A node as a configuration lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: u64,
    /// Where it is said to be.
    pub address: String,
}

/// What does not fit between `node`'s list and the members, in words. `joining` are listed nodes that wait to be added.
pub fn differences(node: u64, listed: &[Listed], members: &[Member], joining: &[u64]) -> Vec<String> {
    let mut differences = Vec::new();
    for one in listed.iter().filter(|one| !joining.contains(&one.id)) {
        match members.iter().find(|member| member.id == one.id) {
            None => differences.push(format!(
                "node {} is listed in the node.yml of node {node} and is no member: take it off the list, or add it \
                 (`seawall cluster add-node {} {}`)",
                one.id, one.id, one.address
            )),
            Some(member) if member.address != one.address => differences.push(format!(
                "the node.yml of node {node} has node {} at {}, but it is a member at {}, which counts",
                one.id, one.address, member.address
            )),
            Some(_) => {}
        }
    }
    let unlisted = members.iter().filter(|member| listed.iter().all(|one| one.id != member.id));
    differences.extend(unlisted.map(|member| {
        format!(
            "{member} is a member and not listed in the node.yml of node {node}: put it there when you next edit it"
        )
    }));
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_differs_but_no_node_that_waits_to_be_added() {
        let listed: Vec<Listed> = (1..=4).map(|id| Listed { id, address: format!("h{id}:7400") }).collect();
        let mut members: Vec<Member> =
            (1..=3).map(|id| Member { raft_id: id * 9, id, address: format!("h{id}:7400") }).collect();
        assert_eq!(differences(1, &listed, &members, &[4]), Vec::<String>::new());
        let differ = differences(1, &listed, &members, &[]);
        assert!(differ.len() == 1 && differ[0].contains("add-node 4 h4:7400"), "{differ:?}");
        members[2].address = "other:7400".to_owned();
        let differ = differences(2, &listed[..3], &members, &[]);
        assert!(differ.len() == 1 && differ[0].contains("a member at other:7400"), "{differ:?}");
        let differ = differences(2, &listed[..2], &members, &[]);
        assert!(differ.len() == 1 && differ[0].starts_with("node 3 at other:7400 is a member"), "{differ:?}");
    }
}
