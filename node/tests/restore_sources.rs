//! `seawall restore` as a process: several sources, some damaged or away; killed, and run again.
#![cfg(feature = "s3")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

#[path = "support/history.rs"]
mod history;
mod slow_s3;

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use history::History;
use seawall_host::real::free_port;
use seawall_proto::object_name::ObjectName;
use serde_json::Value;
use slow_s3::SlowS3;

fn command(directory: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seawall"));
    command
        .args(["restore", "-o", "restored.db"])
        .args(args)
        .current_dir(directory)
        .env_remove("RUST_LOG")
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .stdin(Stdio::null());
    command
}

fn restore(directory: &Path, args: &[&str]) -> Output {
    command(directory, args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[track_caller]
fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Puts objects of the database `app` into the directory `root`.
fn upload(root: &Path, objects: &[(ObjectName, Bytes)]) {
    for (name, bytes) in objects {
        let path = root.join("app").join(name.to_string());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

fn files(directory: &Path) -> Vec<String> {
    let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn logs(history: &History, each: u64) -> Vec<(ObjectName, Bytes)> {
    let firsts = (1..=history.head()).step_by(each as usize);
    firsts.map(|first| history.log(first, (first + each - 1).min(history.head()))).collect()
}

#[test]
fn one_damaged_in_the_middle_is_completed_from_another() {
    let directory = tempfile::tempdir().unwrap();
    let history = History::random(60, 1);
    let mut damaged = logs(&history, 10);
    let mut bytes = damaged[3].1.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    damaged[3].1 = bytes.into();
    upload(&directory.path().join("one"), &damaged);
    // Cut otherwise, and nothing of the beginning.
    let two: Vec<_> = (28..=60).step_by(8).map(|first| history.log(first, (first + 7).min(60))).collect();
    upload(&directory.path().join("two"), &two);
    let output = restore(directory.path(), &["--json", "file://one/app", "file://two/app"]);
    let answer = json(&output);
    assert_eq!(answer["txid"], 60);
    assert_eq!(answer["sources"].as_array().unwrap().len(), 2, "{answer}");
    assert!(stderr(&output).contains("is damaged") && stderr(&output).contains("looking for another copy"));
    assert!(std::fs::read(directory.path().join("restored.db")).unwrap() == history.states[60].file());

    // Alone it does not lead there, and says so.
    std::fs::remove_file(directory.path().join("restored.db")).unwrap();
    let output = restore(directory.path(), &["file://one/app"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot be rebuilt"), "{}", stderr(&output));
    assert_eq!(files(directory.path()), ["one", "two"]);
}

#[test]
fn the_source_that_has_most_gives_the_newest_state() {
    let directory = tempfile::tempdir().unwrap();
    let history = History::random(30, 2);
    upload(&directory.path().join("behind"), &[history.log(1, 20)]);
    upload(&directory.path().join("ahead"), &[history.snapshot(25), history.log(26, 30)]);
    let answer = json(&restore(directory.path(), &["--json", "file://behind/app", "file://ahead/app"]));
    assert_eq!((&answer["txid"], answer["sources"].as_array().unwrap().len()), (&Value::from(30), 1));
}

#[test]
fn one_out_of_reach_is_a_warning_and_all_of_them_an_error_that_names_each() {
    let directory = tempfile::tempdir().unwrap();
    let history = History::random(30, 3);
    upload(&directory.path().join("one"), &[history.log(1, 30)]);
    let port = free_port();
    let away = format!("s3://b/app?endpoint=http://127.0.0.1:{port}&region=us-east-1&timeout=1s");
    let cluster = format!("seawall://127.0.0.1:{port}/app");
    let output = restore(directory.path(), &["--json", &away, &cluster, "file://one/app"]);
    assert_eq!(json(&output)["txid"], 30);
    assert!(stderr(&output).contains("s3://b/app") && stderr(&output).contains("going on without it"));
    assert!(std::fs::read(directory.path().join("restored.db")).unwrap() == history.states[30].file());
    let output = restore(directory.path(), &["--force", &away, &cluster]);
    assert_eq!(output.status.code(), Some(1));
    for named in ["none of them can be listed", "s3://b/app", "seawall://127.0.0.1"] {
        assert!(stderr(&output).contains(named), "{}", stderr(&output));
    }
    let output = restore(directory.path(), &["--force", "file://one/app", "file://one/other"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("two databases"), "{}", stderr(&output));
}

#[test]
fn a_configuration_names_the_sources() {
    let directory = tempfile::tempdir().unwrap();
    let history = History::random(30, 4);
    upload(&directory.path().join("one"), &[history.log(1, 20)]);
    upload(&directory.path().join("two"), &[history.log(15, 30)]);
    let port = free_port();
    let yaml = format!(
        "node: {{ id: 1, data-dir: n1, listen: \"127.0.0.1:{port}\" }}\n\
         cluster: {{ name: test, nodes: [ {{ id: 1, address: \"127.0.0.1:{port}\" }} ] }}\n\
         destinations: [ {{ name: one, url: \"file://one\" }}, {{ name: two, url: \"file://two\" }} ]\n"
    );
    std::fs::write(directory.path().join("node.yml"), yaml).unwrap();
    let output = restore(directory.path(), &["--json", "--config", "node.yml", "--database", "app"]);
    assert_eq!(json(&output)["txid"], 30);
    assert!(stderr(&output).contains("seawall://127.0.0.1"), "{}", stderr(&output));
    let output = restore(directory.path(), &["--config", "node.yml"]);
    assert_eq!(output.status.code(), Some(2));
    let output = restore(directory.path(), &[]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn parts_are_read_at_the_same_time_but_no_more_than_told() {
    let directory = tempfile::tempdir().unwrap();
    let history = History::random(60, 5);
    let server = SlowS3::start(&logs(&history, 2));
    server.delay(Duration::from_millis(50));
    let answer = json(&restore(directory.path(), &["--json", "--parallelism", "3", &server.source()]));
    assert_eq!((&answer["txid"], server.most_at_once()), (&Value::from(60), 3));
}

/// Runs a restore until it has left a checkpoint.
fn run_until_checkpoint(directory: &Path, args: &[&str]) -> Child {
    let child = command(directory, args).stderr(Stdio::piped()).spawn().unwrap();
    let state = directory.join(".restored.db.restore-state");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !state.exists() {
        assert!(Instant::now() < deadline, "no checkpoint appears");
        std::thread::sleep(Duration::from_millis(10));
    }
    child
}

#[test]
fn what_was_killed_goes_on_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let history = History::random(100, 6);
    let objects = logs(&history, 1);
    let total: u64 = objects.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let server = SlowS3::start(&objects);
    let source = server.source();
    server.delay(Duration::from_millis(60));
    let mut child = run_until_checkpoint(directory.path(), &["--parallelism", "1", &source]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(files(directory.path()), [".restored.db.restore", ".restored.db.restore-state"]);
    server.take_given();

    // Stopped the polite way it says what it leaves.
    let again = command(directory.path(), &["--parallelism", "1", &source]).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    let mut given = 0;
    while given < total / 20 {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(10));
        given += server.take_given();
    }
    assert!(Command::new("kill").args(["-INT", &again.id().to_string()]).status().unwrap().success());
    let output = again.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    for says in ["going on from", "interrupted", ".restored.db.restore-state", "--no-resume"] {
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
    }
    server.take_given();

    server.delay(Duration::ZERO);
    let output = restore(directory.path(), &["--json", &source]);
    assert_eq!(json(&output)["txid"], 100);
    assert!(stderr(&output).contains("going on from"), "{}", stderr(&output));
    let given = server.take_given();
    assert!(given < total * 19 / 20, "{given} of {total} bytes were read again");
    assert!(std::fs::read(directory.path().join("restored.db")).unwrap() == history.states[100].file());
    assert_eq!(files(directory.path()), ["restored.db"]);
}

#[test]
fn nothing_of_another_database_or_by_request_is_gone_on_from() {
    let directory = tempfile::tempdir().unwrap();
    let history = History::random(60, 7);
    let server = SlowS3::start(&logs(&history, 1));
    server.delay(Duration::from_millis(60));
    let mut child = run_until_checkpoint(directory.path(), &["--parallelism", "1", &server.source()]);
    child.kill().unwrap();
    child.wait().unwrap();

    let other = History::random(60, 8);
    upload(&directory.path().join("other"), &logs(&other, 7));
    let output = restore(directory.path(), &["--json", "file://other/app"]);
    assert_eq!(json(&output)["txid"], 60);
    assert!(std::fs::read(directory.path().join("restored.db")).unwrap() == other.states[60].file());
    assert_eq!(files(directory.path()), ["other", "restored.db"]);

    let mut child = run_until_checkpoint(directory.path(), &["--force", "--parallelism", "1", &server.source()]);
    child.kill().unwrap();
    child.wait().unwrap();
    server.delay(Duration::ZERO);
    let output = restore(directory.path(), &["--force", "--no-resume", &server.source()]);
    assert!(output.status.success() && !stderr(&output).contains("going on from"), "{}", stderr(&output));
    assert!(std::fs::read(directory.path().join("restored.db")).unwrap() == history.states[60].file());
    assert_eq!(files(directory.path()), ["other", "restored.db"]);
}

#[test]
fn a_damaged_note_of_an_interrupted_restore_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let history = History::random(60, 10);
    let server = SlowS3::start(&logs(&history, 1));
    for damage in ["flip", "cut", "other"] {
        server.delay(Duration::from_millis(60));
        let mut child = run_until_checkpoint(directory.path(), &["--parallelism", "1", &server.source()]);
        child.kill().unwrap();
        child.wait().unwrap();
        let state = directory.path().join(".restored.db.restore-state");
        let mut bytes = std::fs::read(&state).unwrap();
        let middle = bytes.len() / 2;
        match damage {
            "flip" => bytes[middle] ^= 1,
            "cut" => bytes.truncate(middle),
            _ => bytes = b"something else".to_vec(),
        }
        std::fs::write(&state, bytes).unwrap();
        server.delay(Duration::ZERO);
        let output = restore(directory.path(), &[&server.source()]);
        assert!(output.status.success() && !stderr(&output).contains("going on from"), "{damage}: {}", stderr(&output));
        assert!(std::fs::read(directory.path().join("restored.db")).unwrap() == history.states[60].file(), "{damage}");
        assert_eq!(files(directory.path()), ["restored.db"]);
        std::fs::remove_file(directory.path().join("restored.db")).unwrap();
    }
}

#[test]
fn a_dry_run_tells_sizes_and_time() {
    let directory = tempfile::tempdir().unwrap();
    let history = History::random(30, 9);
    let objects = logs(&history, 10);
    let total: u64 = objects.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let server = SlowS3::start(&objects);
    server.delay(Duration::from_millis(200));
    let answer = json(&restore(directory.path(), &["--dry-run", "--json", &server.source()]));
    assert_eq!((&answer["bytes"], answer["objects"].as_array().unwrap().len()), (&Value::from(total), 3));
    let estimate = &answer["estimate"];
    assert_eq!(estimate["sampled_bytes"], objects[0].1.len());
    // The first of three alike took 0.2 s.
    let seconds = estimate["seconds"].as_f64().unwrap();
    assert!((0.3..6.0).contains(&seconds), "{answer}");
    assert_eq!(server.take_given(), objects[0].1.len() as u64);
    assert_eq!(files(directory.path()), [""; 0]);
    let output = restore(directory.path(), &["--dry-run", &server.source()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(&format!("3 objects, {total} bytes")) && text.contains("about "), "{text}");
}
