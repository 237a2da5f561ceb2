//! Programs of other people that a run needs.

use std::env;
use std::path::{Path, PathBuf};

/// Where `program` is: in one of PATH's directories, or in those of administrators, which PATH often leaves out.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let administrators = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(administrators).map(|directory| directory.join(program)).find(|file| file.is_file())
}

/// What is to be said where one of `programs` is nowhere: each stands beside what installs it.
pub(crate) fn missing(programs: &[(&str, &str)]) -> Option<String> {
    let (program, remedy) = programs.iter().find(|(program, _)| find(program).is_none())?;
    Some(format!("`{program}` is not in PATH: {remedy}"))
}

/// The directory of Node's package `name`: in CHAOS_NODE_MODULES, or where npm put a directory of PATH that ends in
/// `node_modules/.bin`.
pub(crate) fn find_node_modules(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let beside = env::split_paths(&path)
        .filter(|directory| directory.ends_with("node_modules/.bin"))
        .filter_map(|directory| directory.parent().map(Path::to_owned));
    let named = env::var_os("CHAOS_NODE_MODULES").map(PathBuf::from);
    named.into_iter().chain(beside).find(|modules| modules.join(name).join("package.json").is_file())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Whether a test has what it needs. If not, that is said; in CI it is a failure.
    pub(crate) fn has_what_it_needs(missing: Option<String>) -> bool {
        if let Some(missing) = &missing {
            assert!(env::var("CI").as_deref() != Ok("true"), "{missing}");
            eprintln!("SKIPPED: {missing}");
        }
        missing.is_none()
    }

    #[test]
    fn what_is_missing_is_named_with_its_remedy() {
        assert_eq!(missing(&[("sh", "apt-get install dash")]), None);
        let said =
            missing(&[("sh", "apt-get install dash"), ("no-such-program", "pip install no-such-package")]).unwrap();
        assert_eq!(said, "`no-such-program` is not in PATH: pip install no-such-package");
    }
}
