//! Directories.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use futures::{FutureExt, StreamExt, future, stream};
use seawall_node::destination::{Creation, Destination, DestinationError, FileDestination};

use super::program::on_a_small_disk;
use super::suite::{endures_a_full_disk, keeps_the_contract, lists_more_than_one_page, parts};

#[tokio::test]
async fn directories_keep_the_contract() {
    seawall_host::real::install();
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("not/yet/there");
    let destination = Arc::new(FileDestination::new(&root));
    keeps_the_contract(Arc::clone(&destination) as _).await;
    lists_more_than_one_page(&*destination, 1100).await;
    // Also a creation that nobody waits for any more leaves no temporary file for long.
    let mut given_up = destination.create_streaming("given/up", None, stream::pending().boxed()).boxed();
    while temporary_files(directory.path()) == 0 {
        let step = tokio::time::sleep(std::time::Duration::from_millis(1));
        assert!(matches!(future::select(&mut given_up, Box::pin(step)).await, future::Either::Right(_)));
    }
    drop(given_up);
    destination.create("after", Vec::new()).await.unwrap();
    assert_eq!(temporary_files(directory.path()), 0);
}

#[tokio::test]
async fn temporary_files_of_a_crash_are_not_listed_and_go_when_they_are_old() {
    seawall_host::real::install();
    let directory = tempfile::tempdir().unwrap();
    let destination = FileDestination::new(directory.path());
    destination.create("app/@1/0/a.seg", parts(&["x"])).await.unwrap();
    let path = |name: &str| directory.path().join("app/@1/0").join(name);
    let hour = 3_600_000;
    let now = seawall_host::time::UnixMillis::now().0;
    let [old, young] = [25, 23].map(|hours| path(&format!(".b.seg.{:016x}.0123456789abcdef.tmp", now - hours * hour)));
    std::fs::write(&old, "half").unwrap();
    std::fs::write(&young, "half").unwrap();
    let listed = destination.list("app/").await.unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    let next_life = FileDestination::new(directory.path());
    assert_eq!(next_life.create("app/@1/0/b.seg", parts(&["whole"])).await.unwrap(), Creation::Created);
    assert!(!old.exists(), "it takes room for ever");
    assert!(young.exists(), "another node may be writing it");
}

#[tokio::test]
async fn names_never_leave_the_directory() {
    seawall_host::real::install();
    let directory = tempfile::tempdir().unwrap();
    let destination = FileDestination::new(&directory.path().join("root"));
    for name in ["../x", "a/../../x", "/x", "", "a//b", "."] {
        let created = destination.create(name, parts(&["x"])).await;
        assert!(matches!(created, Err(DestinationError::Refused { .. })), "{name}: {created:?}");
    }
    assert!(!directory.path().join("x").exists());
}

#[tokio::test]
async fn a_directory_that_is_a_file_is_refused() {
    seawall_host::real::install();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let destination = FileDestination::new(&file);
    let error = destination.create("app/x", parts(&["x"])).await.unwrap_err();
    assert!(error.to_string().contains("file"), "{error}");
}

/// Runs itself again where a directory is a small disk.
#[tokio::test]
async fn a_full_disk_is_said_and_survived() {
    const VARIABLE: &str = "SEAWALL_TEST_SMALL_DISK";
    if let Some(directory) = std::env::var_os(VARIABLE) {
        seawall_host::real::install();
        let destination = FileDestination::new(&Path::new(&directory).join("objects"));
        return endures_a_full_disk(&destination, "make room there").await;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut again: Command = on_a_small_disk(directory.path(), 16, &std::env::current_exe().unwrap());
    again.args(["--exact", "file::a_full_disk_is_said_and_survived", "--nocapture"]);
    let output = again.env(VARIABLE, directory.path()).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn temporary_files(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.path() {
            path if path.is_dir() => temporary_files(&path),
            path => usize::from(path.extension().is_some_and(|extension| extension == "tmp")),
        })
        .sum()
}
