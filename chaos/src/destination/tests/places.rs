//! Destinations through everything that is done to them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use super::super::{DoorMode, Kind, Place};
use super::{PATIENCE, host};
use crate::net::Host;
use crate::tools::{self, tests::has_what_it_needs};

/// Asks `place` by `curl` or `sftp`, whose signatures and keys are right.
fn run(program: &str, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["20", program]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Whoever does not read it has answered already.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// Whether the server at `address` lets a client in and then says nothing.
fn is_silent(address: SocketAddr, question: &str) -> bool {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(question.as_bytes()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    stream.read(&mut [0]).is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

fn started(kind: Kind, last: u8) -> Option<(tempfile::TempDir, Host, Box<dyn Place>)> {
    if !has_what_it_needs(kind.missing()) {
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let host = host(last);
    let place = kind.start("place", &host, directory.path(), &data).unwrap();
    Some((directory, host, place))
}

#[test]
fn an_s3_server_keeps_what_it_took_through_everything() {
    if !has_what_it_needs(tools::missing(&[("curl", "apt-get install curl")])) {
        return;
    }
    let Some((directory, host, mut s3)) = started(Kind::S3, 7) else { return };
    let yaml = s3.yaml().join("\n");
    assert!(yaml.contains("endpoint: \"http://127.77.9.7:8333\"\nregion: us-east-1\naccess-key-id: "), "{yaml}");
    let source = s3.source("app");
    assert_eq!(source.url, "s3://chaos/app?endpoint=http%3A//127.77.9.7%3A8333&region=us-east-1");
    let user = format!("{}:{}", source.environment["AWS_ACCESS_KEY_ID"], source.environment["AWS_SECRET_ACCESS_KEY"]);
    let file = |content: &str| {
        let file = directory.path().join(content);
        std::fs::write(&file, content).unwrap();
        file.display().to_string()
    };
    let ask = |more: &[&str], object: &str| {
        let url = format!("http://127.77.9.7:8333/chaos/app/{object}");
        let signed =
            ["-sS", "--max-time", "15", "--aws-sigv4", "aws:amz:us-east-1:s3", "-u", &user, "-w", " %{http_code}"];
        let output = run("curl", &[&signed[..], more, &[&url]].concat(), b"");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(ask(&["-T", &file("hello")], "a"), " 200");
    assert_eq!(ask(&[], "a"), "hello 200");
    let door = s3.door().unwrap();
    door.set_mode(DoorMode::Unavailable);
    assert!(ask(&[], "a").ends_with(" 503"));
    door.set_mode(DoorMode::CutAnswers);
    // It was asked for the body, and then heard no more.
    assert_eq!(ask(&["-T", &file("cut")], "b"), " 100");
    door.set_mode(DoorMode::Pass);
    assert_eq!(ask(&[], "b"), "cut 200");
    let address = SocketAddr::from((host.address(), 8333));
    s3.pause().unwrap();
    assert!(is_silent(address, "GET /chaos/ HTTP/1.1\r\nHost: x\r\n\r\n"));
    s3.resume().unwrap();
    assert_eq!(ask(&[], "a"), "hello 200");
    s3.kill().unwrap();
    assert!(s3.process().is_none());
    assert_eq!(ask(&[], "a"), " 000");
    s3.start_again().unwrap();
    assert!(s3.process().unwrap().is_running());
    assert_eq!(ask(&[], "a"), "hello 200");
}

#[test]
fn an_sftp_server_lets_its_key_in_and_stops_for_those_inside_too() {
    if !has_what_it_needs(tools::missing(&[("sftp", "apt-get install openssh-client")])) {
        return;
    }
    let Some((directory, host, mut sftp)) = started(Kind::Sftp, 8) else { return };
    let data = directory.path().join("data");
    let host_key = std::fs::read_to_string(directory.path().join("place/host.pub")).unwrap();
    assert!(sftp.yaml().contains(&format!("host-key: \"{}\"", host_key.trim())));
    let source = sftp.source("app").url;
    assert!(source.contains(&format!("@127.77.9.8:2022{}/app?key-file=", data.display())), "{source}");
    assert!(source.contains("&host-key=ssh-ed25519%20AAAA"), "{source}");
    let known = directory.path().join("known");
    std::fs::write(&known, format!("[127.77.9.8]:2022 {host_key}")).unwrap();
    let user = source.strip_prefix("sftp://").and_then(|rest| rest.split('@').next()).unwrap().to_owned();
    let key = directory.path().join("place/user").display().to_string();
    let known = format!("UserKnownHostsFile={}", known.display());
    let target = format!("{user}@127.77.9.8");
    let arguments = ["-q", "-b", "-", "-i", &key, "-o", &known, "-P", "2022", &target];
    let put = |name: &str| {
        let (from, to) = (directory.path().join("place/host.pub"), data.join(name));
        let output = run("sftp", &arguments, format!("put {} {}\n", from.display(), to.display()).as_bytes());
        output.status.success() && std::fs::read_to_string(to).unwrap() == host_key
    };
    assert!(put("a"));

    // A session that is open sees what the server sees.
    let mut inside = Command::new("sftp").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut orders = inside.stdin.take().unwrap();
    let (tell, said) = channel();
    let mut output = inside.stdout.take().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = output.read(&mut buffer) {
            let _ = tell.send(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
    });
    let list = format!("ls {}\n", data.display());
    let mut hears_list = |limit: Duration| {
        orders.write_all(list.as_bytes()).unwrap();
        let mut text = String::new();
        let deadline = Instant::now() + limit;
        while let Ok(piece) = said.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            text.push_str(&piece);
            if text.contains("data/a") && text.ends_with('\n') && !text.trim_end().ends_with(list.trim_end()) {
                return true;
            }
        }
        false
    };
    assert!(hears_list(PATIENCE));
    sftp.pause().unwrap();
    assert!(!hears_list(Duration::from_millis(500)));
    assert!(is_silent(SocketAddr::from((host.address(), 2022)), ""));
    sftp.resume().unwrap();
    assert!(hears_list(PATIENCE));
    sftp.kill().unwrap();
    // It notices when it wants something.
    let _ = orders.write_all(list.as_bytes());
    drop(orders);
    assert!(!inside.wait().unwrap().success());
    assert!(!put("b"));
    sftp.start_again().unwrap();
    assert!(put("c"));
}

#[test]
fn a_directory_is_taken_away_and_comes_back_as_it_was() {
    let Some((directory, _host, mut place)) = started(Kind::Directory, 9) else { return };
    let root = directory.path().join("data/objects");
    assert_eq!(place.source("app").url, format!("file://{}/app", root.display()));
    std::fs::write(root.join("a"), "hello").unwrap();
    for _ in 0..2 {
        place.kill().unwrap();
        assert!(std::fs::create_dir_all(root.join("app")).is_err());
        assert!(std::fs::write(root.join("b"), "").is_err());
    }
    for _ in 0..2 {
        place.start_again().unwrap();
        assert_eq!(std::fs::read_to_string(root.join("a")).unwrap(), "hello");
    }
    assert!(place.pause().unwrap_err().to_string().contains("cannot be paused"));
}

#[test]
fn a_server_that_does_not_start_is_named_with_its_log() {
    if !has_what_it_needs(Kind::S3.missing()) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    std::fs::write(&data, "no directory").unwrap();
    let error = Kind::S3.start("place", &host(10), directory.path(), &data).err().unwrap().to_string();
    assert!(error.contains("place ended") && error.contains("place.log"), "{error}");
}

/// A host in a network of its own, which nothing else reaches. Nothing where namespaces are not allowed.
fn secluded() -> Option<Host> {
    let address = Ipv4Addr::new(10, 77, 9, 1);
    let entered = Host::start("secluded", address, move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
        for arguments in [format!("addr add {address}/32 dev lo"), "link set lo up".to_owned()] {
            let status = Command::new("ip").args(arguments.split(' ')).status()?;
            if !status.success() {
                return Err(io::Error::other(format!("ip {arguments}: {status}")));
            }
        }
        Ok(())
    });
    match entered {
        Ok((host, ())) => Some(host),
        Err(error) => {
            has_what_it_needs(Some(format!("a network namespace: {error}")));
            None
        }
    }
}

#[test]
fn destinations_live_in_the_network_of_their_host() {
    for (kind, port) in [(Kind::S3, 8333), (Kind::Sftp, 2022)] {
        if !has_what_it_needs(kind.missing()) {
            continue;
        }
        let Some(host) = secluded() else { return };
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let mut place = kind.start("place", &host, directory.path(), &data).unwrap();
        place.kill().unwrap();
        place.start_again().unwrap();
        let address = SocketAddr::from((host.address(), port));
        let question = "GET /chaos/ HTTP/1.1\r\nHost: x\r\n\r\n";
        let answer = host.within(move || {
            let mut stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(question.as_bytes()).unwrap();
            let mut start = [0; 4];
            stream.read_exact(&mut start).unwrap();
            start
        });
        assert!([b"HTTP", b"SSH-"].contains(&&answer), "{answer:?}");
        // Connecting from outside would tell nothing where something else answers for every address.
        let listening = || std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
        let shown = format!("{:08X}:{port:04X}", u32::from_le_bytes(host.address().octets()));
        assert!(host.within(listening).contains(&shown) && !listening().contains(&shown), "{shown}");
    }
}
