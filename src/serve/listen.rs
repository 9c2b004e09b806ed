//! The listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::{HandedOverError, ServeError};
use crate::config::{Config, TlsMode};

/// Connections that the kernel holds while the workers are busy.
const BACKLOG: i32 = 4096;

/// What says where callers come.
pub(super) const MAIN: &str = "--listen";
/// What says where plain HTTP comes that is sent on.
pub(super) const HTTP: &str = "server.http_listen";

/// Takes the address that a setting names, without listening yet.
pub(super) fn bind(address: SocketAddr, setting: &'static str) -> Result<Socket, ServeError> {
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not wait for the connections of the last run.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(socket)
    };
    bind().map_err(|source| ServeError::Listen { address, setting, source })
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
pub(super) fn listen(socket: Socket, address: SocketAddr, setting: &'static str) -> Result<TcpListener, ServeError> {
    socket.listen(BACKLOG).map_err(|source| ServeError::Listen { address, setting, source })?;
    Ok(socket.into())
}

/// What to do about a failure to listen.
pub(super) fn hint(error: &io::Error, address: SocketAddr, setting: &str) -> String {
    if error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error()) {
        let other =
            if address.is_ipv6() { "IPv6; use an IPv4 address, such as 0.0.0.0" } else { "IPv4; use an IPv6 address" };
        return format!("; this machine has no {other}, with {setting}");
    }
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("; another program has it: stop that one (ss -ltnp shows it) or choose another with {setting}")
        }
        io::ErrorKind::PermissionDenied => {
            format!("; ports below 1024 need the right to bind them: use the unit, or a port above 1023 with {setting}")
        }
        io::ErrorKind::AddrNotAvailable if address.is_ipv6() => {
            format!("; this machine does not have that address, or IPv6 is off: choose another with {setting}")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!(
                "; this machine does not have that address (ip address shows its own): choose another with {setting}"
            )
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_ipv6_is_told_what_to_do() {
        let without = io::Error::from_raw_os_error(Errno::AFNOSUPPORT.raw_os_error());
        let six: SocketAddr = "[::]:443".parse().expect("an address");
        let said = hint(&without, six, MAIN);
        assert!(said.contains("no IPv6") && said.contains("0.0.0.0") && said.contains("--listen"), "{said}");
        let off = io::Error::from(io::ErrorKind::AddrNotAvailable);
        assert!(hint(&off, six, HTTP).contains("IPv6 is off"));
        let four: SocketAddr = "192.0.2.1:443".parse().expect("an address");
        assert!(!hint(&off, four, HTTP).contains("IPv6"));
    }
}
