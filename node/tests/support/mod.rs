//! Real processes for tests: nodes, agents, an application, and what the commands say of them.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of this")]

pub mod application;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use seawall_host::real::free_port;
use serde_json::Value;

/// A process that is killed when dropped.
pub struct Process {
    child: Child,
    pub name: String,
}

impl Process {
    pub fn new(child: Child, name: impl Into<String>) -> Self {
        Self { child, name: name.into() }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(mut self, limit: Duration) -> std::process::ExitStatus {
        self.signal("-TERM");
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "{} did not end within {limit:?} of SIGTERM", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.id().to_string()]).status().unwrap().success());
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self, limit: Duration) -> std::process::ExitStatus {
        let mut status = None;
        let what = format!("{} ends", self.name);
        wait_for(&what, limit, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Peak resident memory so far, in MiB.
    pub fn peak_rss_mib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `condition` holds.
pub fn wait_for(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Runs `seawall` with `arguments` to its end, with the keys of the tests' S3 server in the environment.
pub fn seawall<I: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = I>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_seawall"))
        .args(arguments)
        .env("LITESTREAM_ACCESS_KEY_ID", "testkey")
        .env("LITESTREAM_SECRET_ACCESS_KEY", "testsecret")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Standard output of a command that must succeed.
pub fn stdout(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "exit {:?}\nstdout: {out}\nstderr: {err}", output.status.code());
    out.into_owned()
}

/// A cluster of node processes, an agent and a database, in a temporary directory.
pub struct Cluster {
    pub directory: tempfile::TempDir,
    ports: Vec<u16>,
    http_ports: Vec<u16>,
    destinations: String,
    nodes: Vec<Option<Process>>,
    agent: Option<Process>,
    databases: Vec<(PathBuf, String)>,
}

impl Cluster {
    /// A cluster of `size` nodes (not started yet) with the directories `one` and `two` as destinations, and `more`
    /// lines of YAML for others.
    pub fn new(size: usize, more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().display();
        let destinations = format!(
            "  - {{ name: one, url: \"file://{root}/one\", upload-interval: 1s }}\n  - {{ name: two, url: \"file://{root}/two\", upload-interval: 2s }}\n{more}"
        );
        let ports = (0..size).map(|_| free_port()).collect();
        let http_ports = (0..size).map(|_| free_port()).collect();
        let nodes = (0..size).map(|_| None).collect();
        Self { directory, ports, http_ports, destinations, nodes, agent: None, databases: Vec::new() }
    }

    /// A running cluster of three with an agent that ships the application's database, which is beside it, as `app`.
    pub fn shipping(more: &str) -> (Self, PathBuf) {
        let mut cluster = Self::new(3, more);
        let database = cluster.path("app.db");
        application::create(&database);
        cluster.add_database(database.clone(), "app");
        cluster.start_nodes();
        cluster.wait_for_leader();
        cluster.start_agent();
        (cluster, database)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn address(&self, index: usize) -> String {
        format!("127.0.0.1:{}", self.ports[index])
    }

    pub fn addresses(&self) -> String {
        (0..self.ports.len()).map(|index| self.address(index)).collect::<Vec<_>>().join(",")
    }

    /// Fetches a path of a node's HTTP server, status line and all.
    pub fn http_get(&self, index: usize, path: &str) -> String {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.http_ports[index])).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn log_file(&self, name: &str) -> fs::File {
        fs::OpenOptions::new().create(true).append(true).open(self.path(&format!("{name}.log"))).unwrap()
    }

    fn spawn(&self, name: &str, command: &str, config: &Path) -> Process {
        let log = self.log_file(name);
        let child = Command::new(env!("CARGO_BIN_EXE_seawall"))
            .args([command, "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Process::new(child, name)
    }

    pub fn node_config(&self, index: usize) -> PathBuf {
        let id = index + 1;
        let members: Vec<String> = self
            .ports
            .iter()
            .enumerate()
            .map(|(i, port)| format!("{{ id: {}, address: \"127.0.0.1:{port}\" }}", i + 1))
            .collect();
        let yaml = format!(
            "node: {{ id: {id}, data-dir: ./n{id}, listen: \"127.0.0.1:{}\", http: \"127.0.0.1:{}\" }}\ncluster:\n  name: test\n  nodes: [ {} ]\ndestinations:\n{}",
            self.ports[index],
            self.http_ports[index],
            members.join(", "),
            self.destinations
        );
        let path = self.path(&format!("node{id}.yml"));
        fs::write(&path, yaml).unwrap();
        path
    }

    pub fn start_node(&mut self, index: usize) {
        let config = self.node_config(index);
        self.nodes[index] = Some(self.spawn(&format!("node{}", index + 1), "node", &config));
    }

    pub fn start_nodes(&mut self) {
        for index in 0..self.nodes.len() {
            self.start_node(index);
        }
    }

    /// A place for one more node, which is on the list of those that are configured from now on; not started yet.
    pub fn add_place(&mut self) -> usize {
        self.ports.push(free_port());
        self.http_ports.push(free_port());
        self.nodes.push(None);
        self.nodes.len() - 1
    }

    /// Starts a node with the configuration that it was started with before.
    pub fn start_node_again(&mut self, index: usize) {
        let config = self.path(&format!("node{}.yml", index + 1));
        assert!(config.exists());
        self.nodes[index] = Some(self.spawn(&format!("node{}", index + 1), "node", &config));
    }

    /// What a process has logged so far.
    pub fn log_of(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default()
    }

    pub fn kill_node(&mut self, index: usize) {
        self.nodes[index].take().unwrap().kill();
    }

    pub fn node(&self, index: usize) -> &Process {
        self.nodes[index].as_ref().unwrap()
    }

    pub fn take_node(&mut self, index: usize) -> Process {
        self.nodes[index].take().unwrap()
    }

    pub fn is_up(&self, index: usize) -> bool {
        self.nodes[index].is_some()
    }

    pub fn add_database(&mut self, path: PathBuf, name: &str) {
        self.databases.push((path, name.to_owned()));
    }

    pub fn start_agent(&mut self) {
        let databases: Vec<String> = self
            .databases
            .iter()
            .map(|(path, name)| format!("{{ path: \"{}\", name: {name} }}", path.display()))
            .collect();
        let nodes: Vec<String> = (0..self.ports.len()).map(|index| format!("\"{}\"", self.address(index))).collect();
        let yaml =
            format!("cluster: [ {} ]\nsocket: ./agent.sock\ndbs: [ {} ]\n", nodes.join(", "), databases.join(", "));
        let config = self.path("agent.yml");
        fs::write(&config, yaml).unwrap();
        self.agent = Some(self.spawn("agent", "agent", &config));
    }

    pub fn agent(&self) -> &Process {
        self.agent.as_ref().unwrap()
    }

    pub fn take_agent(&mut self) -> Process {
        self.agent.take().unwrap()
    }

    /// `seawall sync`, as JSON, or what it wrote to stderr.
    pub fn sync(&self, database: &str, receipt: &str, timeout: &str) -> Result<Value, String> {
        let socket = self.path("agent.sock");
        let output = seawall([
            "sync".as_ref(),
            "--socket".as_ref(),
            socket.as_os_str(),
            database.as_ref(),
            "--receipt".as_ref(),
            receipt.as_ref(),
            "--timeout".as_ref(),
            timeout.as_ref(),
            "--json".as_ref(),
        ]);
        if output.status.success() {
            Ok(serde_json::from_slice(&output.stdout).unwrap())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Calls `seawall sync` until it succeeds; answers the txid.
    pub fn sync_until_done(&self, database: &str, receipt: &str, limit: Duration) -> u64 {
        let deadline = Instant::now() + limit;
        loop {
            match self.sync(database, receipt, "10s") {
                Ok(answer) => return answer["txid"].as_u64().unwrap(),
                Err(error) => assert!(Instant::now() < deadline, "no receipt within {limit:?}: {error}"),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub fn status(&self) -> Option<Value> {
        let output = seawall(["status", "--cluster", &self.addresses(), "--json"]);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    /// Index of the leader among the nodes that run.
    pub fn leader(&self) -> Option<usize> {
        let leader = self.status()?["leader"].as_u64().filter(|id| *id != 0)?;
        Some(leader as usize - 1).filter(|index| self.is_up(*index))
    }

    pub fn wait_for_leader(&self) -> usize {
        let mut leader = None;
        wait_for("a leader is elected", Duration::from_secs(40), || {
            leader = self.leader();
            leader.is_some()
        });
        leader.unwrap()
    }

    /// Waits until a node takes connections.
    pub fn wait_until_it_answers(&self, index: usize) {
        let address = self.address(index);
        wait_for(&format!("node {} answers", index + 1), Duration::from_secs(40), || {
            std::net::TcpStream::connect(&address).is_ok()
        });
    }

    /// Restores from `source` with `arguments` into a fresh file.
    pub fn restore(&self, source: &str, arguments: &[&str]) -> Result<PathBuf, String> {
        static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = self.path(&format!("restored-{number}.db"));
        let mut all = vec!["restore", "-o", path.to_str().unwrap()];
        all.extend(arguments);
        all.push(source);
        let output = seawall(&all);
        if output.status.success() {
            assert!(path.exists());
            Ok(path)
        } else {
            assert!(!path.exists(), "a failed restore left a file");
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// The sources a database can be restored from: each running node, and the two directories.
    pub fn sources(&self, database: &str) -> Vec<String> {
        let nodes = (0..self.nodes.len()).filter(|index| self.is_up(*index));
        let mut sources: Vec<String> =
            nodes.map(|index| format!("seawall://{}/{database}", self.address(index))).collect();
        for name in ["one", "two"] {
            sources.push(format!("file://{}/{database}", self.path(name).display()));
        }
        sources
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for entry in fs::read_dir(self.directory.path()).unwrap().flatten() {
                if entry.path().extension().is_some_and(|extension| extension == "log") {
                    let text = fs::read_to_string(entry.path()).unwrap_or_default();
                    let tail: Vec<&str> = text.lines().rev().take(40).collect();
                    eprintln!("--- end of {}", entry.file_name().to_string_lossy());
                    tail.iter().rev().for_each(|line| eprintln!("{line}"));
                }
            }
        }
    }
}
