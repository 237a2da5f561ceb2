//! Taking a file system away, whoever still holds it.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

/// Unmounts what is mounted at `path`; lazily if something still has a file open in it, which then goes on holding that alone.
pub(super) fn unmount(path: &Path) -> io::Result<()> {
    let unmounted = match umount2(path, MntFlags::empty()) {
        Err(Errno::EBUSY) => umount2(path, MntFlags::MNT_DETACH),
        outcome => outcome,
    };
    match unmounted {
        Ok(()) => Ok(()),
        // Whoever may not unmount had a helper mount it.
        Err(Errno::EPERM) => unmount_by_helper(path),
        Err(error) => Err(said(path, &error.to_string())),
    }
}

fn unmount_by_helper(path: &Path) -> io::Result<()> {
    let outcome = Command::new("fusermount3").args(["-u", "-z", "--"]).arg(path).stderr(Stdio::piped()).output();
    match outcome {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(said(path, String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(said(path, &format!("fusermount3 does not start: {error}"))),
    }
}

fn said(path: &Path, cause: &str) -> io::Error {
    io::Error::other(format!("cannot unmount {}: {cause}", path.display()))
}
