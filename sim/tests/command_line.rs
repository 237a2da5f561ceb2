//! The simulator's own program, on a few short runs.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::process::{Command, Output};

use serde_json::Value;

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sim")).args(arguments).output().unwrap()
}

fn report(output: &Output) -> Value {
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    said["Ok"].clone()
}

#[test]
fn a_quiet_run_holds_and_compares_what_it_restores() {
    let mut without: Vec<String> = sim::fault_family::FaultFamily::all().iter().map(ToString::to_string).collect();
    without.sort();
    let output = sim(&["replay", "7", "--seconds", "4", "--nodes", "3", "--without", &without.join(","), "--json"]);
    assert!(output.status.success(), "{output:?}");
    let report = report(&output);
    assert!(report["commits"].as_u64().unwrap() > 0, "{report}");
    assert!(report["acknowledged"].as_u64().unwrap() > 0, "{report}");
    assert!(report["restores"].as_u64().unwrap() >= 4, "{report}");
    assert_eq!(report["faults"].as_object().unwrap().len(), 0, "{report}");
}

#[test]
fn equal_seeds_are_equal_runs_in_processes_of_their_own() {
    let run = || report(&sim(&["replay", "11", "--seconds", "5", "--json"]));
    let (first, second) = (run(), run());
    assert_eq!(first["hash"], second["hash"]);
    assert_eq!(first, second);
    let other = report(&sim(&["replay", "12", "--seconds", "5", "--json"]));
    assert_ne!(first["hash"], other["hash"]);
}

#[test]
fn an_unknown_family_is_refused_with_those_there_are() {
    let output = sim(&["replay", "1", "--without", "earthquakes"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("earthquakes") && said.contains("bit-rot"), "{said}");
}

#[cfg(not(feature = "mutants"))]
#[test]
fn mutants_are_hunted_by_a_build_that_has_them_with_the_same_arguments() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let cargo = directory.path().join("cargo");
    std::fs::write(&cargo, "#!/bin/sh\necho \"$@\"\nexit 1\n").unwrap();
    std::fs::set_permissions(&cargo, std::fs::Permissions::from_mode(0o755)).unwrap();
    let asked = ["mutants", "--only", "unsynced-vote", "--seeds", "3", "--json"];
    let output = Command::new(env!("CARGO_BIN_EXE_sim")).args(asked).env("CARGO", &cargo).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let expected = format!(
        "run --quiet --release --features mutants --manifest-path {}/Cargo.toml -- {}",
        env!("CARGO_MANIFEST_DIR"),
        asked.join(" ")
    );
    assert_eq!(said.trim(), expected);
    assert_eq!(output.status.code(), Some(1), "what it says of the mutants is what counts");
}
