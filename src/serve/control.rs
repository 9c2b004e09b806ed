//! The control socket: how the command line of this machine reaches the service.
//!
//! The file's mode is what guards it, so that is never wider than it should be,
//! not even between two calls; see docs/decisions/0017.

use std::any::Any;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::http::LocalPeer;

/// Connections that the kernel holds while the workers are busy.
const BACKLOG: i32 = 128;
/// Bytes of a socket's path that the kernel takes (`sockaddr_un`, without the
/// zero at its end).
const LONGEST_PATH: usize = 107;

/// Why there can be no control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The path does not fit into a socket's address.
    #[error(
        "the path of the control socket {path:?} has {length} bytes, the system takes {LONGEST_PATH}; \
         set server.control_socket to a shorter one, or to off"
    )]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its bytes.
        length: usize,
    },
    /// Another service has it.
    #[error("another service answers on the control socket {0:?}; stop that one, or set server.control_socket")]
    Taken(PathBuf),
    /// Something else has that name.
    #[error(
        "{0:?} is where the control socket should be, and it is no socket; \
         move it away, or set server.control_socket"
    )]
    InTheWay(PathBuf),
    /// Anything else the operating system says.
    #[error(
        "the control socket {path:?} cannot be made: {source}; set server.control_socket to another path, or to off"
    )]
    Io {
        /// The path.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
}

/// The socket's file. Goes away with this.
pub(super) struct Control {
    socket: Socket,
    file: SocketFile,
}

/// Which file it is, so that only that one is removed.
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Control {
    /// Makes the file, without listening yet. The file of a process that is
    /// gone is replaced.
    pub(super) fn bind(path: &Path) -> Result<Self, ControlError> {
        let length = path.as_os_str().len();
        if length > LONGEST_PATH {
            return Err(ControlError::TooLong { path: path.into(), length });
        }
        remove_stale(path)?;
        let bind = || {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            socket.set_nonblocking(true)?;
            // On Linux the mode that a socket has when it is bound is that of
            // the file that binding makes, less the umask.
            rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
            socket.bind(&SockAddr::unix(path)?)?;
            // And now the group, which the umask had kept out.
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
            let made = std::fs::symlink_metadata(path)?;
            let file = SocketFile { path: path.into(), device: made.dev(), inode: made.ino() };
            Ok(Self { socket, file })
        };
        bind().map_err(|source| ControlError::Io { path: path.into(), source })
    }

    /// Begins to listen.
    pub(super) fn listen(self) -> io::Result<(UnixListener, SocketFile)> {
        self.socket.listen(BACKLOG)?;
        Ok((self.socket.into(), self.file))
    }
}

/// Removes the socket of a process that is gone, and nothing else.
fn remove_stale(path: &Path) -> Result<(), ControlError> {
    let io = |source| ControlError::Io { path: path.into(), source };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(ControlError::InTheWay(path.into())),
        Ok(_) => {}
    }
    let call = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    match call() {
        // Nobody listens any more.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(io),
        Ok(()) => Err(ControlError::Taken(path.into())),
        // Its queue is full, so somebody has it.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(ControlError::Taken(path.into())),
        Err(error) => Err(io(error)),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if ours {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Who is at the other end, when the connection came over a control socket.
pub(super) fn peer(connection: &dyn Any) -> Option<LocalPeer> {
    let stream = connection.downcast_ref::<tokio::net::UnixStream>()?;
    match stream.peer_cred() {
        Ok(peer) => Some(LocalPeer { uid: peer.uid(), pid: peer.pid() }),
        Err(error) => {
            // Without it the connection is treated as any other, which is safe.
            tracing::warn!(%error, "the other end of a control connection is not known");
            None
        }
    }
}
