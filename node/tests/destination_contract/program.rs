//! Real servers for the tests, each started by the test that wants it, in a directory and on a port of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A program by name, from the variable or the path. Where it is missing, tests in CI fail and others are skipped.
pub fn find(name: &str, variable: &str, advice: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let administrators = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let directories = std::env::split_paths(&path).chain(administrators);
    let found = named.or_else(|| directories.map(|dir| dir.join(name)).find(|file| file.is_file()));
    if found.is_none() {
        let advice = format!("{advice}, or name its `{name}` by {variable}");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{advice}");
        eprintln!("SKIPPED: {advice}");
    }
    found
}

/// A running program; it ends when this is dropped.
pub struct Program {
    child: Child,
    log: PathBuf,
    name: String,
}

impl Program {
    /// Starts `command`; what it says goes to a file in `directory`.
    pub fn start(mut command: Command, directory: &Path) -> Self {
        let name = Path::new(command.get_program()).file_name().unwrap().to_string_lossy().into_owned();
        let log = directory.join(format!("{name}.log"));
        let output = std::fs::File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { child, log, name }
    }

    /// Waits until `ready` says so; false if the program ended before.
    pub async fn wait_until<F: Future<Output = bool>>(&mut self, ready: impl Fn() -> F) -> bool {
        for _ in 0..600 {
            if self.child.try_wait().unwrap().is_some() {
                eprintln!("{} ended: {}", self.name, self.said());
                return false;
            }
            if ready().await {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{} runs but does not answer: {}", self.name, self.said());
    }

    /// The end of what it wrote to its log.
    pub fn said(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} said at last:\n{}", self.name, self.said());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `command` to its end.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The command that runs `program` where `directory` is a small disk that nobody else sees.
pub fn on_a_small_disk(directory: &Path, mebibytes: u32, program: &Path) -> Command {
    let script = format!("mount -t tmpfs -o size={mebibytes}m tmpfs \"$0\" && exec \"$@\"");
    let mut command = Command::new("unshare");
    if !is_root() {
        // Whoever is nobody in particular may mount where nobody else sees it.
        command.args(["--map-current-user", "--keep-caps"]);
    }
    command.args(["--mount", "sh", "-c", &script]).arg(directory).arg(program);
    command
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}
