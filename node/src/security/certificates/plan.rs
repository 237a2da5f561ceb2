//! Which files a run of `seawall cert` makes.

use std::collections::BTreeSet;

use super::super::identity::Role;
use super::authority::Subject;

/// The authority's files.
pub(super) const AUTHORITY: &str = "ca";

/// The names of the machine that one is on.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Whom certificates are wanted for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Nodes: id, and the hosts under which it is called.
    pub nodes: Vec<(u64, Vec<String>)>,
    /// Agents, by name.
    pub agents: Vec<String>,
    /// People and their tools, by name.
    pub clients: Vec<String>,
}

/// A certificate and its key, and the files they go to: `STEM.pem` and `STEM.key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedFile {
    /// The files' name without its end.
    pub stem: String,
    /// Whom it is for.
    pub subject: Subject,
}

/// What is made, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The certificates.
    pub files: Vec<PlannedFile>,
}

/// What has to be made for `request`.
///
/// # Errors
/// Text, if two would go to one file or a name can be none of a file.
pub fn plan(request: &Request) -> Result<Plan, String> {
    let mut files = Vec::new();
    for (id, hosts) in &request.nodes {
        if hosts.is_empty() {
            return Err(format!("node {id} needs the host name or address under which it is called"));
        }
        // Whoever is on its machine calls it so.
        let own = LOCAL.iter().map(|host| (*host).to_owned()).filter(|host| !hosts.contains(host));
        files.push(planned(Role::Node, &id.to_string(), hosts.iter().cloned().chain(own).collect())?);
    }
    for (role, names) in [(Role::Agent, &request.agents), (Role::Client, &request.clients)] {
        for name in names {
            files.push(planned(role, name, Vec::new())?);
        }
    }
    let mut stems = BTreeSet::new();
    match files.iter().find(|file| !stems.insert(&file.stem)) {
        Some(file) => Err(format!("{} occurs twice", file.stem)),
        None => Ok(Plan { files }),
    }
}

fn planned(role: Role, name: &str, hosts: Vec<String>) -> Result<PlannedFile, String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(fine) {
        return Err(format!("`{name}` is no name for a certificate: use 1 to 64 letters, digits, `-`, `_`, `.`"));
    }
    Ok(PlannedFile {
        stem: format!("{}-{name}", role.as_str()),
        subject: Subject { role, name: name.to_owned(), hosts },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(nodes: &[(u64, &[&str])], agents: &[&str], clients: &[&str]) -> Request {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let nodes = nodes.iter().map(|(id, hosts)| (*id, owned(hosts))).collect();
        Request { nodes, agents: owned(agents), clients: owned(clients) }
    }

    #[test]
    fn every_one_has_files_of_its_own() {
        let found = plan(&request(&[(1, &["a", "10.0.0.1"]), (2, &["b"])], &["app"], &["ops"])).unwrap();
        let stems: Vec<&str> = found.files.iter().map(|file| file.stem.as_str()).collect();
        assert_eq!(stems, ["node-1", "node-2", "agent-app", "client-ops"]);
        assert_eq!(found.files[0].subject.hosts, ["a", "10.0.0.1", "localhost", "127.0.0.1", "::1"]);
        assert!(found.files[2].subject.hosts.is_empty());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        assert!(plan(&request(&[(1, &["a"]), (1, &["b"])], &[], &[])).unwrap_err().contains("node-1 occurs twice"));
        assert!(plan(&request(&[(1, &[])], &[], &[])).unwrap_err().contains("node 1 needs"));
        for name in ["", "../x", "a/b", "a b", "ä"] {
            assert!(plan(&request(&[], &[name], &[])).is_err(), "{name}");
        }
    }
}
