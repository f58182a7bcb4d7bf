//! A Unix socket that clients come in by, as PostgreSQL makes one: the socket's file, and a lock beside it that tells
//! whether the file is someone's or was left behind. Both go with it.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixStream};

pub struct UnixDoor {
    listener: UnixListener,
    path: PathBuf,
    lock_path: PathBuf,
    /// held as long as this lives; the system lets go of it however the process ends
    _lock: File,
}

impl UnixDoor {
    /// Takes the lock, clears what a process that is gone has left, and listens.
    pub fn open(path: &Path, permissions: u32) -> io::Result<Self> {
        let lock_path = PathBuf::from(format!("{}.lock", path.display()));
        let lock = lock(&lock_path)?;
        clear(path)?;
        let listener = bind(path, permissions)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            lock_path,
            _lock: lock,
        })
    }

    pub async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

impl Drop for UnixDoor {
    fn drop(&mut self) {
        // whoever comes next clears what cannot be removed now
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_file(&self.lock_path);
    }
}

fn lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false);
    let mut file = file
        .open(path)
        .map_err(|error| described(error, "cannot open its lock file", path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                format!("another process holds the lock file {}", path.display()),
            ));
        }
        Err(TryLockError::Error(error)) => {
            return Err(described(error, "cannot lock", path));
        }
    }
    // PostgreSQL's form: whoever looks for an owner finds us
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

/// Removes a socket at which nobody listens; anything else stays.
fn clear(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(described(error, "cannot look at", path)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("{} is there and is no socket", path.display()),
            ));
        }
        Ok(_) => {}
    }
    match StdStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!(socket = %path.display(), "removing what a process that is gone has left");
            std::fs::remove_file(path)
        }
        Err(error) => Err(described(
            error,
            "cannot tell whether someone listens at",
            path,
        )),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("someone else listens at {}", path.display()),
        )),
    }
}

/// As PostgreSQL does it: for a moment the permissions are those of the process's umask, which usually lets nobody else
/// write, and so connect.
fn bind(path: &Path, permissions: u32) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(permissions))?;
    Ok(listener)
}

fn described(error: io::Error, what: &str, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn a_socket_has_its_permissions_and_goes_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".s.PGSQL.6432");
        let door = UnixDoor::open(&path, 0o750).unwrap();
        assert_eq!(mode(&path), 0o750);
        assert!(UnixStream::connect(&path).await.is_ok());
        assert!(door.accept().await.is_ok());
        let second = UnixDoor::open(&path, 0o777).err().unwrap();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse, "{second}");
        drop(door);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_a_killed_process_left_is_cleared_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".s.PGSQL.6432");
        drop(UnixListener::bind(&path).unwrap());
        std::fs::write(folder.path().join(".s.PGSQL.6432.lock"), "99999999\n").unwrap();
        drop(UnixDoor::open(&path, 0o777).unwrap());
        // a server that knows nothing of our lock
        let other = UnixListener::bind(&path).unwrap();
        let refused = UnixDoor::open(&path, 0o777).err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse, "{refused}");
        assert!(path.exists());
        drop(other);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "a file").unwrap();
        let refused = UnixDoor::open(&path, 0o777).err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists, "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), b"a file");
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_named() {
        let refused = UnixDoor::open(Path::new("/nowhere/.s.PGSQL.1"), 0o777);
        let refused = refused.err().unwrap().to_string();
        assert!(refused.contains("/nowhere/.s.PGSQL.1.lock"), "{refused}");
    }
}
