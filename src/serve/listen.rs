//! The listening socket.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use super::{HandedOverError, ServeError};
use crate::config::{Config, TlsMode};

/// Connections that the kernel holds while the workers are busy.
const BACKLOG: i32 = 4096;

/// Takes the address without listening yet.
pub(super) fn bind(address: SocketAddr) -> Result<Socket, ServeError> {
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not wait for the connections of the last run.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(socket)
    };
    bind().map_err(|source| ServeError::Listen { address, source })
}

/// A socket that systemd listens on already, in place of `server.listen`. What
/// must not leave this machine in the clear must not do so here either.
pub(super) fn take_over(socket: TcpListener, config: &Config) -> Result<Socket, ServeError> {
    let address = socket.local_addr()?;
    let plain = config.tls.mode == TlsMode::Off && !config.server.expose_unencrypted;
    if plain && !address.ip().to_canonical().is_loopback() {
        return Err(HandedOverError::Plain(address).into());
    }
    if address.port() != config.server.listen.port() {
        let configured = config.server.listen;
        tracing::warn!(%address, %configured, "systemd's socket counts, not server.listen; let them say the same");
    }
    Ok(socket.into())
}

/// Begins to listen. Two processes can bind one address with `SO_REUSEADDR`;
/// the second is refused here.
pub(super) fn listen(socket: Socket, address: SocketAddr) -> Result<TcpListener, ServeError> {
    socket.listen(BACKLOG).map_err(|source| ServeError::Listen { address, source })?;
    Ok(socket.into())
}

/// What to do about a failure to listen.
pub(super) fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program has it: stop that one (ss -ltnp shows it) or choose another with --listen"
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 need the right to bind them",
        io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
        _ => "",
    }
}
