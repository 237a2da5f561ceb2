//! An SFTP server.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::server::Server;
use super::{Place, RestoreSource, encoded, quoted};
use crate::net::Host;
use crate::process::{Launch, Process};
use crate::tools;

const PORT: u16 = 2022;
/// How long the server may take to greet.
const GREETING_LIMIT: Duration = Duration::from_secs(2);

/// A private OpenSSH server with keys of its own.
pub struct Sftp {
    name: String,
    server: Server,
    url: String,
    key: PathBuf,
    host_key: String,
}

impl Sftp {
    /// Starts one on `host`, with keys, configuration and log in `run`, and its data in `data`.
    ///
    /// # Errors
    /// Its keys cannot be made, it cannot be started, or it does not greet.
    pub fn start(name: &str, host: &Host, run: &Path, data: &Path) -> io::Result<Self> {
        // It starts itself anew for each connection, by its absolute name.
        let sshd = tools::find("sshd").unwrap_or_else(|| "/usr/sbin/sshd".into());
        let directory = run.join(name);
        fs::create_dir_all(&directory)?;
        let [key, host_key] = ["user", "host"].map(|key| directory.join(key));
        for key in [&key, &host_key] {
            if !key.exists() {
                output(
                    Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "chaos", "-f"]).arg(key),
                )?;
            }
        }
        let user = output(Command::new("id").arg("-un"))?;
        if user == "root" {
            // It insists on this directory then.
            fs::create_dir_all("/run/sshd")?;
        }
        let configuration = directory.join("sshd_config");
        fs::write(&configuration, configured(host, &directory))?;
        let log = run.join(format!("{name}.log"));
        let launch = {
            let (name, log) = (name.to_owned(), log.clone());
            move || Launch::new(&name, &sshd, &log).arguments(["-D", "-e", "-f"]).arguments([&configuration])
        };
        let url =
            format!("sftp://{}@{}:{PORT}{}", encoded(&user), host.address(), encoded(&data.display().to_string()));
        let host_key = fs::read_to_string(directory.join("host.pub"))?.trim().to_owned();
        let mut sftp = Self { name: name.to_owned(), server: Server::new(host, log, launch), url, key, host_key };
        sftp.server.start(greets)?;
        Ok(sftp)
    }
}

fn configured(host: &Host, directory: &Path) -> String {
    let shown = directory.display();
    format!(
        "Port {PORT}\nListenAddress {}\nHostKey \"{shown}/host\"\nAuthorizedKeysFile \"{shown}/user.pub\"\n\
         PidFile \"{shown}/pid\"\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\n\
         PermitRootLogin yes\nSubsystem sftp internal-sftp\nForceCommand internal-sftp\nMaxStartups 100\nUseDNS no\n\
         ClientAliveInterval 15\nClientAliveCountMax 4\n",
        host.address()
    )
}

/// What `command` prints.
fn output(command: &mut Command) -> io::Result<String> {
    let output = command.output().map_err(|error| io::Error::new(error.kind(), format!("{command:?}: {error}")))?;
    if !output.status.success() {
        return Err(io::Error::other(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether the server of `host` says what it is.
fn greets(host: &Host) -> bool {
    let address = SocketAddr::from((host.address(), PORT));
    let greeted = host.within(move || TcpStream::connect_timeout(&address, GREETING_LIMIT)).and_then(|mut stream| {
        stream.set_read_timeout(Some(GREETING_LIMIT))?;
        let mut greeting = [0; 4];
        stream.read_exact(&mut greeting)?;
        Ok(greeting)
    });
    greeted.is_ok_and(|greeting| &greeting == b"SSH-")
}

impl Place for Sftp {
    fn name(&self) -> &str {
        &self.name
    }

    fn yaml(&self) -> Vec<String> {
        vec![
            format!("name: {}", quoted(&self.name)),
            format!("url: {}", quoted(&self.url)),
            format!("key-file: {}", quoted(&self.key.display().to_string())),
            format!("host-key: {}", quoted(&self.host_key)),
        ]
    }

    fn source(&self, database: &str) -> RestoreSource {
        let (key, host_key) = (encoded(&self.key.display().to_string()), encoded(&self.host_key));
        let url = format!("{}/{database}?key-file={key}&host-key={host_key}", self.url);
        RestoreSource { url, environment: BTreeMap::new() }
    }

    fn kill(&mut self) -> io::Result<()> {
        self.server.kill();
        Ok(())
    }

    fn start_again(&mut self) -> io::Result<()> {
        self.server.start(greets)
    }

    fn pause(&mut self) -> io::Result<()> {
        self.server.pause();
        Ok(())
    }

    fn resume(&mut self) -> io::Result<()> {
        self.server.resume();
        Ok(())
    }

    fn process(&mut self) -> Option<&mut Process> {
        self.server.process()
    }
}
